"""The room on the file system below a folder."""

import os
from pathlib import Path

from aistack.hardware.host import Disk


def disk(folder: Path) -> Disk:
    """The file system that `folder` lies on, or would lie on once it is made."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    found = os.statvfs(existing)
    return Disk(
        folder=folder,
        device=existing.stat().st_dev,
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        free_files=found.f_favail if found.f_files else None,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )
