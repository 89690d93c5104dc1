"""Diagnosis: is there a graphics card that could compute and does not?"""

from aistack.hardware.host import Gpu
from aistack.hardware.sizes import readable
from aistack.operations.diagnoses.base import Finding, Inputs


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A finding for each card. A driver that is there and fails is a problem; no driver, a warning:
    the stack runs on the processor, only slower."""
    return tuple(_examine(gpu) for gpu in inputs.host.gpus) or (Finding("ok", "graphics", "no graphics card"),)


def _examine(gpu: Gpu) -> Finding:
    if gpu.usable:
        memory = f", {readable(gpu.memory_bytes)}" if gpu.memory_bytes else ""
        return Finding("ok", "graphics", f"{gpu.name}{memory}, driver {gpu.driver}")
    message = f"{gpu.name} is not usable: {gpu.why}"
    if not gpu.cure:
        return Finding("ok", "graphics", message)
    fails = gpu.driver in ("nvidia", "amdgpu")
    return Finding("problem" if fails else "warning", "graphics", message, gpu.cure)
