import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistack.errors import ModelError
from aistack.models.names import (
    HubName,
    RegistryName,
    canonical,
    fetched_in_clear,
    file_stem,
    from_file_stem,
    is_loopback,
    parse,
)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("qwen3", "qwen3"),
        ("qwen3:latest", "qwen3"),
        (" qwen3:1.7b ", "qwen3:1.7b"),
        ("library/qwen3", "qwen3"),
        ("registry.ollama.ai/library/qwen3:latest", "qwen3"),
        ("registry.ollama.ai/someone/qwen3", "someone/qwen3"),
        ("https://registry.ollama.ai/someone/qwen3:8b", "someone/qwen3:8b"),
        ("someone/qwen3:8b", "someone/qwen3:8b"),
        ("Registry.Example.com/ns/name:tag", "registry.example.com/ns/name:tag"),
        ("registry.example.com/name", "registry.example.com/library/name"),
        ("127.0.0.1:5000/name", "127.0.0.1:5000/library/name"),
        ("http://localhost:5000/ns/name:q8", "localhost:5000/ns/name:q8"),
        ("hf.co/unsloth/Qwen3-1.7B-GGUF", "hf.co/unsloth/Qwen3-1.7B-GGUF"),
        ("hf.co/unsloth/Qwen3-1.7B-GGUF:latest", "hf.co/unsloth/Qwen3-1.7B-GGUF"),
        ("https://huggingface.co/unsloth/Qwen3-1.7B-GGUF:Q8_0", "hf.co/unsloth/Qwen3-1.7B-GGUF:Q8_0"),
        ("x:", "x"),
        ("x\n", "x"),
        ("a file, dropped in", "a file, dropped in"),
    ],
)
def test_every_spelling_of_a_name_is_kept_as_one(typed: str, kept: str) -> None:
    assert canonical(typed) == kept
    assert canonical(kept) == kept
    assert from_file_stem(file_stem(typed)) == kept


@pytest.mark.parametrize(
    "name",
    ["", "/", "..", "../x", "a/../b", "a/b/c/d", "x:a:b", "x y", "http://", "https://x", "-x", "a//b",
     "hf.co/only-one", "hf.co/a/b/c", "hf.co/../b", "hf.co/a/b:../c", "x:..", "exa mple.com/a/b",
     "host:port/a/b", "a\\b", "%2e%2e/x", "ünï"],
)  # fmt: skip
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="not a model name"):
        parse(name)


def test_a_hugging_face_name_has_its_parts() -> None:
    assert parse("hf.co/org/repo:Q5_K_M") == HubName("org", "repo", "Q5_K_M")
    assert parse("HuggingFace.co/org/repo") == HubName("org", "repo", None)


def test_a_registry_name_has_its_parts_and_defaults() -> None:
    assert parse("all-minilm") == RegistryName("https", "registry.ollama.ai", "library", "all-minilm", "latest")
    assert parse("localhost:5000/ns/m:t") == RegistryName("http", "localhost:5000", "ns", "m", "t")
    assert parse("https://127.0.0.1:5000/ns/m") == RegistryName("https", "127.0.0.1:5000", "ns", "m", "latest")


@pytest.mark.parametrize("host", ["registry.example.com", "10.0.0.7:5000", "127.0.0.1.example.com", "localhost.evil"])
def test_plain_http_is_for_loopback_only(host: str) -> None:
    with pytest.raises(ModelError, match="without encryption"):
        parse(f"http://{host}/ns/model")


@pytest.mark.parametrize(
    ("host", "ours"),
    [("127.0.0.1", True), ("127.8.8.8:80", True), ("[::1]:5000", True), ("localhost:1", True),
     ("0.0.0.0", False), ("192.168.0.1:5000", False), ("example.com", False)],
)  # fmt: skip
def test_loopback_is_recognised(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", ".hidden", "a\x00b", "x" * 300])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(ModelError):
        file_stem(name)


@given(st.text(max_size=60))
def test_no_name_leaves_the_models_folder(name: str) -> None:
    try:
        stem = file_stem(name)
    except ModelError:
        return
    assert "/" not in stem
    assert "\x00" not in stem
    assert not stem.startswith(".")
    assert from_file_stem(stem) == canonical(name)


@pytest.mark.parametrize(
    ("name", "in_clear"),
    [("127.0.0.1:5000/library/x", True), ("http://localhost/x", True), ("https://localhost/library/x", False),
     ("qwen3", False), ("hf.co/org/repo", False)],
)  # fmt: skip
def test_only_a_registry_on_this_machine_is_asked_in_clear(name: str, in_clear: bool) -> None:
    assert fetched_in_clear(name) is in_clear
