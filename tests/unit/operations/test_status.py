"""Where `status` says that a service is reached."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aistack.config.load import parse
from aistack.config.paths import Paths
from aistack.hardware.facts import gather
from aistack.operations.stack import Stack
from aistack.operations.status import reached_at
from aistack.plan import Plan, make_plan
from aistack.runtimes import process
from aistack.runtimes.base import Runtime
from aistack.runtimes.compose import runtime as compose
from aistack.system.run import run

Make = Callable[[Paths, Plan, Callable[[str], bool]], Runtime]


@pytest.mark.parametrize(("make", "inside"), [(process.make, "127.0.0.1:8000"), (compose.make, "chromadb:8000")])
@pytest.mark.parametrize(("address", "outside"), [("127.0.0.1", "127.0.0.1:8443"), ("::", "[::]:8443")])
def test_a_public_service_is_reached_on_its_address_and_others_as_their_neighbours_reach_them(
    tmp_path: Path, make: Make, inside: str, address: str, outside: str
) -> None:
    paths = Paths(tmp_path / "config", tmp_path / "data")
    plan = make_plan(parse(f'[proxy]\naddress = "{address}"\n'), gather(run))
    stack = Stack(paths, plan, make(paths, plan, lambda _: False))
    found = {service.name: reached_at(stack, service) for service in plan.services}
    assert found["nginx"] == outside
    assert found["chromadb"] == inside
