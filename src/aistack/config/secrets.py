"""Secrets: made once, kept one a file with mode 0600, and never shown by accident."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from aistack.system import files


@dataclass(frozen=True)
class Secrets:
    """The folder that holds the stack's secrets."""

    folder: Path

    def ensure(self, names: tuple[str, ...]) -> None:
        """Make each secret that is not there yet: 43 characters, 256 random bits. Raises UserError."""
        files.make_directory(self.folder, 0o700)
        for name in names:
            path = self.path(name)
            if not path.exists():
                files.write(path, secrets.token_urlsafe(32) + "\n", 0o600)

    def path(self, name: str) -> Path:
        """Where the secret called `name` lies."""
        return self.folder / name
