"""Whole stacks on systemd and on Compose, for as long as a block runs: for the tests here and for the benchmarks."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine import Engine
from images import local_package_folders, systemd_image
from machine import booted
from stack_images import stack_images
from stacks import PROGRAMS, REPOSITORY, RealStack, make_stack

PLACES = {"config": Path("/etc/ai-stack"), "data": Path("/var/lib/ai-stack")}


class PlaceTaken(Exception):
    """Where a stack would lie belongs to a stack of this machine already."""


@contextmanager
def compose_site(engine: Engine) -> Iterator[RealStack]:
    """A stack with `runtime = "compose"` that is up."""
    stack_images(engine, PROGRAMS)
    made = make_stack(runtime="compose")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.address)
        try:
            made.run("up", "--yes", timeout=900)
            yield made
        finally:
            made.end()
            shutil.rmtree(made.home, ignore_errors=True)


@contextmanager
def systemd_site(engine: Engine) -> Iterator[RealStack]:
    """The stack, brought up by `make up` with `runtime = "systemd"` in a machine that has the network of this one.

    Raises PlaceTaken.
    """
    made = make_stack(runtime="systemd")
    del made.settings["paths.programs"]  # they are installed in there
    made.write()
    made.inside, made.aistack = ("docker", "exec", "--interactive", "aistack-site"), "/root/aistack/.venv/bin/aistack"
    mounted = [f"--volume={made.home / name}:{place}" for name, place in PLACES.items()]
    socket = [f"--volume={engine.address.removeprefix('unix://')}:/srv/docker.sock",
              "--env=DOCKER_HOST=unix:///srv/docker.sock"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, _at_roots_places(made):
        patch.setenv("DOCKER_HOST", engine.address)
        with booted(engine, systemd_image(engine), "aistack-site", folders=local_package_folders(),
                    options=("--network=host", *mounted, *socket)) as machine:  # fmt: skip
            machine.copy_checkout(REPOSITORY, "/root/aistack")
            machine.run("make", "-C", "/root/aistack", "up", timeout=900)
            yield made
            made.run("down", status=None)
    shutil.rmtree(made.home, ignore_errors=True)


@contextmanager
def _at_roots_places(made: RealStack) -> Iterator[None]:
    """The two folders of the stack at root's usual places out here as well, for as long as the block runs.

    In there they are mounted at these. When Compose runs the stack, it is the engine out here that looks for them.
    """
    for name, place in PLACES.items():
        if place.is_symlink():  # what a killed session left
            place.unlink()
        if place.exists():
            raise PlaceTaken(f"{place} belongs to a stack of this machine")
        (made.home / name).mkdir(exist_ok=True)
        place.symlink_to(made.home / name)
    try:
        yield
    finally:
        for place in PLACES.values():
            place.unlink()
