"""apt-get, so that packages bring their programs and none of their services.

Installing nginx or prometheus on Debian starts and enables the package's own service on the standard
port. While apt-get runs we answer invoke-rc.d with "no" for the packages at hand (policy-rc.d), and
afterwards disable what was enabled. What was installed before is not named, hence not touched. The
policy only speaks while our process lives, and a note on disk makes the next run finish what a
killed one began.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aistack.errors import ProgramError, UserError
from aistack.system import files
from aistack.system.run import check, run

_POLICY = Path("/usr/sbin/policy-rc.d")
_NOTE = Path("/var/lib/misc/aistack-packages.json")
_MARK = "# written by aistack while it installs packages"
_UNITS = {
    "nginx": "nginx.service",
    "prometheus": "prometheus.service",
    "prometheus-node-exporter": "prometheus-node-exporter.service",
    "prometheus-nginx-exporter": "prometheus-nginx-exporter.service",
    "redis-server": "redis-server.service",  # only tests want it
}


def install(packages: Sequence[str], on_line: Callable[[str], None]) -> None:
    """apt-get install `packages`, without their services. Raises ProgramError, UserError without root or sudo."""
    if shutil.which("apt-get") is None:
        raise ProgramError("there is no apt-get here", f"install these by your own means: {' '.join(packages)}")
    if os.geteuid() != 0:
        _install_with_sudo(packages, on_line)
        return
    finish_interrupted()
    new = [package for package in packages if not _installed(package)]
    _quieten(new)
    try:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], env=environment, on_line=on_line)
        argv = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
        done = run(argv, env=environment, on_line=on_line)
        check(
            done,
            f"apt-get install {' '.join(packages)}",
            "run it by hand to see more; then `aistack up` again",
        )
    finally:
        finish_interrupted()


def _install_with_sudo(packages: Sequence[str], on_line: Callable[[str], None]) -> None:
    """The same as root: our own command again, under sudo."""
    hint = f"run `sudo -v` first, or as root: {sys.executable} -P -m aistack.runtimes.debian {' '.join(packages)}"
    if shutil.which("sudo") is None:
        raise UserError(f"only root may install packages ({' '.join(packages)}), and there is no sudo", hint)
    # It must not ask for the password: the progress on the terminal would wipe the question away.
    # -P: the folder that we are called in is not ours, and may hold an `aistack` for root to run.
    argv = ["sudo", "-n", sys.executable, "-P", "-m", "aistack.runtimes.debian", *packages]
    done = run(argv, on_line=on_line)
    if done.status:
        why = " ".join(done.stdout.strip().splitlines()[-2:]) or "no word from it"
        raise UserError(f"sudo could not install {' '.join(packages)}: {why}", hint)


def finish_interrupted() -> None:
    """Take the policy away and disable what new packages enabled; does nothing when there is no note."""
    if os.geteuid() != 0 or not _NOTE.exists():
        return
    for package in json.loads(_NOTE.read_text()):
        unit = _UNITS.get(package)
        if unit and _installed(package) and shutil.which("deb-systemd-helper"):
            run(["deb-systemd-helper", "disable", unit])
        if unit and shutil.which("update-rc.d"):
            run(["update-rc.d", package, "disable"])
    if _POLICY.exists() and _MARK in _POLICY.read_text():
        files.remove(_POLICY)
    files.remove(_NOTE)


def _quieten(packages: Sequence[str]) -> None:
    files.write(_NOTE, json.dumps(list(packages)), 0o644)
    if _POLICY.exists():
        # The site has a policy of its own; it decides, and finish_interrupted still disables the units.
        return
    names = "|".join(packages) or "-"
    files.write(
        _POLICY,
        f"#!/bin/sh\n{_MARK}\nkill -0 {os.getpid()} 2>/dev/null || exit 0\n"
        # systemd is asked about a unit, "nginx.service", System V init about "nginx".
        f'case "${{1%.service}}" in {names}) exit 101 ;; esac\nexit 0\n',
        0o755,
    )


def _installed(package: str) -> bool:
    done = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package])
    return done.stdout.strip() == "installed"


if __name__ == "__main__":
    try:
        install(sys.argv[1:], print)
    except UserError as refused:
        sys.exit(f"{refused.message}\n{refused.hint}".strip())
