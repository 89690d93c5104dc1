"""The official `ollama` client, unmodified, over every kind of node."""

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from .processes import Gateway
from .tiny_model import EMBEDDING_WIDTH

QUESTION = [{"role": "user", "content": "what does the farmer do"}]
COLOUR: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red"]}},
    "required": ["colour"],
}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[ollama.Client]:
    with ollama.Client(f"{gateway.url}/ollama", headers={"Authorization": f"Bearer {gateway.key}"}) as made:
        yield made


@pytest.fixture
def over_our_engine(over_engine: Gateway) -> Iterator[ollama.Client]:
    with ollama.Client(f"{over_engine.url}/ollama", auth=("anybody", over_engine.key)) as made:
        yield made


def test_lists_the_models_with_tags(client: ollama.Client) -> None:
    assert [model.model for model in client.list().models] == [
        "demo:latest",
        "tiny-embed:latest",
        "acme/words:q4",
        "talker:latest",
        "tiny-rerank:latest",
    ]


def test_chats_in_one_piece(client: ollama.Client) -> None:
    answer = client.chat("demo", QUESTION, options={"num_predict": 6})
    assert answer.message.content
    assert (answer.done, answer.done_reason, answer.eval_count) == (True, "length", 6)
    assert answer.model == "demo"
    assert answer.total_duration
    assert answer.eval_duration
    assert answer.prompt_eval_count


def test_streams_a_chat_with_the_counts_in_its_last_line(client: ollama.Client) -> None:
    lines = list(client.chat("demo", QUESTION, stream=True, options={"num_predict": 6}))
    assert len(lines) > 2
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert "".join(line.message.content or "" for line in lines)
    assert (lines[-1].done_reason, lines[-1].eval_count) == ("length", 6)


def test_the_same_seed_says_the_same_streamed_or_not(client: ollama.Client) -> None:
    options = {"num_predict": 8, "seed": 7, "temperature": 0.8, "top_k": 40, "min_p": 0.01}
    whole = client.chat("demo", QUESTION, options=options).message.content
    pieces = client.chat("demo", QUESTION, options=options, stream=True)
    assert "".join(piece.message.content or "" for piece in pieces) == whole


def test_generates_streamed_and_not(client: ollama.Client) -> None:
    answer = client.generate("demo", "the farmer", system="be brief", options={"num_predict": 4})
    assert answer.response
    assert answer.eval_count == 4
    lines = list(client.generate("demo", "the farmer", stream=True, options={"num_predict": 4}))
    assert "".join(line.response or "" for line in lines)
    assert lines[-1].done


def test_generates_from_a_raw_prompt_and_from_a_template(client: ollama.Client) -> None:
    raw = client.generate("demo", "the farmer", raw=True, options={"num_predict": 3, "seed": 1})
    filled = client.generate(
        "demo", "farmer", template="the {{ .Prompt }}{{ .Response }}", options={"num_predict": 3, "seed": 1}
    )
    assert raw.prompt_eval_count == filled.prompt_eval_count
    assert raw.response == filled.response


def test_keeps_a_json_schema(client: ollama.Client) -> None:
    answer = client.generate("demo", "which colour", format=COLOUR, options={"num_predict": 100})
    assert json.loads(answer.response or "") == {"colour": "red"}


def test_a_raw_prompt_may_ask_for_json(over_our_engine: ollama.Client) -> None:
    answer = over_our_engine.generate("demo", "x", raw=True, format="json", options={"num_predict": 9})
    assert (answer.response or "").startswith("{")


def test_embeds_texts_in_their_order(client: ollama.Client) -> None:
    both = client.embed("tiny-embed", ["hello", "there"])
    one = client.embed("tiny-embed", "there")
    assert [len(vector) for vector in both.embeddings] == [EMBEDDING_WIDTH] * 2
    assert both.embeddings[1] == pytest.approx(one.embeddings[0], abs=1e-5)
    assert both.prompt_eval_count
    assert client.embeddings("tiny-embed", "there").embedding == pytest.approx(one.embeddings[0], abs=1e-5)


def test_shows_a_model(client: ollama.Client) -> None:
    shown = client.show("demo")
    assert shown.details is not None
    assert shown.details.family == "llama"
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.capabilities == ["completion"]


