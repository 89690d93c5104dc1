"""One stack, up for the whole session, for the tests that only use it; those that break things make their own."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stacks import RealStack, make_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[RealStack]:
    """A stack with everything in it, brought up by `aistack up`."""
    made = make_stack()
    try:
        made.run("up", "--yes", timeout=1500)
        yield made
    finally:
        made.end()
        shutil.rmtree(made.home, ignore_errors=True)


@pytest.fixture(scope="module")
def tended() -> Iterator[RealStack]:
    """A stack that is up, whose settings the module's tests change."""
    made = make_stack()
    try:
        made.run("up", "--yes")
        yield made
    finally:
        made.end()
        shutil.rmtree(made.home, ignore_errors=True)


@pytest.fixture
def outside() -> str:
    """An address of this machine that is none of the stack's, and that the stack reaches."""
    return "127.0.0.1"


@pytest.fixture
def own_stack() -> Iterator[RealStack]:
    """A stack that is not up, for one test alone."""
    made = make_stack()
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(made.home, ignore_errors=True)
