"""The way back: what a service was given before its settings changed, kept until the change has proved well."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from aistack.render import RenderedService
from aistack.runtimes.base import Change
from aistack.system import files


@dataclass(frozen=True)
class Previous:
    """A folder with one file a service that is being changed."""

    folder: Path

    def keep(self, name: str, paths: Iterable[Path], health: str) -> None:
        """Remember `paths` as they are, and where the service told its health with them.

        What an earlier change kept and never settled (it was killed) stays: that was the last that worked.
        """
        if self._place(name).exists():
            return
        kept = {str(path): _content(path) for path in paths}
        files.write(self._place(name), json.dumps({"files": kept, "health": health}), 0o600)

    def prepare(
        self, wanted: Iterable[RenderedService], steps: Iterable[Change], keep: Callable[[RenderedService], None]
    ) -> None:
        """Have `keep` called for each service that is about to change; what is left of older changes is forgotten."""
        changed = {change.service for change in steps if change.step in ("restart", "reload")}
        for rendered in wanted:
            if rendered.name in changed:
                keep(rendered)
            else:
                self.forget(rendered.name)

    def put_back(self, name: str) -> str | None:
        """Write what was kept back in its place; returns its health URL, or None when nothing was kept."""
        if not self._place(name).exists():
            return None
        kept = json.loads(self._place(name).read_text())
        for path, found in kept["files"].items():
            if found is None:
                files.remove(Path(path))
            else:
                mode, content = found
                files.write(Path(path), content, mode)
        self.forget(name)
        return str(kept["health"])

    def forget(self, name: str) -> None:
        """The change proved well, or was taken back."""
        files.remove(self._place(name))

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _content(path: Path) -> tuple[int, str] | None:
    try:
        return path.stat().st_mode & 0o777, path.read_text()
    except FileNotFoundError:
        return None
