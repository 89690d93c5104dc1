"""Reads what this machine is, all below a root path, so that a folder of files can stand in for a host."""

from pathlib import Path

from aistack.hardware.control_groups import limits
from aistack.hardware.graphics import gpus
from aistack.hardware.host import Host, OperatingSystem, Run
from aistack.hardware.network import addresses, host_names
from aistack.hardware.processor import processor
from aistack.hardware.sizes import KIB
from aistack.hardware.tree import pairs, text


def gather(run: Run, root: Path = Path("/")) -> Host:
    """The machine below `root`. `run` asks nvidia-smi and rocm-smi, only where such a card is seen."""
    allowed = limits(root)
    total, available = parse_meminfo(text(root / "proc/meminfo"))
    if allowed.memory_bytes is not None:
        total = min(total, allowed.memory_bytes)
    if allowed.memory_left_bytes is not None:
        available = min(available, allowed.memory_left_bytes)
    return Host(
        cpu=processor(root, allowed),
        memory_bytes=total,
        memory_available_bytes=available,
        gpus=gpus(root, run),
        os=parse_os_release(text(root / "etc/os-release") or text(root / "usr/lib/os-release")),
        host_names=host_names(root),
        addresses=addresses(root),
    )


def parse_meminfo(content: str) -> tuple[int, int]:
    """/proc/meminfo as (total, available) in bytes; kernels older than 3.14 give no MemAvailable."""
    fields = pairs(content, ":")

    def size(name: str) -> int:
        return int(fields.get(name, "0").removesuffix("kB")) * KIB

    available = size("MemAvailable") or size("MemFree") + size("Buffers") + size("Cached")
    return size("MemTotal"), available


def parse_os_release(content: str) -> OperatingSystem:
    """os-release(5): shell assignments with optional quotes."""
    fields = {key: value.strip("\"'") for key, value in pairs(content, "=").items()}
    name = fields.get("ID", "linux")
    return OperatingSystem(name, fields.get("VERSION_ID", ""), fields.get("PRETTY_NAME", name))
