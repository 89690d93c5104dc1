"""The processor: its name, the cores we may use, and the instruction sets that decide a model's speed."""

from pathlib import Path
from typing import Literal

from aistack.hardware.control_groups import Limits
from aistack.hardware.host import Cpu
from aistack.hardware.tree import pairs, text

_DECISIVE = (
    "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def processor(root: Path, limits: Limits) -> Cpu:
    """The processor of the machine below `root`, with no more cores than process 1 and `limits` are granted.

    Our own affinity is the caller's: who runs us under taskset would otherwise change the settings of services that
    run. A fraction of a core is left out: the threads of llama.cpp wait for each other, so one thread
    more than the quota feeds makes all of them slow.
    """
    cpuinfo = text(root / "proc/cpuinfo")
    first = pairs(cpuinfo, ":")
    allowed = pairs(text(root / "proc/1/status"), ":").get("Cpus_allowed_list", "")
    cores = len(_usable(cpuinfo, allowed))
    if limits.cores is not None:
        cores = min(cores, int(limits.cores))
    flags = (first.get("flags") or first.get("Features") or "").split()
    return Cpu(
        model=_model(first, root),
        architecture=_architecture(first),
        cores=max(cores, 1),
        flags=tuple(flag for flag in _DECISIVE if flag in flags),
    )


def _usable(cpuinfo: str, allowed: str) -> set[int]:
    """The online processors that are `allowed`, in the kernel's list such as `0-3,8`."""
    online = {
        int(value)
        for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())
        if key.strip() == "processor" and value.strip().isdigit()
    }
    ours: set[int] = set()
    for part in filter(None, allowed.split(",")):
        low, _, high = part.partition("-")
        ours.update(range(int(low), int(high or low) + 1))
    return online & ours if ours else online


def _architecture(first: dict[str, str]) -> Literal["x86_64", "aarch64", "other"]:
    if "lm" in first.get("flags", "").split():
        return "x86_64"
    return "aarch64" if first.get("CPU architecture") == "8" else "other"


def _model(first: dict[str, str], root: Path) -> str:
    """ARM kernels give no name in cpuinfo: the board's, or the core's numbers, must do."""
    name = first.get("model name") or first.get("Model") or text(root / "proc/device-tree/model")
    if name:
        return name
    part = first.get("CPU part")
    return f"ARM core {first.get('CPU implementer', '')}:{part}" if part else "unknown processor"
