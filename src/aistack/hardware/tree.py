"""Reads the kernel's and the system's small text files; what is not there, or not ours to read, is empty."""

from pathlib import Path


def text(path: Path) -> str:
    """What `path` holds, without blanks around it; empty when it cannot be read: its absence is the fact."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The integer that `path` holds, or None when it is missing or holds a word such as `max`."""
    found = text(path)
    return int(found) if found.removeprefix("-").isdigit() else None


def pairs(content: str, separator: str) -> dict[str, str]:
    """`key<separator>value` lines as a dictionary; of equal keys the first wins; other lines are left out."""
    found: dict[str, str] = {}
    for line in content.splitlines():
        key, middle, value = line.partition(separator)
        if middle:
            found.setdefault(key.strip(), value.strip())
    return found
