"""`aistack keys` on the database that a service owns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps services under other users")
def test_root_makes_a_key_where_the_services_user_cannot_pass_the_folders_above(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/stack.toml").write_text("")
    data = tmp_path / "data/state/gateway/data"
    data.mkdir(parents=True)
    os.chown(data, 10001, 10001)
    aistack = Path(sys.executable).with_name("aistack")
    environment = {**os.environ, "AISTACK_HOME": str(tmp_path)}
    made = subprocess.run([aistack, "keys", "create", "laptop"], env=environment, capture_output=True, text=True)
    assert made.stdout.startswith("ask_"), made.stderr
    listed = subprocess.run([aistack, "keys", "ls"], env=environment, capture_output=True, text=True)
    assert "laptop" in listed.stdout
    assert {path.stat().st_uid for path in data.iterdir()} == {10001}
