"""Diagnosis: is there room on the disks that the stack writes to?"""

from itertools import groupby

from aistack.hardware.host import Disk
from aistack.hardware.sizes import readable
from aistack.operations.diagnoses.base import Finding, Inputs, WantedRoom

_FEW_FILES = 10_000  # a virtual environment of Open WebUI alone has several times as many


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """One finding a file system: what the folders on it need together, against what is free."""
    rooms = [(inputs.disk(room.folder), room) for room in inputs.folders]
    rooms.sort(key=lambda pair: pair[0].device)
    return tuple(
        _examine([found for found, _ in group], [room for _, room in group])
        for group in (list(pairs) for _, pairs in groupby(rooms, key=lambda pair: pair[0].device))
    )


def _examine(disks: list[Disk], rooms: list[WantedRoom]) -> Finding:
    disk, folder = disks[0], rooms[0].folder
    needed = sum(room.bytes for room in rooms)
    purposes = ", ".join(f"{readable(room.bytes)} for {room.purpose}" for room in rooms)
    if disk.read_only:
        return Finding(
            "problem",
            "disk",
            f"the file system of {folder} is mounted read-only",
            "see `dmesg | tail` for the reason; then `mount -o remount,rw`",
        )
    if disk.free_bytes < needed:
        return Finding(
            "problem",
            "disk",
            f"{readable(disk.free_bytes)} free on the disk of {folder}, {readable(needed)} needed: {purposes}",
            f"free some space (`du -xh --max-depth=2 {folder} | sort -h`), "
            "or move paths.models or paths.programs to another disk in stack.toml",
        )
    if disk.free_files is not None and disk.free_files < _FEW_FILES:
        return Finding(
            "problem",
            "disk",
            f"the file system of {folder} has room for {disk.free_files} more files only",
            f"remove folders with many small files (`du -x --inodes {folder} | sort -n`)",
        )
    return Finding("ok", "disk", f"{readable(disk.free_bytes)} free for {folder}, {readable(needed)} needed")
