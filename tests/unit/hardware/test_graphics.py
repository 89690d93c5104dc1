from collections.abc import Callable
from pathlib import Path

import pytest

from aistack.errors import ProgramError
from aistack.hardware import amd, nvidia
from aistack.hardware.graphics import gpus
from aistack.hardware.host import Gpu, Host
from aistack.hardware.sizes import GIB, MIB
from aistack.system.run import Finished

AskHost = Callable[[str], Host]


def test_an_nvidia_card_is_read_from_nvidia_smi(host: AskHost) -> None:
    (card,) = host("nvidia-24gb").gpus
    assert card == Gpu("nvidia", "NVIDIA GeForce RTX 4090", 24564 * MIB, "550.163.01", True, "nvidia-smi lists it")


def test_a_card_that_nvidia_smi_leaves_out_is_not_usable_while_the_others_are(host: AskHost) -> None:
    first, second, third = host("nvidia-two").gpus
    assert first.usable
    assert second.usable
    assert not third.usable
    assert third.name == "NVIDIA L4"
    assert "not given to this container" in third.why


def test_a_broken_driver_says_why_and_the_cure(host: AskHost) -> None:
    (card,) = host("nvidia-broken").gpus
    assert not card.usable
    assert card.name == "NVIDIA GeForce RTX 3060"
    assert "updated" in card.why
    assert card.cure == "reboot the machine"


def test_an_amd_card_is_usable_through_kfd_and_its_processor_graphics_is_not(host: AskHost) -> None:
    card, built_in = host("amd-rx7900").gpus
    assert (card.vendor, card.name, card.driver, card.usable) == ("amd", "Radeon RX 7900 XTX", "6.10.5", True)
    assert card.memory_bytes == 25753026560
    assert not built_in.usable
    assert "no driver" in built_in.why
    assert built_in.name == "AMD GPU 1002:1636"


def test_intel_graphics_is_listed_and_nothing_to_cure(host: AskHost) -> None:
    (card,) = host("laptop").gpus
    assert (card.vendor, card.usable, card.cure) == ("intel", False, "")


def test_no_vendor_tool_is_asked_where_no_card_is(
    host_root: Callable[[str], Path], recorded: Callable[[str], "Asked"]
) -> None:
    run = recorded("laptop")
    gpus(host_root("laptop"), run)
    assert run.asked == []


class Asked:
    """An answer that is always the same."""

    def __init__(self, *answer: Finished) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, argv: object, *, timeout_s: float | None = None) -> Finished:
        if not self.answer:
            raise ProgramError("nvidia-smi is not installed")
        return self.answer[0]


@pytest.mark.parametrize(
    ("said", "why", "cure"),
    [
        ("NVIDIA-SMI failed because it couldn't communicate with the NVIDIA driver.", "module", "modprobe"),
        ("No devices were found", "finds no card", "dmesg"),
        ("Failed to initialize NVML: Unknown Error", "containers", "cgroupfs"),
        ("Failed to initialize NVML: Insufficient Permissions", "may not open", "usermod"),
        ("Segmentation fault", "Segmentation fault", "dmesg"),
    ],
)  # fmt: skip
def test_each_way_nvidia_smi_fails_is_told_apart(tmp_path: Path, said: str, why: str, cure: str) -> None:
    _card(tmp_path, "10DE:2684", "nvidia")
    (card,) = gpus(tmp_path, Asked(Finished(9, said, "")))
    assert not card.usable
    assert why in card.why
    assert cure in card.cure


@pytest.mark.parametrize(
    ("driver", "why", "has_cure"),
    [("nouveau", "nouveau", True), ("vfio-pci", "virtual machines", False), (None, "no driver", True)],
)
def test_a_card_without_nvidias_driver_says_what_holds_it(
    tmp_path: Path, driver: str | None, why: str, has_cure: bool
) -> None:
    _card(tmp_path, "10DE:2684", driver)
    (card,) = gpus(tmp_path, Asked())
    assert why in card.why
    assert bool(card.cure) is has_cure


def test_an_nvidia_driver_without_nvidia_smi_is_not_called_usable(tmp_path: Path) -> None:
    _card(tmp_path, "10DE:2684", "nvidia")
    (card,) = gpus(tmp_path, Asked())
    assert (card.usable, card.why) == (False, "nvidia-smi is not installed")


def test_a_card_that_only_nvidia_smi_sees_is_taken_under_wsl(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").touch()
    (card,) = gpus(tmp_path, Asked(Finished(0, "00000000:01:00.0, NVIDIA RTX A2000, 4096, 551.61\n", "")))
    assert (card.usable, card.memory_bytes) == (True, 4 * GIB)


def test_memory_shared_with_the_host_is_no_number() -> None:
    (card,) = nvidia.parse("0000000F:01:00.0, NVIDIA GB10, [N/A], 580.95.05\n")
    assert (card.address, card.memory_bytes) == ("000f:01:00.0", None)


def test_amd_without_kfd_names_the_device_to_pass_on(tmp_path: Path) -> None:
    _card(tmp_path, "1002:744C", "amdgpu")
    (card,) = gpus(tmp_path, Asked())
    assert not card.usable
    assert "/dev/kfd" in card.why
    assert "--device=/dev/kfd" in card.cure


@pytest.mark.parametrize("output", ["", "WARNING: no GPU", "[]", '{"card0": {"Card Model": "0x1"}}'])
def test_an_unknown_answer_of_rocm_smi_gives_no_names(output: str) -> None:
    assert amd.parse(output) == {}


def test_rocm_smis_bus_addresses_are_matched_whatever_their_case() -> None:
    assert amd.parse('{"card0": {"PCI Bus": "0000:C4:00.0", "Device Name": "Phoenix3"}}') == {
        "0000:c4:00.0": "Phoenix3"
    }


def _card(root: Path, identity: str, driver: str | None) -> None:
    folder = root / "sys/bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    held = f"DRIVER={driver}\n" if driver else ""
    (folder / "uevent").write_text(f"{held}PCI_CLASS=30000\nPCI_ID={identity}\n")
