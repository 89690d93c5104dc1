"""What the process runtime knows of each process it started: one small file a service, and how to trust it.

A pid alone proves nothing after a reboot or a wrap-around, so a record also holds when the process
began and in which boot. A process group outlives its leader (nginx's workers do, when their master
is killed), and the kernel gives no new process the number of a group that still lives: that is how
leftovers are found without guessing.
"""

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from aistack.system import files


@dataclass(frozen=True)
class Record:
    """A started process. `began` is in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    began: int
    boot: str
    restart_hash: str
    reload_hash: str
    since: float


def read(path: Path) -> Record | None:
    """The record in `path`; None when there is none or it cannot be understood."""
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write(path: Path, record: Record) -> None:
    """Keep `record` in `path`."""
    files.write(path, json.dumps(asdict(record)) + "\n", 0o600)


def boot_id() -> str:
    """What tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def began(pid: int) -> int | None:
    """When process `pid` began; None when it does not run (a zombie does not)."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; the name before them may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def runs(record: Record) -> bool:
    """Whether the very process of `record` still runs."""
    return record.boot == boot_id() and began(record.pid) == record.began


def members(record: Record) -> list[int]:
    """Live processes of the group that `record`'s process led; empty when its number is another's by now."""
    if record.boot != boot_id() or began(record.pid) not in (None, record.began):
        return []
    found = []
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields and int(fields[2]) == record.pid and fields[0] not in ("Z", "X"):
            found.append(int(entry.name))
    return found


def end(record: Record, grace_s: float) -> None:
    """Stop the whole group of `record`: SIGTERM to its leader, and after `grace_s` SIGKILL to what is left."""
    if tell(record, signal.SIGTERM):
        deadline = time.monotonic() + grace_s
        while members(record) and time.monotonic() < deadline:
            time.sleep(0.05)
    while left := members(record):
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.02)


def tell(record: Record, number: signal.Signals) -> bool:
    """Send a signal to the very process of `record`; returns whether it still runs."""
    if not runs(record):
        return False
    _signal(record.pid, number)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
