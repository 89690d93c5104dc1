import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from aistack.hardware.facts import gather, parse_meminfo, parse_os_release
from aistack.hardware.host import Host, OperatingSystem
from aistack.hardware.sizes import GIB, KIB, readable
from aistack.system.run import run

AskHost = Callable[[str], Host]


def test_a_laptop_is_described_in_full(host: AskHost) -> None:
    laptop = host("laptop")
    assert laptop.cpu.model == "11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz"
    assert laptop.cpu.architecture == "x86_64"
    assert laptop.cpu.cores == 8
    assert {"avx2", "fma", "avx512f"} <= set(laptop.cpu.flags)
    assert laptop.os == OperatingSystem("ubuntu", "24.04", "Ubuntu 24.04.2 LTS")
    assert readable(laptop.memory_bytes) == "15.4 GiB"
    assert readable(laptop.memory_available_bytes) == "9.2 GiB"


def test_cores_that_the_machine_or_container_was_not_given_are_not_counted(host: AskHost) -> None:
    assert host("nvidia-two").cpu.cores == 25  # 0-23,26 of 48


def test_the_affinity_of_whoever_calls_takes_no_cores_away(tmp_path: Path) -> None:
    _files(
        tmp_path,
        {
            "proc/cpuinfo": "".join(f"processor : {number}\n" for number in range(4)),
            "proc/self/status": "Cpus_allowed_list:\t0\n",
            "proc/1/status": "Cpus_allowed_list:\t0-3\n",
        },
    )
    assert gather(run, tmp_path).cpu.cores == 4


def test_a_cgroup_v2_limit_is_the_memory_and_its_quota_the_cores(host: AskHost) -> None:
    container = host("container-v2")
    assert container.memory_bytes == 8 * GIB
    assert container.memory_available_bytes == 6 * GIB  # 3 used, of which 1 is cache the kernel gives back
    assert container.cpu.cores == 3  # a quota of 3.5


def test_a_cgroup_v1_limit_is_found_though_its_path_is_named_from_outside(host: AskHost) -> None:
    container = host("container-v1")
    assert container.memory_bytes == 4 * GIB
    assert container.memory_available_bytes == 4 * GIB - 2 * GIB + GIB // 2
    assert container.cpu.cores == 1  # never none, though the quota is half a core
    assert "avx2" not in container.cpu.flags


def test_the_tightest_of_nested_cgroup_limits_counts(tmp_path: Path) -> None:
    _files(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 64000000 kB\nMemAvailable: 60000000 kB\n",
            "proc/self/cgroup": "0::/outer/inner\n",
            "sys/fs/cgroup/outer/memory.max": f"{2 * GIB}",
            "sys/fs/cgroup/outer/memory.current": f"{GIB}",
            "sys/fs/cgroup/outer/inner/memory.max": f"{3 * GIB}",
            "sys/fs/cgroup/outer/inner/memory.current": "0",
        },
    )
    found = gather(run, tmp_path)
    assert (found.memory_bytes, found.memory_available_bytes) == (2 * GIB, GIB)


def test_a_cgroup_v1_without_a_limit_leaves_the_machines_memory(tmp_path: Path) -> None:
    _files(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 900 kB\n",
            "proc/self/cgroup": "4:memory:/\n2:cpu:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        },
    )
    found = gather(run, tmp_path)
    assert (found.memory_bytes, found.memory_available_bytes) == (1000 * KIB, 900 * KIB)


def test_an_arm_board_gives_its_name_and_its_own_instruction_sets(host: AskHost) -> None:
    board = host("arm-pi5")
    assert board.cpu.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert board.cpu.architecture == "aarch64"
    assert board.cpu.flags == ("asimd", "asimddp")
    assert board.cpu.cores == 4


def test_an_arm_server_without_a_board_name_is_still_told_apart(tmp_path: Path) -> None:
    cpuinfo = "processor : 0\nFeatures : fp asimd sve\nCPU implementer : 0x41\nCPU part : 0xd40\n"
    _files(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert gather(run, tmp_path).cpu.model == "ARM core 0x41:0xd40"


def test_names_and_addresses_are_those_that_others_can_use(host: AskHost) -> None:
    laptop = host("laptop")
    assert laptop.host_names == ("thinkpad", "thinkpad.home.example", "thinkpad.local")
    # Not Docker's bridges, not the privacy address that changes daily, not link-local.
    assert laptop.addresses == ("192.168.178.23", "2001:db8:0:1:211:22ff:fe33:4455")


def test_every_name_in_etc_hosts_of_the_machine_counts(host: AskHost) -> None:
    assert host("nvidia-24gb").host_names == ("ai1", "ai1.example.org", "chat.example.org")


def test_inside_a_container_its_own_address_counts(host: AskHost) -> None:
    assert host("container-v2").addresses == ("172.17.0.4",)


_TELL = "import pathlib; from aistack.hardware.network import addresses; print(*addresses(pathlib.Path(chr(47))))"
_REAL = """
ip link set lo up
ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0
ip link add br0 type bridge; ip address add 192.168.1.5/24 dev br0; ip link set br0 up
ip link add br-lan type bridge; ip address add 192.168.2.5/24 dev br-lan; ip link set br-lan up
ip link add br-0123456789ab type bridge; ip address add 172.18.0.1/16 dev br-0123456789ab
ip link set br-0123456789ab up
ip link add eth1 type bridge; ip address add 192.168.3.5/24 dev eth1
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root can make networks")
def test_docker_and_what_is_down_do_not_change_the_addresses_and_the_administrators_bridges_count() -> None:
    tell = f"{sys.executable} -c '{_TELL}'"
    script = f"set -e{_REAL}{tell}; ip link set docker0 up; {tell}; ip link delete docker0; {tell}"
    script += "; ip link add tunnel type bridge; ip address add 10.8.0.2/32 dev tunnel; ip link set tunnel up; " + tell
    told = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", f"mount -t sysfs sysfs /sys; {script}"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert told[:3] == ["192.168.1.5 192.168.2.5"] * 3
    assert "10.8.0.2" in told[3]


def test_a_machine_that_tells_nothing_is_described_without_failing(tmp_path: Path) -> None:
    found = gather(run, tmp_path)
    assert found.cpu.cores == 1
    assert found.memory_bytes == 0
    assert (found.gpus, found.host_names, found.addresses) == ((), (), ())


def test_os_release_may_lie_below_usr_lib_only(host: AskHost) -> None:
    assert host("container-v1").os.id == "debian"


def test_os_release_without_a_version_is_a_rolling_system() -> None:
    assert parse_os_release("ID=arch\nPRETTY_NAME='Arch Linux'\n") == OperatingSystem("arch", "", "Arch Linux")


def test_old_kernels_available_memory_is_reckoned() -> None:
    content = "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 20 kB\n"
    assert parse_meminfo(content) == (100 * KIB, 35 * KIB)


def test_this_machine_is_described_as_psutil_sees_it() -> None:
    here = gather(run)
    assert here.memory_bytes <= psutil.virtual_memory().total
    assert 0 < here.memory_available_bytes <= here.memory_bytes
    assert here.cpu.cores <= len(os.sched_getaffinity(1))
    assert here.host_names[0] == os.uname().nodename
    ours = {address.address for found in psutil.net_if_addrs().values() for address in found}
    assert set(here.addresses) <= ours


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 B"), (1536, "1.5 KiB"), (3 * GIB, "3 GiB"), (2000 * GIB, "2 TiB")]
)
def test_sizes_are_readable(size: int, expected: str) -> None:
    assert readable(size) == expected


def _files(root: Path, tree: dict[str, str]) -> None:
    for path, content in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
