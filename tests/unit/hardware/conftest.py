"""Hosts for the tests of facts: a folder of files each, with recorded answers of the vendors' tools."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from aistack.errors import ProgramError
from aistack.hardware.facts import gather
from aistack.hardware.host import Host
from aistack.system.run import Finished

HOSTS = Path(__file__).parents[2] / "fixtures/hosts"


class Recorded:
    """Answers like `aistack.system.run.run` from `programs/<name>.json` of a host; keeps what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], *, timeout_s: float | None = None) -> Finished:
        self.asked.append(argv[0])
        answer = self.folder / f"{argv[0]}.json"
        if not answer.exists():
            raise ProgramError(f"{argv[0]} is not installed")
        return Finished(**json.loads(answer.read_text()))


@pytest.fixture
def host_root() -> Callable[[str], Path]:
    return lambda name: HOSTS / name


@pytest.fixture
def recorded(host_root: Callable[[str], Path]) -> Callable[[str], Recorded]:
    return lambda name: Recorded(host_root(name) / "programs")


@pytest.fixture
def host(host_root: Callable[[str], Path], recorded: Callable[[str], Recorded]) -> Callable[[str], Host]:
    return lambda name: gather(recorded(name), host_root(name))
