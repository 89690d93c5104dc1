"""The ground that the systemd runtime is tested on: a machine whose systemd does what a real one's does."""

import json
import re
from pathlib import Path

from images import local_package_folders, systemd_image
from machine import Machine, booted

REPOSITORY = Path(__file__).parents[2]
# The options that our units use or may use; each is known to work in such a machine.
_HARDENED = """\
[Unit]
Description=A service held in as far as it goes
[Service]
Type=notify
ExecStart=/usr/bin/python3 /opt/held.py
DynamicUser=yes
StateDirectory=held
LoadCredential=key:/etc/held.key
MemoryMax=200M
TasksMax=30
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
PrivateIPC=yes
ProtectProc=invisible
ProcSubset=pid
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
IPAddressDeny=any
IPAddressAllow=localhost
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
[Install]
WantedBy=multi-user.target
"""
# Says ready only after it has tried what it should and should not be able to do, and counts its starts.
_HELD = """\
import errno, json, mmap, os, pathlib, signal, socket

def refused(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

def send(host):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (host, 9))

state = pathlib.Path(os.environ["STATE_DIRECTORY"])
starts = state / "starts"
starts.write_text(str(int(starts.read_text()) + 1 if starts.exists() else 1))
(state / "found.json").write_text(json.dumps({
    "credential": pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], "key").read_text(),
    "root": os.getuid() == 0,
    "write /etc": refused(lambda: open("/etc/held", "w")),
    "write /tmp": refused(lambda: open("/tmp/held", "w")),
    "other processes": len([name for name in os.listdir("/proc") if name.isdigit()]) - 1,
    "writable code": refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
    "netlink": refused(lambda: socket.socket(socket.AF_NETLINK)),
    "loopback": refused(lambda: send("127.0.0.1")),
    "network": refused(lambda: send("192.0.2.1")),
}))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
notify.send(b"READY=1")
signal.pause()
"""
_FOUND = {
    "credential": "a secret", "root": False, "write /etc": "EROFS", "write /tmp": "allowed", "other processes": 0,
    "writable code": "EPERM", "netlink": "EAFNOSUPPORT", "loopback": "allowed", "network": "EPERM",
}  # fmt: skip


def test_systemd_is_the_first_process_and_nothing_failed(machine: Machine) -> None:
    assert machine.run("cat", "/proc/1/comm").stdout == "systemd\n"
    assert machine.run("systemctl", "is-system-running").stdout == "running\n"


def test_packages_come_from_where_this_machine_takes_its_own(machine: Machine) -> None:
    machine.run("apt-get", "update", "-q", timeout=120)
    machine.run("apt-get", "install", "-q", "-y", "--no-install-recommends", "logrotate", timeout=120)
    machine.run("python3", "-m", "venv", "/opt/venv")
    machine.run("/opt/venv/bin/pip", "install", "-q", "tomlkit==0.15.2", timeout=120)


def test_a_command_that_hangs_is_ended(machine: Machine) -> None:
    machine.run("sleep", "0.012345d", timeout=1, status=124)
    assert "0.012345d" not in machine.run("ps", "ax").stdout


def test_our_installer_starts_no_service_of_a_package(machine: Machine) -> None:
    with booted(
        machine.engine, systemd_image(machine.engine), "aistack-test-install", folders=local_package_folders()
    ) as own:
        own.copy_checkout(REPOSITORY, "/opt/aistack")
        own.run("python3", "-m", "venv", "/opt/venv")
        own.run("/opt/venv/bin/pip", "install", "-q", "--no-deps", "/opt/aistack", timeout=120)
        packages = ("prometheus-node-exporter", "nginx")
        own.run("/opt/venv/bin/python", "-m", "aistack.runtimes.debian", *packages, timeout=180)
        units = ("nginx.service", "prometheus-node-exporter.service")
        assert own.run("systemctl", "is-active", *units, status=None).stdout.split() == ["inactive"] * 2
        assert own.run("systemctl", "is-enabled", *units, status=None).stdout.split() == ["disabled"] * 2


def test_a_hardened_service_runs_held_in_and_survives_a_reboot(machine: Machine) -> None:
    with booted(
        machine.engine, systemd_image(machine.engine), "aistack-test-reboot", folders=local_package_folders()
    ) as own:
        own.write("/opt/held.py", _HELD)
        own.write("/etc/held.key", "a secret", "0600")
        own.write("/etc/systemd/system/held.service", _HARDENED)
        assert own.run("systemd-analyze", "verify", "/etc/systemd/system/held.service").stderr == ""
        own.run("systemctl", "enable", "--now", "held.service")
        assert json.loads(own.run("cat", "/var/lib/held/found.json").stdout) == _FOUND
        limit = own.run("systemctl", "show", "--property", "MemoryMax,TasksCurrent", "held.service").stdout
        assert "MemoryMax=209715200" in limit
        assert "TasksCurrent=1\n" in limit
        exposure = own.run("systemd-analyze", "security", "--no-pager", "held.service").stdout
        assert float(re.findall(r"Overall exposure level for held.service: ([\d.]+)", exposure)[0]) < 2

        own.reboot()
        assert own.run("systemctl", "is-active", "held.service").stdout == "active\n"
        assert own.run("cat", "/var/lib/held/starts").stdout == "2"
