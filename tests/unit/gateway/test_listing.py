import pytest

from aistack.gateway.listing import canonical, from_llamacpp, from_ollama, from_openai, human_count, tagged


@pytest.mark.parametrize(
    ("name", "with_tag"),
    [
        ("demo", "demo:latest"),
        ("qwen3:1.7b", "qwen3:1.7b"),
        ("hf.co/org/repo", "hf.co/org/repo:latest"),
        ("localhost:5000/ns/model", "localhost:5000/ns/model:latest"),
    ],
)
def test_a_name_without_a_tag_is_the_latest(name: str, with_tag: str) -> None:
    assert tagged(name) == with_tag
    assert canonical(tagged(name)) == canonical(name)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (12, "12"),
        (152_640, "153K"),
        (22_565_376, "22.57M"),
        (137_000_000, "137M"),
        (1_720_000_000, "1.7B"),
    ],
)
def test_parameters_are_counted_as_ollama_does(count: int, text: str) -> None:
    assert human_count(count) == text


def test_a_model_of_our_engine_is_told_to_ollamas_clients() -> None:
    meta = {
        "size": 5,
        "digest": "sha256:ab",
        "modified_at": 0.5,
        "architecture": "llama",
        "context_length": 64,
    }
    model = from_llamacpp({"id": "demo", "meta": meta})
    assert (model.ollama["name"], model.ollama["size"], model.ollama["digest"]) == ("demo:latest", 5, "ab")
    assert model.ollama["modified_at"] == "1970-01-01T00:00:00.500000Z"
    assert model.ollama["details"]["families"] == ["llama"]
    assert model.context_length == 64
    assert model.chats


def test_models_that_only_embed_are_told_apart() -> None:
    assert not from_llamacpp({"id": "e", "meta": {"capabilities": ["embedding"]}}).chats
    assert not from_ollama({"name": "e", "details": {"family": "nomic-bert"}}, {}).chats
    assert from_ollama({"name": "m", "details": {"family": "qwen3"}}, {}).chats


def test_a_model_of_an_ollama_is_told_to_openais_clients() -> None:
    tag = {"model": "m:latest", "modified_at": "1970-01-01T00:01:00.123456789+00:00", "size": 3}
    assert from_ollama(tag, {}).openai == {
        "id": "m:latest",
        "object": "model",
        "created": 60,
        "owned_by": "library",
    }
    assert from_ollama({"name": "old:1"}, {}).id == "old:1"


def test_a_server_that_says_little_still_gives_a_whole_entry() -> None:
    entry = from_openai({"id": "gpt"}).ollama
    assert set(entry) == {"name", "model", "modified_at", "size", "digest", "details"}
