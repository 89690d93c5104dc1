"""The graphics cards on the PCI bus, each described by what its vendor's driver and tool say of it."""

from pathlib import Path

from aistack.hardware import amd, nvidia
from aistack.hardware.host import Gpu, Run
from aistack.hardware.pci import Card, cards


def gpus(root: Path, run: Run) -> tuple[Gpu, ...]:
    """Every GPU of the machine below `root`, NVIDIA's first, in the order of the bus.

    Vendor tools are asked only where a card or driver of that vendor is seen.
    """
    found = cards(root)
    return (
        *nvidia.gpus(root, run, tuple(card for card in found if card.vendor == "nvidia")),
        *amd.gpus(root, run, tuple(card for card in found if card.vendor == "amd")),
        *(_intel(card) for card in found if card.vendor == "intel"),
    )


def _intel(card: Card) -> Gpu:
    return Gpu("intel", card.label, None, card.driver, usable=False, why="the engines here do not use Intel graphics")
