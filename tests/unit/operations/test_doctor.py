import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aistack.certificates import ensure, expires
from aistack.errors import UserError
from aistack.hardware.host import Cpu, Disk, Gpu, Host, OperatingSystem
from aistack.hardware.sizes import GIB, MIB
from aistack.models.store import ModelStore
from aistack.operations.diagnoses import DIAGNOSES
from aistack.operations.diagnoses.base import Finding, Inputs, WantedProgram, WantedRoom
from aistack.operations.diagnoses.memory import held_bytes
from aistack.operations.diagnoses.programs import is_older, parse_version
from aistack.operations.doctor import diagnose, has_problem, report
from aistack.system.run import Finished, run

NOW = datetime.now(UTC)
HOST = Host(
    cpu=Cpu("a processor", "x86_64", 4, ("avx", "avx2")),
    memory_bytes=16 * GIB,
    memory_available_bytes=12 * GIB,
    gpus=(),
    os=OperatingSystem("debian", "12", "Debian"),
    host_names=("here",),
    addresses=(),
)
HEALTHY = Inputs(
    host=HOST, run=run, now=NOW, ports={}, own_pids=frozenset(), programs=(), folders=(),
    memory_needed_bytes=4 * GIB, certificate=None, secrets=(), synchronised=lambda: True,
    hardware_clock=lambda: None, services={"nginx": ""},
)  # fmt: skip


def found(check: str, **changes: Any) -> tuple[Finding, ...]:
    """What the diagnosis called `check` finds when `changes` are made to a healthy stack."""
    inputs = dataclasses.replace(HEALTHY, **changes)
    return diagnose(inputs, tuple(one for one in DIAGNOSES if one[0] == check))


def only(check: str, **changes: Any) -> Finding:
    (finding,) = found(check, **changes)
    assert finding.check == check
    assert bool(finding.cure) is (finding.severity != "ok")
    return finding


def test_a_damaged_model_is_told_with_its_file_and_why(tmp_path: Path) -> None:
    (tmp_path / "half.gguf").write_bytes(b"GGUF")
    damaged = {one.path: one.reason for one in ModelStore(tmp_path).damaged()}
    finding = only("models", damaged_models=damaged)
    assert finding.severity == "problem"
    assert f"{tmp_path}/half.gguf cannot be served" in finding.message
    assert "damaged or cut short" in finding.message


# The report


def test_a_healthy_stack_has_no_problem() -> None:
    findings = diagnose(HEALTHY)
    assert {finding.severity for finding in findings} == {"ok"}
    assert not has_problem(findings)
    assert report(findings).endswith("no problems, no warnings")


def test_a_diagnosis_that_fails_becomes_a_finding_and_the_others_go_on() -> None:
    def faints(_: Inputs) -> tuple[Finding, ...]:
        raise RuntimeError("no idea")

    def refuses(_: Inputs) -> tuple[Finding, ...]:
        raise UserError("no disk", "buy one")

    findings = diagnose(HEALTHY, (("first", faints), ("second", refuses), *DIAGNOSES))
    assert findings[2:] == diagnose(HEALTHY)
    assert findings[0].message == "this check itself failed: RuntimeError: no idea"
    assert findings[1] == Finding("problem", "second", "no disk", "buy one")
    assert has_problem(findings)


def test_what_we_may_not_look_at_is_told_as_such() -> None:
    def peeks(_: Inputs) -> tuple[Finding, ...]:
        raise PermissionError(13, "Permission denied", "/etc/ai-stack/secrets")

    (finding,) = diagnose(HEALTHY, (("secrets", peeks),))
    assert finding.message == "may not look at /etc/ai-stack/secrets: Permission denied"


def test_problems_come_first_each_with_its_cure_below() -> None:
    findings = diagnose(dataclasses.replace(HEALTHY, memory_needed_bytes=64 * GIB, services={"chat": "refused"}))
    assert [finding.severity for finding in findings[:2]] == ["problem", "problem"]
    lines = report(findings).splitlines()
    assert lines[0].startswith("problem  memory")
    assert lines[1].strip().startswith("cure: ")
    assert lines[-1] == "2 problems, no warnings"


def test_findings_can_be_written_as_json() -> None:
    finding = json.loads(json.dumps([dataclasses.asdict(one) for one in diagnose(HEALTHY)]))[0]
    assert set(finding) == {"severity", "check", "message", "cure"}


