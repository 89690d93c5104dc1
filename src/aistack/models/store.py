"""The models folder: what is in it, and how a model gets in and out whole or not at all.

A model is `<q>.gguf`, with `<q>.mmproj.gguf` where it has a projector and `<q>.json` (the sidecar) with what
the file itself cannot say; `q` is the percent-encoded name. A file dropped in by hand is a model too.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from aistack.errors import ModelError
from aistack.models.gguf_header import GgufHeader, read_header
from aistack.models.names import canonical, file_stem, from_file_stem
from aistack.system import files

_PROJECTOR = ".mmproj"
_ENCODERS = ("t5encoder", "gemma-embedding")  # and whatever has "bert" in its name


@dataclass(frozen=True)
class Model:
    """A model in the store. `size` in bytes without the projector, `modified_at` in seconds of the epoch."""

    name: str
    path: Path
    size: int
    modified_at: float
    digest: str | None
    source: str
    demo: bool
    projector: Path | None
    kind: Literal["chat", "embedding"]


@dataclass(frozen=True)
class Damaged:
    """A file in the models folder that cannot be served, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Sidecar:
    """What was known when a model was installed; it counts only for the very file it was written for."""

    size: int
    modified_s: int  # whole seconds, because archives and copies keep no more
    digest: str | None
    source: str
    demo: bool
    projector: bool


class ModelStore:
    """The models below `root`, which need not exist yet. Safe to use from several processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._headers: dict[tuple[Path, int, int], GgufHeader] = {}

    def list(self) -> tuple[Model, ...]:
        """Every model that can be served, by name. Damaged files are left out: see `damaged`."""
        return self._scan()[0]

    def damaged(self) -> tuple[Damaged, ...]:
        """Files that look like models but are not whole."""
        return self._scan()[1]

    def get(self, name: str) -> Model:
        """The model called `name` (`x` and `x:latest` are one). Raises ModelError, naming those there are."""
        wanted = canonical(name)
        models, damaged = self._scan()
        for model in models:
            if model.name == wanted:
                return model
        for file in damaged:
            if from_file_stem(file.path.stem) == wanted:
                raise ModelError(f"the model {name} cannot be used: {file.reason}", "pull or import it again")
        there = ", ".join(model.name for model in models) or "none"
        raise ModelError(f"there is no model {name}; there are: {there}", f"aistack models pull {name}")

    def header(self, model: Model) -> GgufHeader:
        """What the model's file says about itself; kept until the file changes."""
        return self._header(model.path)

    def install(
        self,
        file: Path,
        name: str,
        *,
        source: str,
        digest: str | None,
        demo: bool = False,
        projector: Path | None = None,
    ) -> Model:
        """Move `file` (and `projector`), which must lie on the store's file system, in as `name`.

        A model of that name is replaced. The GGUF comes last: what is not complete is not seen, and an
        older file is never taken for the new one, because the sidecar names size and time of its file.
        Raises ModelError when the file is not a whole GGUF model.
        """
        stem = file_stem(name)
        header = read_header(file)
        refuse_parts(header, file)
        if projector is not None:
            read_header(projector)
        files.make_directory(self.root)
        status = file.stat()
        sidecar = _Sidecar(status.st_size, int(status.st_mtime), digest, source, demo, projector is not None)
        if projector is not None:
            _move(projector, self.root / f"{stem}{_PROJECTOR}.gguf")
        files.write(self.root / f"{stem}.json", json.dumps(vars(sidecar), indent=1) + "\n")
        _move(file, self.root / f"{stem}.gguf")
        if projector is None:
            files.remove(self.root / f"{stem}{_PROJECTOR}.gguf")
        return self.get(name)

    def remove(self, name: str) -> None:
        """Delete a model, damaged or not. Raises ModelError when there is none of that name."""
        broken = [file.path for file in self.damaged() if from_file_stem(file.path.stem) == canonical(name)]
        path = broken[0] if broken else self.get(name).path
        for gone in (path, path.with_name(f"{path.stem}{_PROJECTOR}.gguf"), path.with_suffix(".json")):
            files.remove(gone)

    def _scan(self) -> tuple[tuple[Model, ...], tuple[Damaged, ...]]:
        models: dict[str, Model] = {}
        damaged: list[Damaged] = []
        for path in sorted(self.root.glob("*.gguf")):
            if path.name.startswith(".") or path.stem.endswith(_PROJECTOR):
                continue
            try:
                model = self._model(path)
            except FileNotFoundError:  # removed while we looked
                continue
            except ModelError as error:
                damaged.append(Damaged(path, error.message))
                continue
            models.setdefault(model.name, model)
        return tuple(models[name] for name in sorted(models)), tuple(damaged)

    def _model(self, path: Path) -> Model:
        status = path.stat()
        header = self._header(path)
        refuse_parts(header, path)
        sidecar = _read_sidecar(path.with_suffix(".json"))
        projector: Path | None = path.with_name(f"{path.stem}{_PROJECTOR}.gguf")
        dropped_in = sidecar is None
        if sidecar and (sidecar.size, sidecar.modified_s) != (status.st_size, int(status.st_mtime)):
            sidecar = None
        if not (dropped_in or (sidecar and sidecar.projector)) or not (projector and projector.is_file()):
            projector = None
        return Model(
            name=from_file_stem(path.stem),
            path=path,
            size=status.st_size,
            modified_at=status.st_mtime,
            digest=sidecar.digest if sidecar else None,
            source=sidecar.source if sidecar else "file",
            demo=sidecar.demo if sidecar else False,
            projector=projector,
            kind=kind_of(header),
        )

    def _header(self, path: Path) -> GgufHeader:
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._headers:
            self._headers = {old: kept for old, kept in self._headers.items() if old[0] != path}
            self._headers[key] = read_header(path)
        return self._headers[key]


def kind_of(header: GgufHeader) -> Literal["chat", "embedding"]:
    """What a model is for: one that pools its output, or has an encoder's architecture, only embeds."""
    encoder = header.architecture in _ENCODERS or "bert" in header.architecture
    return "embedding" if encoder or header.pooling not in (None, "none") else "chat"


def refuse_parts(header: GgufHeader, file: Path) -> None:
    """Raise ModelError when `file` is one of several parts of a model, or no language model at all."""
    if header.split_count > 1:
        raise ModelError(
            f"{file.name} is one of {header.split_count} parts of a model",
            "join them with llama.cpp's `llama-gguf-split --merge`, then import the one file",
        )
    if header.architecture == "clip":
        raise ModelError(f"{file.name} is a projector, not a model", "import it together with its model")


def _read_sidecar(path: Path) -> _Sidecar | None:
    """The sidecar at `path`; None where there is none. Raises ModelError for one that is not ours.

    What another version of aistack knew besides is passed over: an update, or the way back, must lose no model.
    """
    try:
        told = json.loads(path.read_bytes())
        return _Sidecar(**{field.name: told[field.name] for field in fields(_Sidecar)})
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "remove it, or pull the model again") from error


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        raise files.explained(error, target) from error
