import pytest

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation.messages import calls_to_ollama, require_inline_media, to_openai


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"function": {"name": name, "arguments": arguments}}


def test_answers_of_two_tools_of_the_same_name_go_to_their_calls_in_order() -> None:
    messages = to_openai(
        [
            {"role": "assistant", "tool_calls": [call("a", x=1), call("b"), call("a", x=2)]},
            {"role": "tool", "tool_name": "a", "content": "1"},
            {"role": "tool", "tool_name": "a", "content": "2"},
            {"role": "tool", "content": "b"},
        ]
    )
    first, second, third = (entry["id"] for entry in messages[0]["tool_calls"])
    assert len({first, second, third}) == 3
    assert [message["tool_call_id"] for message in messages[1:]] == [first, third, second]


def test_a_call_and_its_answer_keep_the_ids_they_have() -> None:
    messages = to_openai(
        [
            {"role": "assistant", "tool_calls": [{"id": "c9", **call("a")}]},
            {"role": "tool", "tool_call_id": "c9", "content": "1"},
        ]
    )
    assert messages[0]["tool_calls"][0]["id"] == messages[1]["tool_call_id"] == "c9"


def test_thoughts_and_images_go_where_openai_has_them() -> None:
    thought, seen = to_openai(
        [
            {"role": "assistant", "content": "4", "thinking": "2+2"},
            {"role": "user", "images": ["iVBORw0", "data:image/gif;base64,R0", "UklGRg"]},
        ]
    )
    assert thought["reasoning_content"] == "2+2"
    urls = [part["image_url"]["url"] for part in seen["content"]]
    assert urls == [
        "data:image/png;base64,iVBORw0",
        "data:image/gif;base64,R0",
        "data:image/webp;base64,UklGRg",
    ]


def test_arguments_that_were_cut_short_are_told_as_text() -> None:
    whole = {"id": "1", "function": {"name": "a", "arguments": '{"x":1}'}}
    cut = {"id": "2", "function": {"name": "b", "arguments": '{"x":'}}
    calls, text = calls_to_ollama([whole, cut])
    assert calls == [{"id": "1", "function": {"index": 0, "name": "a", "arguments": {"x": 1}}}]
    assert text == '{"x":'


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}},
        {"type": "image_url", "image_url": "file:///etc/passwd"},
        {"type": "image_url", "image_url": {"url": " data:image/png;base64,AA"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "look", "audio_url": ["data:"]},
    ],
)
def test_media_at_an_address_are_refused(part: dict[str, object]) -> None:
    with pytest.raises(Refusal, match="data: URL"):
        require_inline_media([{"role": "system", "content": "be kind"}, {"role": "user", "content": [part]}])


def test_media_that_come_along_and_bodies_of_any_shape_pass() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    require_inline_media([{"role": "user", "content": [picture, {"type": "text", "text": "http://a.example"}, 3]}])
    for odd in (None, 3, [], ["text"], [{"content": None}], [{"content": "http://a.example"}]):
        require_inline_media(odd)