# Ports


@pytest.fixture
def listener() -> Iterator[tuple[int, int]]:
    """A real process that listens on a port: its pid and that port."""
    program = (
        "import socket, sys\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield child.pid, int(child.stdout.readline())
        child.communicate()


def test_a_taken_port_is_told_with_service_process_and_pid(listener: tuple[int, int]) -> None:
    pid, port = listener
    finding = only("ports", ports={"gateway": ("127.0.0.1", port)})
    assert finding.severity == "problem"
    assert f"127.0.0.1:{port}, wanted by gateway, is taken by" in finding.message
    assert f"(pid {pid})" in finding.message
    assert f"ps -fp {pid}" in finding.cure


def test_our_own_process_on_its_port_is_no_problem(listener: tuple[int, int]) -> None:
    pid, port = listener
    ports = {"gateway": ("127.0.0.1", port)}
    assert only("ports", ports=ports, own_pids=frozenset({pid})).severity == "ok"


def test_a_child_of_our_process_on_our_port_is_no_problem(listener: tuple[int, int]) -> None:
    _, port = listener
    ports = {"gateway": ("127.0.0.1", port)}
    assert only("ports", ports=ports, own_pids=frozenset({os.getpid()})).severity == "ok"


# Programs


def program(executable: str, minimum: str, *arguments: str) -> tuple[WantedProgram, ...]:
    return (WantedProgram("It", executable, minimum, arguments, "apt-get install it"),)


def test_a_missing_program_is_a_problem_with_the_command_that_installs_it() -> None:
    finding = only("programs", programs=program("no-such-program", "1.0", "--version"))
    assert finding == Finding("problem", "programs", "It is not installed", "apt-get install it")


def test_a_real_program_new_enough_is_fine_and_told_with_its_version() -> None:
    finding = only("programs", programs=program("openssl", "1.1", "version"))
    assert finding.severity == "ok"
    assert parse_version(finding.message)


def test_a_real_program_too_old_is_a_problem_that_tells_both_versions() -> None:
    finding = only("programs", programs=program("openssl", "99.1", "version"))
    assert finding.severity == "problem"
    assert "99.1 or newer is needed" in finding.message


def test_a_program_that_ends_badly_is_a_problem_that_says_its_last_line(tmp_path: Path) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho 'cannot open shared object' >&2\nexit 127\n")
    script.chmod(0o755)
    finding = only("programs", programs=program(str(script), "1.0"))
    assert finding.severity == "problem"
    assert "cannot open shared object" in finding.message


def test_a_program_without_a_version_is_only_a_warning() -> None:
    assert only("programs", programs=program("true", "1.0")).severity == "warning"
    assert only("programs", programs=program("true", "")).severity == "ok"


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("prometheus, version 2.42.0+ds (branch: debian/sid, revision: 2.42.0+ds-5+b5)", "2.42.0"),
        ("OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19)", "3.0.19"),
        ("ollama version is 0.34.0", "0.34.0"),
        ("node_exporter, version v1.5.0", "1.5.0"),
        ("usage: something", ""),
    ],
)
def test_versions_are_found_in_what_programs_say(output: str, version: str) -> None:
    assert parse_version(output) == version


@pytest.mark.parametrize(
    ("version", "minimum", "older"),
    [("1.9", "1.10", True), ("1.10", "1.9", False), ("1.22", "1.22.0", False), ("2", "10", True)],
)
def test_versions_compare_number_by_number(version: str, minimum: str, older: bool) -> None:
    assert is_older(version, minimum) is older


# Disk, memory, processor, graphics


def disks(free: int, *, files: int | None = None, read_only: bool = False) -> object:
    return lambda folder: Disk(folder, 1, 100 * GIB, free, files, read_only)


def test_folders_on_one_disk_are_added_up() -> None:
    folders = (WantedRoom(Path("/a"), 6 * GIB, "models"), WantedRoom(Path("/b"), 6 * GIB, "programs"))
    finding = only("disk", folders=folders, disk=disks(10 * GIB))
    assert finding.severity == "problem"
    assert "12 GiB needed: 6 GiB for models, 6 GiB for programs" in finding.message
    assert only("disk", folders=folders, disk=disks(13 * GIB)).severity == "ok"


