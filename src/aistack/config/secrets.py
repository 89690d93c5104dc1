"""Secrets: made once, kept one a file with mode 0600, and never shown by accident."""

import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from aistack.errors import UserError
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

    def read(self, name: str) -> str:
        """The secret itself. Raises UserError when it is missing, empty, or others may read it."""
        path = self.path(name)
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise UserError(f"{path} can be read by others", f"chmod 600 {path}")
            value = path.read_text().strip()
        except OSError as error:
            raise UserError(
                f"cannot read the secret {path}: {error.strerror}", "run `aistack up` to make it"
            ) from error
        if not value:
            raise UserError(f"the secret {path} is empty", f"remove it and run `aistack up`: rm {path}")
        return value
