"""Sizes in bytes as people read them, for every message of facts, fit and doctor."""

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def readable(size: float) -> str:
    """`size` bytes in the largest binary unit that leaves a number of at least 1: `1.5 GiB`, `512 MiB`."""
    for unit, name in ((GIB * KIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size:.0f} B"
