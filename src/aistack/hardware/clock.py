"""What the machine itself knows about the time, for `doctor`: no network is asked."""

import ctypes
import os
import struct
from pathlib import Path

from aistack.hardware.tree import number

_TIMEX_BYTES = 208  # sizeof(struct timex) on 64-bit Linux
_STATUS_OFFSET = 40  # of its field `status`
_STA_UNSYNC = 0x40


def synchronised() -> bool | None:
    """Whether a time service (any: chrony, ntpd, systemd-timesyncd) keeps the clock right, by adjtimex(2).

    None where the kernel does not tell, as in most containers.
    """
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only read
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (AttributeError, OSError):
        return None
    if answer < 0:
        return None
    (status,) = struct.unpack_from("i", timex.raw, _STATUS_OFFSET)
    return not status & _STA_UNSYNC


def hardware_clock(root: Path = Path("/")) -> float | None:
    """The battery-backed clock as seconds since 1970 UTC, or None when there is none.

    It may be kept in local time, so it can be whole quarters of an hour away from the truth.
    """
    return number(root / "sys/class/rtc/rtc0/since_epoch")


def newest_change(paths: tuple[Path, ...]) -> tuple[float, Path] | None:
    """The latest modification among `paths` (seconds since 1970) and whose it is; None when none exists."""
    found = [(os.stat(path).st_mtime, path) for path in paths if path.exists()]  # noqa: PTH116
    return max(found, default=None)