def test_a_real_folder_that_needs_more_than_there_is_is_a_problem(tmp_path: Path) -> None:
    room = (WantedRoom(tmp_path / "not-yet", 1 << 60, "models"),)
    assert only("disk", folders=room).severity == "problem"
    assert only("disk", folders=(WantedRoom(tmp_path, 1, "models"),)).severity == "ok"


def test_a_disk_without_room_for_more_files_or_for_writing_is_a_problem() -> None:
    folders = (WantedRoom(Path("/a"), GIB, "models"),)
    assert "12 more files" in only("disk", folders=folders, disk=disks(9 * GIB, files=12)).message
    assert "read-only" in only("disk", folders=folders, disk=disks(9 * GIB, read_only=True)).message


def test_memory_that_can_never_do_is_a_problem_and_memory_in_use_a_warning() -> None:
    assert only("memory", memory_needed_bytes=17 * GIB).severity == "problem"
    finding = only("memory", memory_needed_bytes=14 * GIB)
    assert finding.severity == "warning"
    assert "12 GiB of 16 GiB is free" in finding.message


def test_memory_that_our_own_processes_hold_counts_as_free() -> None:
    hold = "import sys; kept = bytearray(64 << 20); print('held', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", hold]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        held = held_bytes(frozenset({child.pid}))
        assert 64 * MIB <= held < 160 * MIB
        needed = HOST.memory_available_bytes + 32 * MIB
        assert only("memory", memory_needed_bytes=needed).severity == "warning"
        ours = frozenset({child.pid})
        assert only("memory", memory_needed_bytes=needed, own_pids=ours).severity == "ok"
        child.communicate()
    assert held_bytes(frozenset({child.pid})) == 0


def test_a_processor_without_what_the_engine_needs_is_a_problem_on_x86_only() -> None:
    needed = ("avx2", "fma")
    assert "lacks fma" in only("processor", cpu_flags_needed=needed).message
    arm = dataclasses.replace(HOST, cpu=Cpu("a board", "aarch64", 4, ("asimd",)))
    assert only("processor", cpu_flags_needed=needed, host=arm).severity == "ok"


@pytest.mark.parametrize(
    ("driver", "usable", "cure", "severity"),
    [
        ("nvidia", True, "", "ok"),
        ("nvidia", False, "reboot the machine", "problem"),
        (None, False, "install NVIDIA's driver", "warning"),
        ("i915", False, "", "ok"),
    ],
)
def test_a_card_is_a_problem_when_its_driver_is_there_and_fails(
    driver: str | None, usable: bool, cure: str, severity: str
) -> None:
    card = Gpu("nvidia", "NVIDIA L4", 24 * GIB, driver, usable, "for a reason", cure)
    finding = only("graphics", host=dataclasses.replace(HOST, gpus=(card,)))
    assert (finding.severity, finding.cure) == (severity, cure)


# Clock


def test_a_file_from_the_future_shows_a_clock_that_is_behind(tmp_path: Path) -> None:
    witness = tmp_path / "database"
    witness.touch()
    os.utime(witness, (NOW.timestamp(), NOW.timestamp()))
    early = NOW - timedelta(hours=1)
    finding = only("clock", now=early, clock_witnesses=(witness,))
    assert finding.severity == "problem"
    assert str(witness) in finding.message
    assert only("clock", clock_witnesses=(witness,)).severity == "ok"


@pytest.mark.parametrize(
    ("offset_s", "severity"),
    [(2, "ok"), (3600, "ok"), (5.5 * 3600, "ok"), (420, "warning"), (86400, "warning")],
)
def test_the_hardware_clock_may_differ_by_a_time_zone_and_no_more(offset_s: float, severity: str) -> None:
    assert only("clock", hardware_clock=lambda: NOW.timestamp() + offset_s).severity == severity


def test_a_clock_that_nothing_keeps_right_is_a_warning() -> None:
    assert only("clock", synchronised=lambda: False).severity == "warning"


