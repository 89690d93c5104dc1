import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aistack.runtimes import records
from aistack.runtimes.records import Record
from aistack.system import probe

# A leader with one child, which it names before both sleep.
FAMILY = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(0, flush=True); time.sleep(60)"


class Leader:
    """A process in a group of its own; `child` is what it printed first."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def family() -> Iterator[Leader]:
    leader = Leader(FAMILY)
    yield leader
    leader.end()


@pytest.fixture
def stubborn() -> Iterator[Leader]:
    leader = Leader(STUBBORN)
    yield leader
    leader.end()


def record_of(pid: int) -> Record:
    began = records.began(pid)
    assert began is not None
    return Record(pid, began, records.boot_id(), "restart", "reload", 1.5)


def gone(pid: int) -> str | None:
    return probe.wait(lambda: "it runs" if records.began(pid) else None, 10)


def test_what_is_written_is_read_again_and_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "services/chat.json"
    record = record_of(os.getpid())
    records.write(path, record)
    assert records.read(path) == record
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"pid": 1}', '{"pid": 1, "more": 2}'])
def test_a_record_that_cannot_be_understood_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chat.json"
    path.write_text(text)
    assert records.read(path) is None
    assert records.read(tmp_path / "missing.json") is None


def test_a_running_process_is_known_by_when_it_began() -> None:
    record = record_of(os.getpid())
    assert records.runs(record)
    assert not records.runs(replace(record, began=record.began + 1))


def test_after_a_reboot_no_record_holds() -> None:
    record = replace(record_of(os.getpid()), boot="another boot")
    assert not records.runs(record)
    assert records.members(record) == []


def test_a_process_that_ended_but_was_not_waited_for_does_not_run() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        record = record_of(process.pid)
        process.kill()
        assert probe.wait(lambda: "it runs" if records.runs(record) else None, 10) is None
        assert Path(f"/proc/{process.pid}").exists()
        assert records.members(record) == []


def test_a_group_holds_its_leader_and_its_children(family: Leader) -> None:
    assert set(records.members(record_of(family.process.pid))) == {family.process.pid, family.child}


def test_what_a_killed_leader_left_behind_is_found(family: Leader) -> None:
    record = record_of(family.process.pid)
    os.kill(family.process.pid, signal.SIGKILL)
    family.process.wait()
    assert not records.runs(record)
    assert records.members(record) == [family.child]


def test_a_number_that_is_anothers_by_now_has_no_members(family: Leader) -> None:
    record = record_of(family.process.pid)
    assert records.members(replace(record, began=record.began - 1)) == []


def test_the_end_of_a_service_is_the_end_of_its_whole_group(family: Leader) -> None:
    record = record_of(family.process.pid)
    records.end(record, 0.2)
    assert gone(family.process.pid) is None
    assert gone(family.child) is None
    assert family.process.wait() == -signal.SIGTERM


def test_what_is_left_without_a_leader_is_ended_too(family: Leader) -> None:
    record = record_of(family.process.pid)
    os.kill(family.process.pid, signal.SIGKILL)
    family.process.wait()
    records.end(record, 5)
    assert gone(family.child) is None


def test_one_that_does_not_listen_is_killed_after_its_time(stubborn: Leader) -> None:
    records.end(record_of(stubborn.process.pid), 0.3)
    assert stubborn.process.wait() == -signal.SIGKILL


def test_a_stranger_with_the_number_of_an_old_record_is_left_alone(family: Leader) -> None:
    record = record_of(family.process.pid)
    for old in (replace(record, began=record.began - 1), replace(record, boot="another boot")):
        records.end(old, 0)
    assert family.process.poll() is None
    assert records.began(family.child)
