"""Our own code: what tells one build from the next, and how another environment gets the very same."""

import hashlib
import json
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from aistack import __version__
from aistack.errors import ProgramError
from aistack.system.run import run

_SYSTEM = "/usr/bin/python3"
_PACKAGE = Path(__file__).parents[1]


@cache
def revision() -> str:
    """Sixteen characters that change with our code or with anything that is installed beside it."""
    found = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            found.update(str(path.relative_to(_PACKAGE)).encode() + path.read_bytes())
    # The folders that tell name and version of every package.
    site = Path(str(metadata.distribution("jinja2").locate_file("")))
    found.update(repr(sorted(entry.name for entry in site.glob("*.dist-info"))).encode())
    return found.hexdigest()[:16]


def checkout() -> Path | None:
    """The checkout that we run from; None when aistack is installed as a package."""
    told = metadata.distribution("aistack").read_text("direct_url.json")
    url = json.loads(told)["url"] if told else ""
    folder = Path(url.removeprefix("file://"))
    return folder if url.startswith("file://") and (folder / "pyproject.toml").exists() else None


def shared_python() -> str:
    """A Python that users without a home may run: ours, or the system's where ours lies in somebody's home.

    Raises ProgramError when neither will do.
    """
    ours = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    if not ours.resolve().is_relative_to("/root") and not ours.resolve().is_relative_to("/home"):
        return str(ours)
    told = run([_SYSTEM, "-c", "import sys; print(sys.version_info[1])"]).stdout.strip()
    if told not in ("11", "12"):
        raise ProgramError(
            f"services cannot reach the Python in {ours.parent}, and {_SYSTEM} is not 3.11 or 3.12",
            "install Python 3.11 or 3.12 for the whole machine, and make aistack's environment with it",
        )
    return _SYSTEM


def requirements() -> list[str]:
    """What pip or uv must be told to install this build, with what it stands on in the same versions."""
    folder = checkout()
    return [f"aistack=={__version__}"] if folder is None else [str(folder), "-c", str(folder / "requirements.lock")]
