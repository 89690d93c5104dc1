"""AMD cards: the driver's own files say whether they can compute, rocm-smi only what they are called."""

import json
import os
from pathlib import Path

from aistack.errors import ProgramError
from aistack.hardware.host import Gpu, Run
from aistack.hardware.pci import Card
from aistack.hardware.tree import number, text

QUERY = ("rocm-smi", "--showproductname", "--showbus", "--json")
_NAME_KEYS = ("Card Series", "Card series", "Device Name")


def parse(output: str) -> dict[str, str]:
    """The answer to QUERY as {PCI address: product name}; empty when it is not the JSON we know."""
    try:
        answer = json.loads(output)
    except ValueError:
        return {}
    found = {}
    for card in answer.values() if isinstance(answer, dict) else ():
        name = next((card[key] for key in _NAME_KEYS if card.get(key)), None)
        if name and "PCI Bus" in card:
            found[str(card["PCI Bus"]).lower()] = str(name)
    return found


def gpus(root: Path, run: Run, cards: tuple[Card, ...]) -> tuple[Gpu, ...]:
    """The AMD cards on the bus. Engines bring their own ROCm: the driver and /dev/kfd are all they need."""
    names = _names(run) if cards else {}
    return tuple(_describe(root, card, names.get(card.address, "")) for card in cards)


def _names(run: Run) -> dict[str, str]:
    try:
        done = run(QUERY, timeout_s=30)
    except ProgramError:
        return {}  # it only knows the names
    return parse(done.stdout)


def _describe(root: Path, card: Card, name: str) -> Gpu:
    folder = root / "sys/bus/pci/devices" / card.address
    why, cure = _obstacle(root, card)
    return Gpu(
        vendor="amd",
        name=name or text(folder / "product_name") or card.label,
        memory_bytes=number(folder / "mem_info_vram_total"),
        driver=text(root / "sys/module/amdgpu/version") or card.driver,
        usable=not why,
        why=why or "amdgpu drives it and /dev/kfd is open to us",
        cure=cure,
    )


def _obstacle(root: Path, card: Card) -> tuple[str, str]:
    """Why the card cannot compute, and the cure; both empty when it can."""
    kfd = root / "dev/kfd"
    if card.driver == "vfio-pci":
        return "it is reserved for virtual machines (vfio-pci)", ""
    if card.driver != "amdgpu":
        return (
            f"it runs with {card.driver or 'no driver'}, not amdgpu",
            "run `modprobe amdgpu`; on Debian `apt-get install firmware-amd-graphics` "
            "(from non-free-firmware) and reboot",
        )
    if not kfd.exists():
        return (
            "/dev/kfd, through which it computes, is not there",
            "load the amdgpu module with KFD (kernel 5.6 or newer); in a container pass --device=/dev/kfd "
            "and --device=/dev/dri",
        )
    if not os.access(kfd, os.R_OK | os.W_OK):
        return "this user may not open /dev/kfd", "run `usermod -aG render,video USER`, then sign in again"
    return "", ""
