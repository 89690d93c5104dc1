"""The folder of what is still coming in, `models/.partial`: the only writer of downloaded and copied files.

`<key>.part` grows, `<key>` is whole and verified, `<key>.lock` is held by the process that works on it.
A process that is killed leaves its part, and the next one goes on from there.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from aistack.errors import ModelError
from aistack.system import files

FOLDER = ".partial"
_READ_SIZE = 1 << 20
_ABANDONED_S = 14 * 24 * 3600.0
_SPARE = 64 << 20  # bytes to leave free, so that logs and databases beside the models can go on


class DiskUsage(Protocol):
    """What `shutil.disk_usage` gives; only the free bytes matter."""

    @property
    def free(self) -> int: ...


MeasureDisk = Callable[[Path], DiskUsage]


class Partial:
    """A file that grows, and its sha256 with it. What was there before is kept and counted in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._file = path.open("ab+", buffering=0)
        self._file.seek(0)
        while chunk := self._file.read(_READ_SIZE):
            self._count(chunk)

    @property
    def digest(self) -> str:
        """`sha256:` and the hexadecimal digest of what is there."""
        return f"sha256:{self._hash.hexdigest()}"

    def append(self, chunk: bytes) -> None:
        """Write `chunk` at the end. Raises UserError when the disk is full."""
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise files.explained(error, self.path) from error
        self._count(chunk)

    def restart(self) -> None:
        """Forget everything."""
        self._file.truncate(0)
        self.size = 0
        self._hash = hashlib.sha256()

    def finish(self, target: Path) -> Path:
        """Make the file `target`, safe against a power cut."""
        os.fsync(self._file.fileno())
        self.path.replace(target)
        return target

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._hash.update(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Partials:
    """The folder `.partial` below `models_folder`."""

    def __init__(self, models_folder: Path, measure_disk: MeasureDisk = shutil.disk_usage) -> None:
        self.folder = models_folder / FOLDER
        self._measure_disk = measure_disk
        files.make_directory(self.folder)

    def ready(self, key: str) -> Path:
        """Where the whole file `key` lies, or will lie."""
        return self.folder / key

    def part(self, key: str) -> Path:
        """Where the growing file `key` lies, or will lie."""
        return self.folder / f"{key}.part"

    def have(self, key: str) -> int:
        """How many bytes of `key` are here already."""
        for path in (self.ready(key), self.part(key)):
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def grow(self, key: str) -> Partial:
        """Open the growing file `key`. Raises UserError when it cannot be written."""
        try:
            return Partial(self.part(key))
        except OSError as error:
            raise files.explained(error, self.part(key)) from error

    def need(self, size: int, what: str) -> None:
        """Raise ModelError unless `size` more bytes fit on the disk."""
        free = self._measure_disk(self.folder).free
        if size + _SPARE > free:
            raise ModelError(
                f"{what} needs {size} bytes ({_readable(size)}) in {self.folder.parent}, "
                f"and {free} bytes ({_readable(free)}) are free",
                f"free some space (`aistack models rm NAME`, `df -h {self.folder.parent}`), then try again",
            )

    @contextlib.contextmanager
    def lock(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold `key` alone among all processes; `on_wait` is called when another has it."""
        path = self.folder / f"{key}.lock"
        descriptor = self._acquire(path, on_wait)
        try:
            yield
        finally:
            files.remove(path)  # before the lock is let go: see `_acquire`
            os.close(descriptor)

    @staticmethod
    def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise files.explained(error, path) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The one before us removed its file when it was done: only a lock on the file that now has
            # the name keeps others out.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            os.close(descriptor)

    def drop_abandoned(self, now: float) -> None:
        """Remove what nobody has gone on with for two weeks. `now` in seconds of the epoch."""
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.suffix != ".lock" and now - path.stat().st_mtime > _ABANDONED_S:
                    files.remove(path)


def digest_of(path: Path) -> str:
    """`sha256:` and the hexadecimal digest of the file at `path`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _readable(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
