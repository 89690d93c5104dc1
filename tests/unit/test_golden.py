"""Every example, rendered for a runtime, is what lies below tests/golden: whoever changes it sees what comes of it.

`make golden` writes the trees anew.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from aistack.config.load import parse
from aistack.config.paths import Paths
from aistack.config.schema import Config
from aistack.hardware.facts import gather
from aistack.plan import Plan, make_plan
from aistack.render import render
from aistack.runtimes.base import Runtime
from aistack.runtimes.compose.confines import Ground
from aistack.runtimes.compose.docker import Docker
from aistack.runtimes.compose.placement import ComposePlacement
from aistack.runtimes.compose.runtime import ComposeRuntime
from aistack.runtimes.local import LocalPlacement
from aistack.runtimes.process import ProcessRuntime
from aistack.runtimes.programs import Installer
from aistack.runtimes.systemd.placement import SystemdPlacement
from aistack.runtimes.systemd.runtime import SystemdRuntime
from aistack.system import files
from aistack.system.run import run

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden"
_PROGRAM = re.compile(r"/usr/(?:local/)?s?bin/(nginx|ollama|prometheus)")
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
PATHS = Paths(Path("/etc/ai-stack"), Path("/var/lib/ai-stack"))
HOST = replace(gather(run, ROOT / "tests/fixtures/hosts/laptop"), host_names=("lap",), addresses=("10.0.0.7",))


def debian_12(executable: str) -> tuple[int, ...]:
    """The versions of its programs that matter."""
    return {"nginx": (1, 22, 1)}[executable]


def compose(plan: Plan) -> Runtime:
    """As root, with a name for our image that does not change with our code."""
    groups = (44, 109) if plan.gpu == "amd" else ()
    ground = Ground(PATHS, plan.config, plan.services, (10001, 10001), "aistack:golden", plan.gpu, groups)
    return ComposeRuntime(PATHS, ComposePlacement(ground), Docker("ai-stack", PATHS.generated))


def systemd(plan: Plan) -> Runtime:
    """As Debian 12 has it."""
    placement = SystemdPlacement(PATHS, plan.config, plan.services, debian_12, plan.gpu)
    return SystemdRuntime(PATHS, placement, Installer(placement.programs, lambda _: False), 252)


def process(plan: Plan) -> Runtime:
    """As Debian 12 has it."""
    placement = LocalPlacement(PATHS, plan.config, plan.services, debian_12)
    return ProcessRuntime(PATHS, placement, Installer(placement.programs, lambda _: False))


RUNTIMES: Mapping[str, Callable[[Plan], Runtime]] = {"compose": compose, "systemd": systemd, "process": process}


def rendered(example: Path, runtime: str) -> dict[str, str]:
    """The tree that `up` would write, by path."""
    config: Config = parse(example.read_text())
    plan = make_plan(config, HOST)
    made = RUNTIMES[runtime](plan)
    wanted = render(plan, made.placement, lambda _: "same")
    return {_kept_as(Path(file.path)): _lasting(file.content) for file in made.tree(wanted)}


_PYTHON = "/opt/aistack/bin/python"


def _lasting(content: str) -> str:
    """Without what changes with every line of our code, its revision and the hashes of what it is part of, and
    without the folders of programs, which are known only where they are installed, and the user who asks."""
    content = content.replace(sys.executable, _PYTHON).replace("user www-data;\n", "")
    return _PROGRAM.sub(r"\1", re.sub(r"\b[0-9a-f]{16}\b", "HASH", content))


def _kept_as(path: Path) -> str:
    inside = path.is_relative_to(PATHS.generated)
    return str(path.relative_to(PATHS.generated if inside else "/"))


def kept(folder: Path) -> dict[str, str]:
    """The tree below `folder`, by path."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_rendered_as_it_was(example: Path, runtime: str) -> None:
    folder, found = GOLDEN / example.stem / runtime, rendered(example, runtime)
    if os.environ.get("AISTACK_WRITE_GOLDEN"):
        files.remove(folder)
        for path, text in found.items():
            files.write(folder / path, text)
    assert found == kept(folder)


def test_every_tree_belongs_to_an_example() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {path.stem for path in EXAMPLES}
