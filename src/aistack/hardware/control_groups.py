"""The limits a container or a systemd slice puts on us: cgroup v2, v1, and both mixed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aistack.hardware.tree import number, pairs, text


@dataclass(frozen=True)
class Limits:
    """The tightest limits on us, None where there is none (cgroup v1 says so with a number beyond any
    machine's memory). `memory_left_bytes` counts the page
    cache that the kernel would give back as free; `cores` may be a fraction."""

    memory_bytes: int | None
    memory_left_bytes: int | None
    cores: float | None


def limits(root: Path) -> Limits:
    """What our cgroup and all above it allow, read below `root`."""
    memory = [*_memory_v2(root), *_memory_v1(root)]
    cores = [*_cores_v2(root), *_cores_v1(root)]
    return Limits(
        memory_bytes=min((limit for limit, _ in memory), default=None),
        memory_left_bytes=min((max(limit - used, 0) for limit, used in memory), default=None),
        cores=min(cores, default=None),
    )


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Our folder for `controller` ("" is cgroup v2) and its parents up to the mount.

    In a container without a cgroup namespace the kernel names the path outside, while the mount
    shows only our own part of it: so whatever of the path does not exist is passed over.
    """
    for line in text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller not in controllers.split(","):
            continue
        inside = Path(path.lstrip("/"))
        for mount in dict.fromkeys((controllers, controller)):
            top = root / "sys/fs/cgroup" / mount
            below = [] if ".." in inside.parts else [top / part for part in (inside, *inside.parents)]
            yield from (folder for folder in dict.fromkeys((*below, top)) if folder.is_dir())


def _memory_v2(root: Path) -> Iterator[tuple[int, int]]:
    for folder in _folders(root, ""):
        limit = number(folder / "memory.max")
        if limit is not None:
            cache = pairs(text(folder / "memory.stat"), " ").get("inactive_file", "0")
            yield limit, (number(folder / "memory.current") or 0) - int(cache)


def _memory_v1(root: Path) -> Iterator[tuple[int, int]]:
    for folder in _folders(root, "memory"):
        limit = number(folder / "memory.limit_in_bytes")
        if limit is not None:
            cache = pairs(text(folder / "memory.stat"), " ").get("total_inactive_file", "0")
            yield limit, (number(folder / "memory.usage_in_bytes") or 0) - int(cache)


def _cores_v2(root: Path) -> Iterator[float]:
    for folder in _folders(root, ""):
        quota, _, period = text(folder / "cpu.max").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period or 100_000)


def _cores_v1(root: Path) -> Iterator[float]:
    for folder in _folders(root, "cpu"):
        quota = number(folder / "cpu.cfs_quota_us")
        if quota is not None and quota > 0:
            yield quota / (number(folder / "cpu.cfs_period_us") or 100_000)
