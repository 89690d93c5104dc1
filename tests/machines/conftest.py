"""For tests that need a machine of their own: a Docker engine, and a Debian machine with systemd, for the session."""

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
sys.path.insert(0, str(Path(__file__).parent))

from engine import Engine, NoEngine
from engine import engine as private_engine
from images import base_image, local_package_folders, systemd_image
from machine import Machine, booted
from stacks import RealStack

REPOSITORY = Path(__file__).parents[2]
# Images, made once and kept: some gigabytes when those of the whole stack are among them.
_FOLDER = Path(os.environ.get("AISTACK_TEST_IMAGES") or REPOSITORY / ".cache" / "engine")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine that has the image `debian:12-slim`; the tests are skipped where there can be none."""
    try:
        with private_engine(_FOLDER) as made:
            base_image(made)
            yield made
    except NoEngine as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def machine(engine: Engine) -> Iterator[Machine]:
    """A machine for the tests that leave it as it was; those that do not boot one of their own."""
    with booted(engine, systemd_image(engine), "aistack-test", folders=local_package_folders()) as made:
        yield made


# What the tests of everyday commands and of streams, and ours, call the stack that a module here brings up as `site`.


@pytest.fixture(scope="module")
def tended(site: RealStack) -> RealStack:
    """A stack that is up, whose settings these tests change."""
    return site


@pytest.fixture(scope="module")
def stack(site: RealStack) -> RealStack:
    """A stack that is up."""
    return site


@pytest.fixture
def outside(engine: Engine) -> str:
    """An address of this machine that is none of the stack's, and no loopback address, which sandboxes let through."""
    # Docker 20.10 names a bridge's gateway from its second start on only: the kernel knows it at once.
    subnet = engine.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "bridge").strip()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((str(ipaddress.ip_network(subnet)[2]), 9))  # sends nothing
        address, _ = probe.getsockname()
    return str(address)


@pytest.fixture(scope="module")
def key(site: RealStack) -> str:
    """An API key."""
    return site.key("tests")
