"""Diagnosis: is there memory enough for the stack?"""

import psutil

from aistack.hardware.sizes import readable
from aistack.operations.diagnoses.base import Finding, Inputs

_CURE = "choose a smaller models.chat, or lower engine.max_loaded_models, num_parallel or context_length"


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """Compares what the stack needs with what is free, counting what its processes hold already as free."""
    needed = inputs.memory_needed_bytes
    total = inputs.host.memory_bytes
    free = min(inputs.host.memory_available_bytes + held_bytes(inputs.own_pids), total)
    if needed > total:
        message = f"the stack needs {readable(needed)} of memory, and this machine has {readable(total)}"
        return (Finding("problem", "memory", message, _CURE),)
    if needed > free:
        message = f"the stack needs {readable(needed)} of memory, and {readable(free)} of {readable(total)} is free"
        return (Finding("warning", "memory", message, f"end other programs (see `top -o %MEM`), or {_CURE}"),)
    return (Finding("ok", "memory", f"{readable(free)} free, {readable(needed)} needed"),)


def held_bytes(pids: frozenset[int]) -> int:
    """The memory that the processes and their children hold for themselves.

    File-backed pages, such as a model mapped into memory, are left out: the kernel gives them back
    and counts them as available.
    """
    return sum(_private(process) for process in _with_children(pids))


def _with_children(pids: frozenset[int]) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found.update((process, *process.children(recursive=True)))
        except psutil.NoSuchProcess:
            continue  # it ended since the list was made, and holds nothing
    return found


def _private(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return max(int(memory.rss) - int(memory.shared), 0)
