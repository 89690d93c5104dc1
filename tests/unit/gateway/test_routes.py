import pytest

from aistack.gateway.routes import Surface, find, surface_of


@pytest.mark.parametrize("root", ["/v1", "/api/v1", "/ollama/v1"])
def test_openai_lies_below_three_roots(root: str) -> None:
    for name in ("models", "chat/completions", "completions", "embeddings"):
        match = find(f"{root}/{name}")
        assert match is not None
        assert (match.route.surface, match.route.name) == (Surface.OPENAI, name)


@pytest.mark.parametrize("path", ["keys", "keys/laptop", "keys/laptop/rotate", "usage", "nodes", "nodes/gpu2/drain"])
def test_administration_lies_below_one_root(path: str) -> None:
    match = find(f"/v1/admin/{path}")
    assert match is not None
    assert match.route.surface is Surface.ADMIN
    for root in ("/api/v1", "/ollama/v1"):
        assert find(f"{root}/admin/{path}") is None


def test_a_model_may_have_slashes_in_its_name() -> None:
    match = find("/v1/models/hf.co/org/model:Q4")
    assert match is not None
    assert (match.route.name, match.argument) == ("models/{id}", "hf.co/org/model:Q4")


@pytest.mark.parametrize(
    "path", ["", "/", "/v1", "/v1/models/", "/V1/models", "/ollama/api/tags/", "/api/tags", "/ollama/pull"]
)
def test_other_paths_are_none(path: str) -> None:
    assert find(path) is None


def test_management_is_served_only_in_its_plain_spelling() -> None:
    plain = find("/ollama/api/pull")
    assert plain is not None
    assert plain.route.methods == ("POST",)
    for path in ("/ollama/api/PULL", "/ollama//api/pull", "/x/../ollama/api/pull", "/ollama/api/%2570ull"):
        match = find(path)
        assert match is not None, path
        assert match.route.management
        assert match.route.methods == ()


def test_a_digest_is_what_follows_blobs() -> None:
    match = find("/ollama/api/blobs/sha256:ab")
    assert match is not None
    assert (match.route.name, match.argument) == ("blobs", "sha256:ab")


def test_an_unknown_path_is_refused_in_the_manners_of_where_it_lies() -> None:
    assert surface_of("/ollama/api/x") is Surface.OLLAMA
    assert surface_of("/ollama/v1/x") is Surface.OPENAI
    assert surface_of("/ollamas") is Surface.OPENAI