@pytest.mark.parametrize(
    ("answer", "severity", "says"),
    [
        (Finished(0, "yes\n", ""), "ok", "kept right"),
        (Finished(0, "no\n", ""), "warning", "no time service"),
        (Finished(1, "", "System has not been booted with systemd"), "ok", "cannot be seen"),
    ],
)
def test_where_the_kernel_does_not_answer_systemd_is_asked(answer: Finished, severity: str, says: str) -> None:
    def systemd(argv: object, *, timeout_s: float | None = None) -> Finished:
        return answer

    finding = only("clock", synchronised=lambda: None, run=systemd)
    assert finding.severity == severity
    assert says in finding.message


# Certificate


def test_a_certificate_is_judged_by_what_is_left_of_it(tmp_path: Path) -> None:
    ensure(tmp_path, ("localhost",), (), NOW)
    certificate = tmp_path / "server.pem"
    for left, severity in ((40, "ok"), (20, "warning"), (-1, "problem")):
        then = expires(certificate) - timedelta(days=left)
        assert only("certificate", certificate=certificate, now=then).severity == severity


def test_a_certificate_that_has_really_ended_is_a_problem_told_with_its_end(tmp_path: Path) -> None:
    ensure(tmp_path, ("localhost",), (), NOW - timedelta(days=500))
    finding = only("certificate", certificate=tmp_path / "server.pem")
    assert finding.severity == "problem"
    assert f"ended on {expires(tmp_path / 'server.pem'):%Y-%m-%d}" in finding.message


def test_a_missing_or_damaged_certificate_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    finding = only("certificate", certificate=path)
    assert "there is no certificate" in finding.message
    assert finding.cure.startswith("run `aistack up`")
    path.write_text("x")
    assert only("certificate", certificate=path).severity == "problem"


def test_a_certificate_of_the_sites_own_is_not_up_to_make(tmp_path: Path) -> None:
    finding = only("certificate", certificate=tmp_path / "site.pem", site_key=tmp_path / "site.key")
    assert finding.cure.startswith("it is the site's own")


# Secrets


def test_a_secret_that_others_can_read_is_a_problem_with_the_command_that_closes_it(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    secret = folder / "gateway-internal-key"
    secret.write_text("x")
    secret.chmod(0o640)
    finding = only("secrets", secrets=(folder, tmp_path / "missing"))
    assert finding.severity == "problem"
    assert finding.cure.startswith(f"chmod 600 {secret}; ")
    assert "remove the file" in finding.cure
    run(finding.cure.partition(";")[0].split())
    assert only("secrets", secrets=(folder,)) == Finding("ok", "secrets", "what is secret is closed to others")


@pytest.mark.parametrize(
    ("name", "cure"),
    [("administrator-password", "change the password in the chat"), ("root.key", "trust the new root"),
     ("engine-node-gpu2-key", "give the node another key")],
)  # fmt: skip
def test_what_removing_a_file_would_not_replace_has_another_cure(tmp_path: Path, name: str, cure: str) -> None:
    secret = tmp_path / name
    secret.write_text("x")
    secret.chmod(0o644)
    finding = only("secrets", secrets=(secret,))
    assert cure in finding.cure
    assert "remove the file" not in finding.cure


@pytest.mark.parametrize(("mode", "severity"), [(0o640, "ok"), (0o644, "problem")])
def test_a_key_of_the_sites_own_may_be_its_groups_and_not_everybodys(tmp_path: Path, mode: int, severity: str) -> None:
    key = tmp_path / "site.key"
    key.write_text("x")
    key.chmod(mode)
    finding = only("secrets", site_key=key)
    assert finding.severity == severity
    if finding.cure:
        run(finding.cure.split())
        assert key.stat().st_mode & 0o777 == 0o640


def test_a_folder_of_secrets_that_others_may_list_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.chmod(0o755)
    assert only("secrets", secrets=(folder,)).cure == f"chmod 700 {folder}"


# Services


def test_a_service_that_does_not_answer_is_told_with_its_reason() -> None:
    silent, *rest = found("services", services={"nginx": "", "chat": "connection refused"})
    assert not rest
    assert silent.message == "chat: connection refused"
    assert "aistack logs chat" in silent.cure


def test_a_stack_that_is_down_is_told_and_how_to_start_it() -> None:
    down = only("services", services={})
    assert (down.severity, down.cure) == ("warning", "start it: `aistack up`")


def test_services_that_answer_are_well() -> None:
    assert only("services", services={"nginx": ""}).severity == "ok"
