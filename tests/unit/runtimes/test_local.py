"""Services get nothing of the caller's surroundings."""

import subprocess
from pathlib import Path

import pytest

from aistack.config.paths import Paths
from aistack.config.schema import Config
from aistack.runtimes.local import LocalPlacement


@pytest.fixture
def place(tmp_path: Path) -> LocalPlacement:
    return LocalPlacement(Paths(tmp_path / "config", tmp_path / "data"), Config(), ())


def test_services_have_the_machines_time_zone(place: LocalPlacement, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty TZ would mean UTC, and the caller's own would restart them when somebody else calls."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert "TZ" not in place.environment


def test_a_module_of_ours_is_not_looked_for_in_the_current_folder(
    place: LocalPlacement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aistack").mkdir()
    (tmp_path / "aistack" / "__init__.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run([*place.module_command, "aistack.system.probe", "http://127.0.0.1:1/"], capture_output=True)
    assert b"nothing listens there" in done.stderr
    assert not (tmp_path / "ran").exists()
