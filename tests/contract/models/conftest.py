"""What the tests of model sources share: the hubs, a store, and a model to fetch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aistack.models.demo import write_demo
from aistack.models.huggingface import Hub
from aistack.models.pull import Surroundings
from aistack.models.store import ModelStore
from aistack.models.transfer import Patience
from hubs import Hubs, serve_hubs


@pytest.fixture
def hubs() -> Iterator[Hubs]:
    with serve_hubs() as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture(scope="session")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real GGUF file of about four megabytes: the demo model with padding."""
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_demo(path)
    return path.read_bytes() + bytes(range(256)) * 14_000


@pytest.fixture
def surroundings(hubs: Hubs) -> Surroundings:
    """The hub is the local server, and a pause is not waited for."""
    return Surroundings(
        hub=Hub(f"http://{hubs.host}"),
        patience=Patience(sleep=lambda seconds: None),
        connect_s=2,
        silence_s=2,
    )
