"""Packages for a user who is not root: what sudo runs, and what is told when it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aistack.errors import UserError
from aistack.runtimes.debian import _install_with_sudo


def test_sudo_runs_nothing_of_the_callers_folder_and_its_refusal_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" > {tmp_path}/asked\necho "sudo: a password is required" >&2\nexit 1\n'
    )
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError) as caught:
        _install_with_sudo(["nginx"], lambda _: None)
    command = f"{sys.executable} -P -m aistack.runtimes.debian nginx"
    assert (tmp_path / "asked").read_text() == f"-n {command}\n"
    assert caught.value.message == "sudo could not install nginx: sudo: a password is required"
    assert caught.value.hint.endswith(command)


def test_what_goes_wrong_as_root_is_two_lines(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "aistack.runtimes.debian", "nginx"]
    done = subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["there is no apt-get here", "install these by your own means: nginx"]
