"""The only writer of files: whole or not at all, and only when something differs."""

import contextlib
import difflib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aistack.errors import UserError


def write(path: Path, content: str | bytes, mode: int = 0o644) -> bool:
    """Make `path` hold `content` with `mode`, atomically; its folders are made as needed.

    Returns whether anything changed. A reader sees the old file or the new one, never a part,
    also after `kill -9` or a full disk. Raises UserError when the disk is full or the path is
    not ours to write.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.is_file() and path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data, mode)
    except OSError as error:
        raise explained(error, path) from error
    return True


def _replace(path: Path, data: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make `path` a directory with `mode`, whatever the umask. Raises UserError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
    except OSError as error:
        raise explained(error, path) from error


def give(path: Path, user: int, group: int) -> None:
    """Make `path`, and all in it, belong to `user` and `group`; nothing is done where it does. Raises UserError.

    What lies in a folder is only looked at when the folder itself is another's.
    """
    try:
        found = path.lstat()
        if (found.st_uid, found.st_gid) == (user, group):
            return
        # The folder itself comes last, so that a change that was cut short is taken up again.
        for one in (*(path.rglob("*") if path.is_dir() and not path.is_symlink() else ()), path):
            with contextlib.suppress(FileNotFoundError):  # what a running service removes meanwhile
                os.chown(one, user, group, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise explained(error, path) from error


@contextlib.contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """For root: act as the user whose `folder` it is, who may have laid traps in it; for others nothing changes."""
    if os.geteuid() != 0 or not folder.exists():
        yield
        return
    owner = folder.stat()
    try:
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def remove(path: Path) -> bool:
    """Remove a file or a whole directory; returns whether there was one. Raises UserError."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            return True
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explained(error, path) from error
    return True


def copy_tree(source: Path, target: Path) -> None:
    """Copy a file, or a folder with all in it, to `target`, whole or not at all; what was there is replaced.

    Permissions and times are kept. Owners and set-user-id bits are not: what a service or a user made must not
    become root's program. Sockets and pipes are left out. Nobody else can look in while it lasts. Raises UserError.
    """
    closed = target.with_name(f".{target.name}.copying")
    try:
        remove(closed)
        target.parent.mkdir(parents=True, exist_ok=True)
        closed.mkdir(mode=0o700)
        partial = closed / target.name
        if source.is_dir():
            shutil.copytree(source, partial, symlinks=True, ignore=_special, copy_function=_copy)
            for folder in (partial, *(path for path in partial.rglob("*") if path.is_dir() and not path.is_symlink())):
                folder.chmod(folder.stat().st_mode & 0o777)
        else:
            _copy(source, partial)
        remove(target)
        partial.rename(target)
    except (OSError, shutil.Error) as error:
        raise _copying_failed(error, target) from error
    finally:
        shutil.rmtree(closed, ignore_errors=True)


def _copy(source: str | Path, target: str | Path) -> None:
    shutil.copy2(source, target, follow_symlinks=False)
    if not Path(target).is_symlink():
        Path(target).chmod(Path(target).stat().st_mode & 0o777)


def tree_size(folder: Path) -> int:
    """The bytes of all regular files in `folder`."""
    total = 0
    for path in _regular(folder):
        with contextlib.suppress(FileNotFoundError):  # it was in use, and is gone
            total += path.stat().st_size
    return total


def tree_difference(first: Path, second: Path) -> str:
    """The first file in which two folders differ, with why; "" when they hold the same."""
    mine = {path.relative_to(first): path for path in _regular(first)}
    theirs = {path.relative_to(second): path for path in _regular(second)}
    if odd := sorted(mine.keys() ^ theirs.keys()):
        return f"{odd[0]} is in one of them only"
    different = (name for name, path in sorted(mine.items()) if _sha256(path) != _sha256(theirs[name]))
    return next((f"{name} differs" for name in different), "")


def _copying_failed(error: OSError | shutil.Error, target: Path) -> UserError:
    if isinstance(error, shutil.Error):
        source, _, why = error.args[0][0]
        return UserError(f"cannot copy {source}: {why}", "check the disk and the permissions")
    return explained(error, target)


def _special(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not _kept(Path(folder) / name)]


def _kept(path: Path) -> bool:
    return path.is_symlink() or path.is_dir() or path.is_file()


def _regular(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(path: Path) -> str:
    """A file's content in sixteen characters that tell nothing about it; empty when it is not there."""
    try:
        return hashlib.sha256(b"aistack:" + path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def difference(path: Path, content: str, name: str) -> Iterator[str]:
    """What writing `content` to `path` would change, as a unified diff of `name`; nothing when it is the same."""
    old = path.read_text().splitlines() if path.exists() else []
    yield from difflib.unified_diff(old, content.splitlines(), f"a/{name}", f"b/{name}", n=1, lineterm="")


def explained(error: OSError, path: Path) -> UserError:
    """The UserError that tells what `error` means for `path` and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"no space left on the disk that holds {path}",
            f"free some space (`df -h {path.parent}`), then run the same command again; nothing was lost",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"may not write {path}: {error.strerror}", "run as the user who owns the stack")
    return UserError(f"cannot write {path}: {error.strerror or error}", "check the path and its file system")