def test_an_unknown_model_is_404(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found") as refused:
        client.chat("nobody", QUESTION)
    assert refused.value.status_code == 404


def test_a_model_that_cannot_embed_says_so(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError):
        client.embed("demo", "hello")


def test_a_wrong_key_is_401(gateway: Gateway) -> None:
    with (
        ollama.Client(f"{gateway.url}/ollama", headers={"Authorization": "Bearer ask_wrong"}) as client,
        pytest.raises(ollama.ResponseError) as refused,
    ):
        client.list()
    assert refused.value.status_code == 401


def test_models_cannot_be_managed_with_an_api_key(client: ollama.Client) -> None:
    for attempt in (
        lambda: client.pull("x"),
        lambda: client.delete("demo"),
        lambda: client.copy("demo", "x"),
    ):
        with pytest.raises(ollama.ResponseError) as refused:
            attempt()
        assert refused.value.status_code == 403


def test_a_long_text_is_cut_before_it_is_embedded(over_our_engine: ollama.Client) -> None:
    vector = over_our_engine.embed("tiny-embed", ["hello " * 100, "there"]).embeddings
    assert len(vector) == 2
    with pytest.raises(ollama.ResponseError) as refused:
        over_our_engine.embed("tiny-embed", "hello " * 100, truncate=False)
    assert refused.value.status_code == 400


def test_dimensions_shorten_the_vector_to_length_one(over_our_engine: ollama.Client) -> None:
    vector = over_our_engine.embed("tiny-embed", "hello", dimensions=8).embeddings[0]
    assert len(vector) == 8
    assert sum(value * value for value in vector) == pytest.approx(1)


def test_shows_template_and_context_of_our_engine(over_our_engine: ollama.Client) -> None:
    shown = over_our_engine.show("demo")
    assert "add_generation_prompt" in (shown.template or "")
    assert "num_ctx" in (shown.parameters or "")


def test_loads_with_an_empty_prompt_and_unloads_with_keep_alive_zero(over_our_engine: ollama.Client) -> None:
    loaded = over_our_engine.generate("demo", keep_alive="1h")
    assert (loaded.done, loaded.done_reason, loaded.response) == (True, "load", "")
    assert "demo:latest" in [model.model for model in over_our_engine.ps().models]
    unloaded = over_our_engine.chat("demo", keep_alive=0)
    assert unloaded.done_reason == "unload"
    assert "demo:latest" not in [model.model for model in over_our_engine.ps().models]


def test_keep_alive_for_ever_has_a_date_that_clients_can_read(over_our_engine: ollama.Client) -> None:
    over_our_engine.generate("demo", "the", keep_alive=-1, options={"num_predict": 1})
    (entry,) = [model for model in over_our_engine.ps().models if model.model == "demo:latest"]
    assert entry.expires_at is not None
    assert entry.expires_at.year > 2100
    over_our_engine.generate("demo", keep_alive="5m")


def test_goes_on_from_a_beginning_without_repeating_it(over_our_engine: ollama.Client) -> None:
    begun = [*QUESTION, {"role": "assistant", "content": "The quick"}]
    whole = over_our_engine.chat("demo", begun, options={"num_predict": 5, "temperature": 0}).message.content
    pieces = over_our_engine.chat("demo", begun, options={"num_predict": 5, "temperature": 0}, stream=True)
    assert whole
    assert not whole.startswith("The quick")
    assert "".join(piece.message.content or "" for piece in pieces) == whole


def test_thoughts_are_told_apart_and_can_be_switched_off(over_our_engine: ollama.Client) -> None:
    thought = over_our_engine.chat("talker", QUESTION, think=True, options={"num_predict": 6}).message
    assert (bool(thought.thinking), thought.content) == (True, "")
    lines = list(over_our_engine.generate("talker", "x", think=True, stream=True, options={"num_predict": 6}))
    assert "".join(line.thinking or "" for line in lines)
    said = over_our_engine.chat("talker", QUESTION, think=False, options={"num_predict": 6}).message
    assert (said.thinking, bool(said.content)) == (None, True)


def test_tools_and_their_answers_reach_the_model(over_our_engine: ollama.Client) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]}
    answered = [*QUESTION, called, {"role": "tool", "tool_name": "weather", "content": "sun"}]
    options = {"num_predict": 3}
    plain = over_our_engine.chat("talker", QUESTION, think=False, options=options)
    told = over_our_engine.chat("talker", answered, tools=[tool], think=False, options=options)
    assert told.message.content
    assert (told.prompt_eval_count or 0) > (plain.prompt_eval_count or 0)


def test_an_image_for_a_model_without_eyes_is_400(over_our_engine: ollama.Client) -> None:
    seen = [{"role": "user", "content": "what is it", "images": [b"\x89PNG\r\n\x1a\n0000"]}]
    with pytest.raises(ollama.ResponseError, match="image input is not supported") as refused:
        over_our_engine.chat("demo", seen)
    assert refused.value.status_code == 400


def test_log_probabilities_come_through(over_our_engine: ollama.Client) -> None:
    answer = over_our_engine.chat("demo", QUESTION, logprobs=True, top_logprobs=2, options={"num_predict": 2})
    assert answer.logprobs
    assert answer.logprobs[0].top_logprobs is not None
    assert len(answer.logprobs[0].top_logprobs) == 2
