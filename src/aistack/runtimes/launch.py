"""Under supervisord, the first moments of every service: `python -m aistack.runtimes.launch SPEC.json`.

It reads what to run, fetches secrets from their files into the environment, and becomes the program.
When supervisord itself was killed, the services it left behind go on serving people; the launcher of
the next supervisord then does not start a second one but stands in for the first: it passes signals
on and ends when that process ends. So the death of the supervisor interrupts nobody.
"""

import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from aistack.runtimes import records
from aistack.system.run import replace_process, run


@dataclass(frozen=True)
class Spec:
    """What to run. `secrets` maps environment names to (file, form with `{secret}` in it); `health` is the URL
    that answers 200 when all is well."""

    service: str
    argv: list[str]
    environment: dict[str, str]
    secrets: dict[str, tuple[str, str]]
    prepare: list[str]
    directory: str
    log: str
    record: str
    restart_hash: str
    reload_hash: str
    stop_seconds: float
    health: str


def read_spec(path: Path) -> Spec | None:
    """The Spec that `path` holds; None when there is none, or one of another version of aistack."""
    try:
        return Spec(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def main() -> None:
    """Adopt the running process of this service if it is the one wanted, else start it."""
    spec = read_spec(Path(sys.argv[1]))
    if spec is None:
        sys.exit(f"cannot use {sys.argv[1]}: `aistack up` writes it anew")
    left = records.read(Path(spec.record))
    if left is not None:
        if records.runs(left) and left.restart_hash == spec.restart_hash and left.pid != os.getpid():
            sys.exit(stand_in(left))
        records.end(left, spec.stop_seconds)
    start(spec)


def start(spec: Spec) -> None:
    """Become the program of `spec`; does not return."""
    os.umask(0o077)
    output = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(spec.directory)
    environment = spec.environment | {
        name: form.replace("{secret}", Path(path).read_text().strip()) for name, (path, form) in spec.secrets.items()
    }
    if spec.prepare:
        done = run(spec.prepare)
        if done.status:
            sys.stderr.write(f"preparing {spec.service} failed: {done.stderr}\n")
            sys.exit(1)
    pid = os.getpid()
    if os.getpgrp() != pid:
        os.setpgid(0, 0)
    now = records.Record(
        pid, records.began(pid) or 0, records.boot_id(), spec.restart_hash, spec.reload_hash, time.time()
    )
    records.write(Path(spec.record), now)
    replace_process(spec.argv, environment)


def stand_in(record: records.Record) -> int:
    """Wait for the process of `record` in supervisord's sight, passing its signals on; returns 1 when it is gone."""
    process = os.pidfd_open(record.pid)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    while records.runs(record):
        ready, _, _ = select.select([process, wake_read], [], [])
        if wake_read in ready:
            for received in os.read(wake_read, 64):
                signal.pidfd_send_signal(process, received)
        if process in ready:
            break
    return 1


if __name__ == "__main__":
    main()
