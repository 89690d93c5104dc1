"""The PCI bus as the kernel lists it, cut down to the cards that could compute."""

from dataclasses import dataclass
from pathlib import Path

from aistack.hardware.host import Vendor
from aistack.hardware.tree import pairs, text

_VENDORS: dict[str, Vendor] = {"10DE": "nvidia", "1002": "amd", "8086": "intel"}
_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
_DISPLAY, _ACCELERATOR = 0x03, 0x12  # the upper byte of a PCI class code


@dataclass(frozen=True)
class Card:
    """A display controller or accelerator. `address` is like `0000:01:00.0`, `id` like `10de:2684`."""

    address: str
    vendor: Vendor
    id: str
    driver: str | None

    @property
    def label(self) -> str:
        """The best name that the bus alone gives."""
        return f"{_NAMES[self.vendor]} GPU {self.id}"


def cards(root: Path) -> tuple[Card, ...]:
    """The cards of the three vendors below `root`, in the order of the bus."""
    folder = root / "sys/bus/pci/devices"
    if not folder.is_dir():
        return ()
    found = (_card(device) for device in sorted(folder.iterdir()))
    return tuple(card for card in found if card is not None)


def _card(device: Path) -> Card | None:
    event = pairs(text(device / "uevent"), "=")
    kind = int(event.get("PCI_CLASS", "0"), 16) >> 16
    vendor = _VENDORS.get(event.get("PCI_ID", "").partition(":")[0])
    if vendor is None or kind not in (_DISPLAY, _ACCELERATOR):
        return None
    return Card(device.name, vendor, event["PCI_ID"].lower(), event.get("DRIVER"))
