"""Diagnosis: can anybody but their owner read the secrets?"""

import stat
from pathlib import Path

from aistack.operations.diagnoses.base import Finding, Inputs

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A problem for each file or folder that its group or others may open."""
    looked_at = [path for secret in inputs.secrets for path in _below(secret)]
    open_ones = tuple(_open(path) for path in looked_at if path.stat().st_mode & _OTHERS)
    return open_ones or (Finding("ok", "secrets", "what is secret is closed to others"),)


def _below(secret: Path) -> list[Path]:
    """`secret` and, when it is a folder, all in it; nothing when it is not there."""
    return [path for path in (secret, *sorted(secret.rglob("*"))) if path.exists()]


def _open(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    wanted = "700" if path.is_dir() else "600"
    message = f"{path} can be read by others (mode {mode:o})"
    cure = f"chmod {wanted} {path}"
    if path.is_file():
        cure += "; if others use this machine, replace the secret: remove the file, then `aistack up`"
    return Finding("problem", "secrets", message, cure)
