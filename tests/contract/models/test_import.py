"""A local file becomes a model: copied whole, checked, and never half there."""

from collections import namedtuple
from pathlib import Path

import pytest

from aistack.errors import ModelError
from aistack.models.progress import Progress
from aistack.models.pull import import_file
from aistack.models.store import ModelStore

Usage = namedtuple("Usage", ["free"])


@pytest.fixture
def file(tmp_path: Path, gguf_bytes: bytes) -> Path:
    path = tmp_path / "from somewhere.gguf"
    path.write_bytes(gguf_bytes)
    return path


def test_a_file_is_copied_and_its_progress_told(file: Path, store: ModelStore, gguf_bytes: bytes) -> None:
    told: list[Progress] = []
    model = import_file(store, file, "mine:8b", told.append, projector=file)
    assert model.name == "mine:8b"
    assert model.path.read_bytes() == file.read_bytes() == gguf_bytes
    assert model.projector is not None
    assert model.digest is not None
    assert [progress.step for progress in told][-2:] == ["copying", "installing"]
    assert (told[-1].done, told[-1].total) == (2 * len(gguf_bytes), 2 * len(gguf_bytes))
    assert list((store.root / ".partial").iterdir()) == []


def test_what_happens_to_the_original_later_does_not_reach_the_model(file: Path, store: ModelStore) -> None:
    model = import_file(store, file, "mine")
    before = model.path.read_bytes()
    with file.open("r+b") as original:
        original.write(b"gone")
    assert model.path.read_bytes() == before


def test_a_file_that_is_no_model_is_refused_before_it_is_copied(tmp_path: Path, store: ModelStore) -> None:
    file = tmp_path / "letter.gguf"
    file.write_text("Dear all")
    with pytest.raises(ModelError, match="not a GGUF file"):
        import_file(store, file, "mine")
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["", "../mine", ".mine"])
def test_a_name_that_leaves_the_folder_is_refused(file: Path, store: ModelStore, name: str) -> None:
    with pytest.raises(ModelError, match="not a model name"):
        import_file(store, file, name)
    assert store.list() == ()


def test_a_disk_too_small_is_told_before_anything_is_copied(file: Path, store: ModelStore) -> None:
    with pytest.raises(ModelError, match="are free"):
        import_file(store, file, "mine", measure_disk=lambda path: Usage(free=1000))
    assert list((store.root / ".partial").iterdir()) == []
