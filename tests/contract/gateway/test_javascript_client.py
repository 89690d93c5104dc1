"""The official `ollama` JavaScript client, unmodified, over our engine: its tests are in tests/javascript."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .processes import Gateway

FOLDER = Path(__file__).parents[2] / "javascript"


@pytest.fixture(scope="module")
def client() -> Path:
    """The folder with the client, installed as its lock file says."""
    if shutil.which("npm") is None:
        pytest.fail("npm is needed: scripts/test-tools brings it")
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (FOLDER / "package-lock.json").stat().st_mtime:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    return FOLDER


def test_the_javascript_client_finds_all_that_it_knows(client: Path, over_engine: Gateway) -> None:
    address = {"AISTACK_URL": over_engine.url, "AISTACK_KEY": over_engine.key}
    done = subprocess.run(
        ["node", "--test", "ollama.test.js"],
        cwd=client, env={**os.environ, **address}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout or "ℹ fail 0" in done.stdout
    assert "pass 10" in done.stdout
