"""Diagnosis: is the clock right? Without asking a network, so only what the machine itself can tell."""

from datetime import UTC, datetime

from aistack.errors import ProgramError
from aistack.hardware.clock import newest_change
from aistack.operations.diagnoses.base import Finding, Inputs

_TOLERANCE_S = 300.0  # as Kerberos has it; TLS and tokens fail from there on
_QUARTER_S = 900.0
_LARGEST_ZONE_S = 14 * 3600.0
_SET = "set it (`sudo timedatectl set-ntp true`, or `sudo date -s 'YYYY-MM-DD HH:MM'`)"


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """Behind a file's last change: wrong for sure. Away from the hardware clock, or kept by nothing: a
    warning. A clock that is ahead, on a machine without a hardware clock, cannot be told."""
    now = inputs.now.timestamp()
    return _behind_files(inputs, now) or _away_from_hardware(inputs, now) or (_kept(inputs),)


def _behind_files(inputs: Inputs, now: float) -> tuple[Finding, ...]:
    newest = newest_change(inputs.clock_witnesses)
    if newest is None or newest[0] <= now + _TOLERANCE_S:
        return ()
    changed, path = newest
    message = f"the clock says {_time(now)}, but {path} was changed on {_time(changed)}: the clock is behind"
    return (Finding("problem", "clock", message, _SET),)


def _away_from_hardware(inputs: Inputs, now: float) -> tuple[Finding, ...]:
    hardware = inputs.hardware_clock()
    if hardware is None:
        return ()
    # Kept in local time, it differs by a time zone: whole quarters of an hour, 14 hours at most.
    difference = abs(hardware - now)
    beyond_zone = abs(difference - round(difference / _QUARTER_S) * _QUARTER_S)
    if difference <= _LARGEST_ZONE_S + _TOLERANCE_S and beyond_zone <= _TOLERANCE_S:
        return ()
    message = f"the clock says {_time(now)}, the hardware clock {_time(hardware)}: one of them is wrong"
    return (Finding("warning", "clock", message, f"{_SET}, then `sudo hwclock --systohc`"),)


def _kept(inputs: Inputs) -> Finding:
    says = f"the clock says {_time(inputs.now.timestamp())}"
    synchronised = inputs.synchronised()
    if synchronised is None:
        synchronised = _timedatectl(inputs)
    if synchronised:
        return Finding("ok", "clock", f"{says} and is kept right by a time service")
    if synchronised is None:
        return Finding("ok", "clock", f"{says}; whether it is kept right cannot be seen from here")
    return Finding(
        "warning",
        "clock",
        f"{says}, nothing known contradicts it, but no time service keeps it right",
        "install one: `sudo apt-get install systemd-timesyncd` (or chrony), `sudo timedatectl set-ntp true`; "
        "in a container or virtual machine, do so on the host",
    )


def _timedatectl(inputs: Inputs) -> bool | None:
    """What systemd knows, for places where the kernel does not answer us; None without systemd."""
    try:
        done = inputs.run(("timedatectl", "show", "--property=NTPSynchronized", "--value"), timeout_s=10)
    except ProgramError:
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip()) if done.status == 0 else None


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
