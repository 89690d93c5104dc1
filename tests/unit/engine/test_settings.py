"""The engine's settings file."""

import json
from pathlib import Path

import pytest

from aistack.engine.settings import load
from aistack.errors import ConfigError

WHOLE = {"host": "127.0.0.1", "port": 11434, "models_dir": "m", "run_dir": "r", "keep_alive_s": -1}


def test_a_whole_file_is_read_and_folders_become_absolute(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    file.write_text(json.dumps(WHOLE))
    settings = load(file)
    assert (settings.port, settings.keep_alive_s) == (11434, -1)
    assert settings.models_dir.is_absolute()


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    file.write_text(json.dumps({**WHOLE, "port": "80", "threads": 1.5, "max_loaded_models": 0, "prot": 1, "host": 2}))
    with pytest.raises(ConfigError) as told:
        load(file)
    assert sorted(problem.partition(":")[0] for problem in told.value.problems) == [
        "host", "max_loaded_models", "port", "prot", "threads",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_what_is_not_settings_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "engine.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"engine\.json"):
        load(file)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load(tmp_path / "nowhere")
