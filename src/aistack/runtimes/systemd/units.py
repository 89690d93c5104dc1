"""RenderedService -> the text of its unit. Pure."""

import re
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass

from aistack.render import RenderedService
from aistack.runtimes.systemd.placement import PREFIX, STARTED, TARGET, SystemdPlacement, unit_name, user_name

HEAD = "# Written by aistack from stack.toml; the next `aistack up` replaces it.\n"
# Ours, in a section that systemd passes over.
_OWN = "X-Aistack"
# Without these, systemd-analyze would rightly ask why; what is left out for whom is said where it is.
_HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
PrivateTmp=yes
PrivateIPC=yes
ProtectSystem=strict
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
RemoveIPC=yes
DevicePolicy=closed
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
"""


@dataclass(frozen=True)
class Told:
    """What a unit file tells of the service it was written for."""

    health: str
    restart_hash: str
    reload_hash: str


def told(text: str) -> Told | None:
    """Read a unit's own section; None when it is none of ours."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    _, found, own = text.partition(f"[{_OWN}]")
    if not found:
        return None
    parser.read_string(found + own)
    section = parser[_OWN]
    return Told(section["Health"], section["RestartHash"], section["ReloadHash"])


def target(services: Sequence[RenderedService]) -> str:
    """The target that the whole stack hangs on."""
    wants = " ".join(unit_name(rendered.name) for rendered in services)
    return (
        f"{HEAD}[Unit]\nDescription=aistack: private AI service\nWants={wants}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def users(services: Sequence[RenderedService]) -> str:
    """sysusers.d(5): one for each service."""
    lines = (f'u {user_name(rendered.name)} - "aistack {rendered.name}"\n' for rendered in services)
    return HEAD + "".join(lines)


def unit(rendered: RenderedService, place: SystemdPlacement, systemd_version: int) -> str:
    """The unit of one service. `place` answers where things are."""
    lines = [
        "[Unit]", *_unit_section(rendered), "",
        "[Service]", *_start(rendered, place), *_restart(systemd_version), *_sandbox(rendered, place), "",
        f"[{_OWN}]",
        f"Health={health_url(rendered, place)}",
        f"RestartHash={rendered.restart_hash}",
        f"ReloadHash={rendered.reload_hash}",
    ]  # fmt: skip
    return f"{HEAD}# Change it by a drop-in, which stays: systemctl edit {unit_name(rendered.name)}\n" + "".join(
        f"{line}\n" for line in lines
    )


def health_url(rendered: RenderedService, place: SystemdPlacement) -> str:
    """Where the service tells whether it is well."""
    return place.url(rendered.name, rendered.service.health.port) + rendered.health


def _unit_section(rendered: RenderedService) -> Iterator[str]:
    needed = " ".join(unit_name(name) for name in rendered.service.after)
    yield f"Description=aistack: {rendered.service.title}"
    yield f"PartOf={TARGET}"
    yield f"Before={TARGET}"
    yield f"After=network.target {needed}".rstrip()
    if needed:
        yield f"Wants={needed}"
    # It is started again for as long as it takes; how often is for the alerts to tell.
    yield "StartLimitIntervalSec=0"


def _start(rendered: RenderedService, place: SystemdPlacement) -> Iterator[str]:
    service = rendered.service
    yield "Type=exec"
    yield f"User={user_name(service.name)}"
    for name, value in {**place.environment, **rendered.environment}.items():
        yield f"Environment={_assignment(name, value)}"
    for name in service.secret_names:
        yield f"LoadCredential={name}:{place.original(place.secret(service.name, name))}"
    note = f"mkdir -p {STARTED} && echo {rendered.restart_hash} {rendered.reload_hash} > {STARTED}/{service.name}"
    yield f"ExecStartPre=+{_command(('/bin/sh', '-c', note))}"
    hand = [_hand(rendered, place, name) for name in service.handed]
    yield from (f"ExecStartPre=+{command}" for command in hand)
    if rendered.prepare:
        yield f"ExecStartPre={_command((*place.module_command, *rendered.prepare))}"
    yield f"ExecStart={_command(_program(rendered, place))}"
    gate = (*place.module_command, "aistack.runtimes.systemd.ready", health_url(rendered, place),
            f"{service.health.start_seconds:.0f}")  # fmt: skip
    yield f"ExecStartPost={_command(gate)}"
    yield from (f"ExecReload=+{command}" for command in hand)
    yield "ExecReload=/bin/kill -HUP $MAINPID"
    yield f"TimeoutStartSec={service.health.start_seconds + 10:.0f}"
    yield f"TimeoutStopSec={service.stop_seconds:.0f}"
    yield "KillMode=mixed"


def _restart(systemd_version: int) -> Iterator[str]:
    yield "Restart=always"
    yield "RestartSec=1"
    if systemd_version >= 254:
        yield "RestartSteps=5"
        yield "RestartMaxDelaySec=30"


def _sandbox(rendered: RenderedService, place: SystemdPlacement) -> Iterator[str]:
    service = rendered.service
    folders = [(place.state_directory(service.name, state.name), state.mode) for state in service.states]
    if folders:
        yield f"StateDirectory={' '.join(folder for folder, _ in folders)}"
        yield f"StateDirectoryMode={folders[0][1]:04o}"
    if service.handed:
        yield f"RuntimeDirectory={PREFIX}{service.name}"
        yield "RuntimeDirectoryMode=0700"
    low_ports = any(port.number < 1024 for port in service.ports)
    yield from _HARDENING.format(capabilities="CAP_NET_BIND_SERVICE" if low_ports else "").splitlines()
    # A capability of the machine's own is worth nothing in a user namespace.
    yield f"PrivateUsers={'no' if low_ports else 'yes'}"
    yield "MemoryDenyWriteExecute=yes"
    yield f"ProtectHome={'read-only' if service.sees_machine else 'yes'}"
    yield f"ProtectProc={'default' if service.sees_machine else 'invisible'}"
    yield f"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX{' AF_NETLINK' if service.sees_machine else ''}"
    yield from _devices(rendered, place)
    if not (service.outbound or any(port.public for port in service.ports)):
        yield "IPAddressDeny=any"
        yield "IPAddressAllow=localhost"
    if service.memory_mib:
        yield f"MemoryMax={service.memory_mib}M"
    yield f"TasksMax={service.tasks}"
    yield "LimitNOFILE=65536"


def _devices(rendered: RenderedService, place: SystemdPlacement) -> Iterator[str]:
    vendor = place.gpu if rendered.service.uses_gpu else ""
    kinds = {"nvidia": ("char-nvidia", "char-nvidia-uvm", "char-nvidia-caps"), "amd": ("char-kfd", "char-drm")}
    yield f"PrivateDevices={'no' if vendor else 'yes'}"
    if vendor:
        yield from (f"DeviceAllow={kind} rw" for kind in kinds[vendor])
        yield "SupplementaryGroups=render video"


def _hand(rendered: RenderedService, place: SystemdPlacement, name: str) -> str:
    there = place.handed(rendered.name, name)
    return _command(
        ("/usr/bin/install", "-m", "0400", "-o", user_name(rendered.name), str(place.original(there)), there)
    )


def _program(rendered: RenderedService, place: SystemdPlacement) -> tuple[str, ...]:
    if not rendered.secret_environment:
        return rendered.argv
    secrets = tuple(part for name, value in rendered.secret_environment.items()
                    for part in ("--secret", name, value.name, value.form))  # fmt: skip
    return (*place.module_command, "aistack.runtimes.systemd.become", *secrets, "--", *rendered.argv)


def _command(argv: Sequence[str]) -> str:
    return " ".join(_word(part).replace("$", "$$") for part in argv)


def _assignment(name: str, value: str) -> str:
    return _word(f"{name}={value}")


def _word(text: str) -> str:
    """One word for systemd, as systemd.syntax(7) and systemd.unit(5) have quotes and specifiers."""
    if re.fullmatch(r"[A-Za-z0-9_./:=,@+-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'
