"""The facts about one machine as plain data: `facts` fills them in; plan, fit and doctor use them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from aistack.system.run import Finished

Vendor = Literal["nvidia", "amd", "intel"]


class Run(Protocol):
    """The part of `aistack.system.run.run` that facts use; tests pass recorded answers."""

    def __call__(self, argv: Sequence[str], *, timeout_s: float | None = None) -> Finished: ...


@dataclass(frozen=True)
class Cpu:
    """`cores` are the hardware threads that services may use: the machine's or container's, within our cgroup's quota.

    `flags` holds only the instruction sets that decide how fast, or whether, a model runs.
    """

    model: str
    architecture: Literal["x86_64", "aarch64", "other"]
    cores: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Gpu:
    """One graphics card. `memory_bytes` is None where it shares the host's memory or tells nothing.

    `why` says in a few words why it is usable or not; `cure` what would make it usable, and is
    empty when nothing is wrong or nothing can be done.
    """

    vendor: Vendor
    name: str
    memory_bytes: int | None
    driver: str | None
    usable: bool
    why: str
    cure: str = ""


@dataclass(frozen=True)
class OperatingSystem:
    """From os-release: `id` such as debian, `version` such as 12 (empty on rolling ones)."""

    id: str
    version: str
    pretty: str


@dataclass(frozen=True)
class Host:
    """A machine as this process may use it.

    `memory_bytes` and `memory_available_bytes` respect a cgroup's limit. `host_names` begins with
    the machine's own name; `addresses` are those others can reach it by, textual, IPv4 first:
    neither holds localhost, loopback, link-local, container-bridge or short-lived addresses.
    """

    cpu: Cpu
    memory_bytes: int
    memory_available_bytes: int
    gpus: tuple[Gpu, ...]
    os: OperatingSystem
    host_names: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Disk:
    """The file system that holds `folder`, which need not exist yet. Bytes as an ordinary user may use them.

    `device` is the same for two folders on one file system; `free_files` is None where the file
    system makes room for new files as it goes.
    """

    folder: Path
    device: int
    total_bytes: int
    free_bytes: int
    free_files: int | None
    read_only: bool
