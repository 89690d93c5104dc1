"""One change at a time: the lock that `up`, `down`, `restart` and `move` hold."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from aistack.errors import UserError
from aistack.system import files


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Hold the stack's lock. Raises UserError at once when another command holds it; the kernel frees it on death."""
    files.make_directory(folder.parent, 0o711)
    files.make_directory(folder, 0o700)
    path = folder / "change.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise files.explained(error, path) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another aistack command is changing this stack", "wait for it, or look at `aistack status`"
            ) from None
        yield
    finally:
        os.close(descriptor)
