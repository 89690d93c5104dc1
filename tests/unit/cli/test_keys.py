"""`aistack keys` and `aistack nodes` by root, on a database that a service owns."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Says which of our code is still looked for once root acts as the service, who may not be let in where it lies.
_WATCHED = """
import os, sys
def watch(event, arguments):
    if os.geteuid() and (event == "import" or event == "open" and str(arguments[0]).endswith(".py")):
        os.write(2, f"looked for: {arguments[0]}\\n".encode())
sys.addaudithook(watch)
from aistack.cli.main import main
sys.argv = ["aistack", *sys.argv[1:]]
main()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Pytest's own folders let no other user in."""
    with tempfile.TemporaryDirectory(prefix="aistack-keys-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps services under other users")
def test_keys_are_made_as_the_service_that_owns_them_and_none_of_our_code_is_needed_by_then(home: Path) -> None:
    (home / "config").mkdir()
    (home / "config/stack.toml").write_text("")
    data = home / "data/state/gateway/data"
    data.mkdir(parents=True)
    os.chown(data, 10001, 10001)
    environment = {**os.environ, "AISTACK_HOME": str(home)}
    keys = (["keys", "create", "laptop"], ["keys", "rotate", "laptop"], ["keys", "ls"], ["keys", "revoke", "laptop"])
    for command in (*keys, ["nodes", "drain", "local"], ["nodes", "resume", "local"]):
        argv = [sys.executable, "-c", _WATCHED, *command]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "looked for" not in done.stderr
    assert {path.stat().st_uid for path in data.iterdir()} == {10001}
