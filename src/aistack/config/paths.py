"""Where a stack keeps its files, by the conventions of the system it stands on.

==================  ===================================  ===================
who                 configuration                        data
==================  ===================================  ===================
`AISTACK_HOME=X`    X/config                             X/data
root                /etc/ai-stack                        /var/lib/ai-stack
anybody else        $XDG_CONFIG_HOME/aistack             $XDG_DATA_HOME/aistack
==================  ===================================  ===================
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aistack.errors import ConfigError


@dataclass(frozen=True)
class Paths:
    """The two roots of a stack, and what lies below them."""

    config: Path
    data: Path

    @property
    def stack_toml(self) -> Path:
        """The one file that a person edits."""
        return self.config / "stack.toml"

    @property
    def secrets(self) -> Path:
        """Generated secrets, one a file, 0600."""
        return self.config / "secrets"

    @property
    def tls(self) -> Path:
        """The site's certificate authority and its server certificate."""
        return self.config / "tls"

    @property
    def generated(self) -> Path:
        """What `up` renders; never edited by hand."""
        return self.data / "generated"

    @property
    def state(self) -> Path:
        """What the services keep, a folder each."""
        return self.data / "state"

    @property
    def models(self) -> Path:
        """The model store of the embedded engine."""
        return self.data / "models"

    @property
    def programs(self) -> Path:
        """Virtual environments of the programs that are not ours, unless `paths.programs` moves them."""
        return self.data / "programs"

    @property
    def logs(self) -> Path:
        """One log a service."""
        return self.data / "logs"

    @property
    def run(self) -> Path:
        """Sockets, locks and records of what runs; may be lost without harm."""
        return self.data / "run"


def find_paths(environ: Mapping[str, str], user_id: int) -> Paths:
    """The paths for this environment and user (0 is root); makes nothing. Raises ConfigError."""
    paths = _conventional(environ, user_id)
    for path in (paths.config, paths.data):
        if found := unusable(str(path)):
            raise ConfigError(
                f"the stack cannot lie in {path}: its name holds {found!r}",
                "set AISTACK_HOME to a folder with a plainer name",
            )
    return paths


def unusable(path: str) -> str | None:
    """The first character of `path` that cannot be written in the configuration of nginx or supervisord."""
    found = re.search(r"[\s;{}\"'$\\]", path)
    return found[0] if found else None


def _conventional(environ: Mapping[str, str], user_id: int) -> Paths:
    if home := environ.get("AISTACK_HOME"):
        root = Path(home).absolute()
        return Paths(root / "config", root / "data")
    if user_id == 0:
        return Paths(Path("/etc/ai-stack"), Path("/var/lib/ai-stack"))
    user_home = Path(environ.get("HOME", "/"))
    return Paths(
        Path(environ.get("XDG_CONFIG_HOME") or user_home / ".config") / "aistack",
        Path(environ.get("XDG_DATA_HOME") or user_home / ".local/share") / "aistack",
    )
