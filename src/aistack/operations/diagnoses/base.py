"""What a diagnosis is given and what it finds: the shapes between `doctor` and its checks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from aistack.hardware import clock
from aistack.hardware.disk import disk
from aistack.hardware.host import Disk, Host, Run
from aistack.system.ports import Listener, listeners

Severity = Literal["problem", "warning", "ok"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report. `check` names the diagnosis; `cure` is empty when all is well."""

    severity: Severity
    check: str
    message: str
    cure: str = ""


@dataclass(frozen=True)
class WantedProgram:
    """A program the stack needs, by the `name` people install it under. `executable` is a name on PATH
    or a path; it is run with `version_arguments` and must tell a version of at least `minimum` ("" takes any).
    `cure` is the command that installs it or brings it up to date."""

    name: str
    executable: str
    minimum: str
    version_arguments: tuple[str, ...]
    cure: str


@dataclass(frozen=True)
class WantedRoom:
    """Free bytes that a folder's file system should have; `purpose` says for what."""

    folder: Path
    bytes: int
    purpose: str


@dataclass(frozen=True)
class Inputs:
    """All that the diagnoses look at; made once by `aistack doctor` from config, plan and facts.

    `ports`: service or `service port name` -> (address, number). `own_pids`: the stack's running
    processes; their children count as ours. `services`: name -> what is wrong with it, "" when
    nothing is; empty when the stack is down. `certificate`: None when there need not be one yet; `site_key`:
    its key, when both are the site's own. `secrets`: files and folders that only their owner
    may read. `damaged_models`: file -> why it cannot be served. `clock_witnesses`: files whose
    last change cannot lie in the future. The callables are
    the machine's own; tests pass others.
    """

    host: Host
    run: Run
    now: datetime
    ports: Mapping[str, tuple[str, int]]
    own_pids: frozenset[int]
    programs: tuple[WantedProgram, ...]
    folders: tuple[WantedRoom, ...]
    memory_needed_bytes: int
    certificate: Path | None
    secrets: tuple[Path, ...]
    site_key: Path | None = None
    services: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    damaged_models: Mapping[Path, str] = field(default_factory=lambda: MappingProxyType({}))
    cpu_flags_needed: tuple[str, ...] = ()
    clock_witnesses: tuple[Path, ...] = ()
    listeners: Callable[[], tuple[Listener, ...]] = listeners
    disk: Callable[[Path], Disk] = disk
    synchronised: Callable[[], bool | None] = clock.synchronised
    hardware_clock: Callable[[], float | None] = clock.hardware_clock


Diagnosis = Callable[[Inputs], tuple[Finding, ...]]
