"""The command line's error boundary: two lines and exit status 1 for people's mistakes."""

import os
import subprocess
import sys
from pathlib import Path


def aistack(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("aistack"), *arguments],
        env={**os.environ, "AISTACK_HOME": str(home)}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_missing_stack_toml_is_two_lines_and_exit_status_1(tmp_path: Path) -> None:
    done = aistack(tmp_path, "status")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: there is no {tmp_path}/config/stack.toml",
        "hint: run `aistack init` to write one",
    ]
    assert done.stdout == ""


def test_every_mistake_in_stack_toml_is_shown_at_once(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "stack.toml").write_text('[engine]\nprot = 1\nkind = "x"\n[chat]\nport = 70000\n')
    done = aistack(tmp_path, "check")
    assert done.returncode == 1
    assert "3 mistakes" in done.stderr
    for part in ("engine.prot: there is no such key; did you mean port?", "engine.kind:", "chat.port:"):
        assert part in done.stderr


def test_init_writes_a_file_that_check_takes_and_never_replaces_one(tmp_path: Path) -> None:
    assert aistack(tmp_path, "init", "--defaults").returncode == 0
    written = (tmp_path / "config" / "stack.toml").read_text()
    assert aistack(tmp_path, "check").returncode == 0
    again = aistack(tmp_path, "init", "--defaults")
    assert again.returncode == 1
    assert "already" in again.stderr
    assert aistack(tmp_path, "init", "--defaults", "--if-missing").returncode == 0
    assert (tmp_path / "config" / "stack.toml").read_text() == written


def test_an_unknown_service_names_those_there_are(tmp_path: Path) -> None:
    aistack(tmp_path, "init", "--defaults")
    done = aistack(tmp_path, "logs", "ollama")
    assert done.returncode == 1
    assert "engine" in done.stderr
