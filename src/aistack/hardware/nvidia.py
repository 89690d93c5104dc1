"""NVIDIA cards: what nvidia-smi says, and when it fails, why and what to do."""

from dataclasses import dataclass
from pathlib import Path

from aistack.errors import ProgramError
from aistack.hardware.host import Gpu, Run
from aistack.hardware.pci import Card
from aistack.hardware.sizes import MIB
from aistack.hardware.tree import pairs, text

QUERY = (
    "nvidia-smi",
    "--query-gpu=pci.bus_id,name,memory.total,driver_version",
    "--format=csv,noheader,nounits",
)

# What nvidia-smi writes when it fails, what that means, what helps.
_FAILURES = (
    (
        "version mismatch",
        "the driver was updated, but the old one is still loaded",
        "reboot the machine",
    ),
    (
        "couldn't communicate with the nvidia driver",
        "its kernel module is not loaded",
        "run `modprobe nvidia`; if that fails, install the headers of this kernel "
        "(`apt-get install linux-headers-$(uname -r)`), run `dkms autoinstall` and reboot; "
        "with Secure Boot on, the module must also be signed",
    ),
    (
        "no devices were found",
        "the driver is loaded but finds no card it can drive",
        "look at `dmesg | grep -i nvrm`: the driver may be too old or too new for the card, or the card is not powered",
    ),
    (
        "unknown error",
        "the driver lost access to the card, which happens to containers after `systemctl daemon-reload`",
        "restart the container; to keep it from happening again, set "
        '"exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json',
    ),
    (
        "insufficient permissions",
        "this user may not open /dev/nvidia*",
        "add the user to the group that owns /dev/nvidia0 (usually `usermod -aG video,render USER`)",
    ),
)


@dataclass(frozen=True)
class Listed:
    """One line of `nvidia-smi`; `memory_bytes` is None for chips that share the host's memory."""

    address: str
    name: str
    memory_bytes: int | None
    driver: str


def parse(output: str) -> tuple[Listed, ...]:
    """The answer to QUERY: a card a line, `00000000:01:00.0, NVIDIA L4, 23034, 550.54.15`, memory in MiB."""
    found = []
    for line in output.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4:
            address, name, memory, driver = fields
            size = int(memory) * MIB if memory.isdigit() else None
            found.append(Listed(_as_kernel_writes(address), name, size, driver))
    return tuple(found)


def gpus(root: Path, run: Run, cards: tuple[Card, ...]) -> tuple[Gpu, ...]:
    """The NVIDIA cards: those on the bus, and those that only nvidia-smi sees (WSL)."""
    if not cards and not (root / "dev/dxg").exists():
        return ()
    listed, why, cure = _ask(run)
    seen = {one.address: one for one in listed}
    ready = [
        Gpu("nvidia", one.name, one.memory_bytes, one.driver, usable=True, why="nvidia-smi lists it") for one in listed
    ]
    missing = [card for card in cards if card.address not in seen]
    if listed:
        why, cure = "nvidia-smi does not list it: it failed, or was not given to this container", ""
    return (*ready, *(_unusable(root, card, why, cure) for card in missing))


def _ask(run: Run) -> tuple[tuple[Listed, ...], str, str]:
    """The cards that nvidia-smi lists, else none with why and cure."""
    try:
        done = run(QUERY, timeout_s=30)
    except ProgramError as error:
        return (
            (),
            error.message,
            "install the package with nvidia-smi; if it is there and hangs, reboot the machine",
        )
    listed = parse(done.stdout) if done.status == 0 else ()
    if listed:
        return listed, "", ""
    said = f"{done.stdout}\n{done.stderr}".strip()
    for fragment, why, cure in _FAILURES:
        if fragment in said.lower():
            return (), why, cure
    first = (said.splitlines() or ["nothing"])[0]
    return (
        (),
        f"nvidia-smi failed with status {done.status} and said: {first}",
        "see `dmesg | grep -i nvrm`; reboot",
    )


def _unusable(root: Path, card: Card, why: str, cure: str) -> Gpu:
    why, cure = _without_driver(root, card) or (why, cure)
    details = pairs(text(root / "proc/driver/nvidia/gpus" / card.address / "information"), ":")
    name = details.get("Model") or card.label
    return Gpu("nvidia", name, None, card.driver, usable=False, why=why, cure=cure)


def _without_driver(root: Path, card: Card) -> tuple[str, str] | None:
    """Why and cure when NVIDIA's driver does not hold the card, whatever nvidia-smi says; else None."""
    install = (
        "install NVIDIA's driver (Debian: `apt-get install nvidia-driver` from non-free; "
        "Ubuntu: `ubuntu-drivers install`) and reboot"
    )
    if card.driver == "vfio-pci":
        return "it is reserved for virtual machines (vfio-pci)", ""
    if card.driver == "nouveau":
        return "it runs with the nouveau driver, which cannot compute", install
    if card.driver is None and not (root / "usr/bin/nvidia-smi").exists():
        return "no driver is installed for it", install
    return None


def _as_kernel_writes(address: str) -> str:
    """nvidia-smi gives the PCI domain eight digits in capitals, the kernel four small ones."""
    domain, _, rest = address.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}" if domain else address
