"""Diagnosis: can anybody but their owner read the secrets?"""

import stat
from pathlib import Path

from aistack.operations.diagnoses.base import Finding, Inputs

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What closing does not mend, by the file's name; every other secret is made anew by the next `aistack up`.
_REPLACE = {
    "engine-node-*-key": "give the node another key, and write it there",
    "administrator-password": "change the password in the chat",
    "root.key": "remove the folder it lies in, run `aistack up`, and have everybody trust the new root",
}


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A problem for each file or folder of ours that its group or others may open, and for a key of the site's
    own that others may: which group may is the site's affair."""
    looked_at = [path for secret in inputs.secrets for path in _below(secret)]
    open_ones = tuple(_open(path) for path in looked_at if path.stat().st_mode & _OTHERS)
    key = inputs.site_key
    if key and key.exists() and key.stat().st_mode & stat.S_IRWXO:
        message = f"{key} can be read by everybody (mode {stat.S_IMODE(key.stat().st_mode):o})"
        open_ones += (Finding("problem", "secrets", message, f"chmod o= {key}"),)
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
        cure += f"; if others use this machine, {_replacing(path)}"
    return Finding("problem", "secrets", message, cure)


def _replacing(path: Path) -> str:
    known = (cure for name, cure in _REPLACE.items() if path.match(name))
    return next(known, "remove the file, then run `aistack up`")
