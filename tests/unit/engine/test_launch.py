"""A model and the settings become the parameters of its llama.cpp."""

from dataclasses import replace
from pathlib import Path

import pytest

from aistack.engine.catalogue import capabilities
from aistack.engine.launch import identity, launch_of
from aistack.engine.settings import Settings
from aistack.models.gguf_header import GgufHeader
from aistack.models.store import Model

GIB = 1 << 30
SETTINGS = Settings("127.0.0.1", 0, Path("/m"), Path("/r"), num_parallel=3, threads=5)
CHAT = Model("m", Path("/m/m.gguf"), 1, 0.0, None, "file", False, None, "chat")
EMBEDDING = replace(CHAT, kind="embedding")


def header(context: int | None = 131072, pooling: str | None = None, template: str | None = None) -> GgufHeader:
    return GgufHeader("llama", None, 1, "F16", context, 64, pooling, template, 1, 1, {})


@pytest.mark.parametrize(
    ("own", "wished", "served"),
    [(131072, 0, 8192), (131072, 32768, 32768), (2048, 32768, 2048), (2048, 0, 2048), (None, 0, 8192)],
)
def test_a_slots_context_is_the_wish_capped_by_the_models_own(own: int | None, wished: int, served: int) -> None:
    settings = replace(SETTINGS, context_length=wished)
    assert launch_of(CHAT, header(own), settings, GIB).slot_context == served


def test_an_embedding_model_takes_a_whole_context_in_one_batch() -> None:
    launch = launch_of(EMBEDDING, header(8192, "cls"), SETTINGS, GIB)
    assert (launch.embedding, launch.pooling, launch.batch, launch.cache_mib) == (True, "cls", 8192, 0)


@pytest.mark.parametrize("told", [None, "none"])
def test_pooling_is_mean_where_the_file_says_none(told: str | None) -> None:
    assert launch_of(EMBEDDING, header(512, told), SETTINGS, GIB).pooling == "mean"


def test_the_prompt_cache_is_a_small_part_of_memory() -> None:
    assert launch_of(CHAT, header(), SETTINGS, 8 * GIB).cache_mib == 512
    assert launch_of(CHAT, header(), SETTINGS, 512 * GIB).cache_mib == 2048


def test_threads_default_to_the_cores() -> None:
    assert launch_of(CHAT, header(), SETTINGS, GIB).threads == 5
    assert launch_of(CHAT, header(), replace(SETTINGS, threads=0), GIB).threads >= 1


def test_a_files_identity_changes_with_its_content(tmp_path: Path) -> None:
    file = tmp_path / "f"
    assert identity(file) is None
    file.write_text("a")
    before = identity(file)
    assert before == identity(file)
    file.write_text("bc")
    assert identity(file) != before


@pytest.mark.parametrize(
    ("model", "pooling", "template", "wanted"),
    [
        (CHAT, None, None, ["completion"]),
        (CHAT, None, "{% if tools %}x{% endif %}", ["completion", "tools"]),
        (CHAT, None, "<think>", ["completion", "thinking"]),
        (replace(CHAT, projector=Path("/p")), None, None, ["completion", "vision"]),
        (EMBEDDING, "mean", None, ["embedding"]),
        (EMBEDDING, "rank", None, ["rerank"]),
    ],
)
def test_capabilities_follow_from_the_file(
    model: Model, pooling: str | None, template: str | None, wanted: list[str]
) -> None:
    assert capabilities(model, header(512, pooling, template)) == wanted
