import json
import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from aistack.errors import ModelError
from aistack.models.store import ModelStore


def write_model(path: Path, architecture: str = "llama", pad: int = 0, splits: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    if splits:
        writer.add_uint16("split.count", splits)
    writer.add_tensor("a", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with path.open("ab") as file:
        file.write(b"\0" * pad)
    return path


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_a_folder_that_is_not_there_holds_no_models(store: ModelStore) -> None:
    assert store.list() == ()
    with pytest.raises(ModelError, match="there are: none"):
        store.get("x")


def test_an_installed_model_is_listed_with_what_was_known_about_it(store: ModelStore, tmp_path: Path) -> None:
    file = write_model(tmp_path / "new.gguf")
    size = file.stat().st_size
    model = store.install(file, "host.example/ns/m:8b", source="somewhere", digest="sha256:12")
    assert not file.exists()
    assert store.list() == (model,)
    assert (model.name, model.size, model.digest) == ("host.example/ns/m:8b", size, "sha256:12")
    assert (model.source, model.demo, model.kind) == ("somewhere", False, "chat")
    assert model.path.parent == store.root
    assert model.projector is None


def test_a_name_and_the_same_with_latest_are_one_model(store: ModelStore, tmp_path: Path) -> None:
    store.install(write_model(tmp_path / "a.gguf"), "m:latest", source="s", digest=None)
    store.install(write_model(tmp_path / "b.gguf"), "m", source="t", digest=None)
    assert [(model.name, model.source) for model in store.list()] == [("m", "t")]
    assert store.get("m:latest") == store.get("m") == store.get("library/m")


def test_a_file_dropped_in_by_hand_is_a_model(store: ModelStore) -> None:
    write_model(store.root / "my model (1).gguf")
    write_model(store.root / "my model (1).mmproj.gguf", "clip")
    write_model(store.root / "x%3A8b.gguf")
    (store.root / "notes.txt").write_text("not a model")
    first, second = store.list()
    assert (first.name, first.source, first.digest) == ("my model (1)", "file", None)
    assert first.projector == store.root / "my model (1).mmproj.gguf"
    assert second.name == "x:8b"


def test_encoders_and_pooling_models_are_for_embedding(store: ModelStore) -> None:
    for architecture in ("bert", "nomic-bert-moe", "modern-bert", "gemma-embedding", "llama", "qwen3"):
        write_model(store.root / f"{architecture}.gguf", architecture)
    kinds = {model.name: model.kind for model in store.list()}
    assert kinds == {
        "bert": "embedding", "nomic-bert-moe": "embedding", "modern-bert": "embedding",
        "gemma-embedding": "embedding", "llama": "chat", "qwen3": "chat",
    }  # fmt: skip


def test_an_unknown_model_is_named_with_those_there_are(store: ModelStore) -> None:
    write_model(store.root / "one.gguf")
    write_model(store.root / "two.gguf")
    with pytest.raises(ModelError, match="no model three; there are: one, two"):
        store.get("three")


def test_a_damaged_file_is_told_apart_and_can_be_removed(store: ModelStore) -> None:
    write_model(store.root / "good.gguf")
    (store.root / "bad.gguf").write_bytes(b"GGUF and no more")
    assert [model.name for model in store.list()] == ["good"]
    assert [file.path.name for file in store.damaged()] == ["bad.gguf"]
    with pytest.raises(ModelError, match="cannot be used"):
        store.get("bad")
    store.remove("bad")
    assert store.damaged() == ()


@pytest.mark.parametrize(("architecture", "splits", "why"), [("llama", 3, "3 parts"), ("clip", 0, "projector")])
def test_what_cannot_be_served_alone_is_not_installed(
    store: ModelStore, tmp_path: Path, architecture: str, splits: int, why: str
) -> None:
    file = write_model(tmp_path / "m.gguf", architecture, splits=splits)
    with pytest.raises(ModelError, match=why):
        store.install(file, "m", source="s", digest=None)
    assert file.exists()
    assert store.list() == ()


def test_replacing_a_model_leaves_nothing_of_the_old_one(store: ModelStore, tmp_path: Path) -> None:
    projector = write_model(tmp_path / "p.gguf", "clip")
    store.install(write_model(tmp_path / "a.gguf"), "m", source="s", digest="sha256:1", projector=projector)
    assert store.get("m").projector is not None
    model = store.install(write_model(tmp_path / "b.gguf", pad=5), "m", source="s", digest="sha256:2")
    assert (model.digest, model.projector) == ("sha256:2", None)
    assert sorted(path.name for path in store.root.iterdir()) == ["m.gguf", "m.json"]


def test_killed_between_the_moves_the_old_file_is_not_taken_for_the_new_one(store: ModelStore, tmp_path: Path) -> None:
    store.install(write_model(tmp_path / "old.gguf"), "m", source="s", digest="sha256:1")
    old = store.root / "m.gguf"
    kept = (old.read_bytes(), old.stat().st_mtime - 60)
    projector = write_model(tmp_path / "p.gguf", "clip")
    store.install(write_model(tmp_path / "new.gguf"), "m", source="s", digest="sha256:2", projector=projector)
    # As it is when the process dies just before its last move: new sidecar and projector, old model.
    old.write_bytes(kept[0])
    os.utime(old, (kept[1], kept[1]))
    model = store.get("m")
    assert (model.digest, model.projector, model.source) == (None, None, "file")


def test_a_sidecar_without_its_model_shows_nothing(store: ModelStore, tmp_path: Path) -> None:
    store.install(write_model(tmp_path / "a.gguf"), "m", source="s", digest=None)
    (store.root / "m.gguf").unlink()
    assert store.list() == ()
    assert store.damaged() == ()


def test_a_sidecar_that_is_not_ours_is_named(store: ModelStore) -> None:
    write_model(store.root / "m.gguf")
    (store.root / "m.json").write_text(json.dumps({"size": 1}))
    assert [file.path.name for file in store.damaged()] == ["m.gguf"]
    with pytest.raises(ModelError, match=r"m\.json cannot be read"):
        store.get("m")


def test_a_sidecar_of_another_version_that_knew_more_still_counts(store: ModelStore, tmp_path: Path) -> None:
    model = store.install(write_model(tmp_path / "m.gguf"), "m", source="somewhere", digest="sha256:12")
    sidecar = model.path.with_suffix(".json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "template": None, "colour": "blue"}))
    assert store.get("m") == model


def test_removing_takes_everything_of_the_model(store: ModelStore, tmp_path: Path) -> None:
    projector = write_model(tmp_path / "p.gguf", "clip")
    store.install(write_model(tmp_path / "a.gguf"), "m:1", source="s", digest=None, projector=projector)
    store.install(write_model(tmp_path / "b.gguf"), "m:2", source="s", digest=None)
    store.remove("m:1")
    assert [model.name for model in store.list()] == ["m:2"]
    assert sorted(path.name for path in store.root.iterdir()) == ["m%3A2.gguf", "m%3A2.json"]
    with pytest.raises(ModelError, match="no model m:1"):
        store.remove("m:1")


def test_a_changed_file_is_read_again(store: ModelStore) -> None:
    path = write_model(store.root / "m.gguf")
    assert store.header(store.get("m")).architecture == "llama"
    write_model(path, "bert", pad=1)
    assert store.header(store.get("m")).architecture == "bert"
    assert store.get("m").kind == "embedding"
