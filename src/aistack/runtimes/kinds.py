"""The runtimes that there are: where a name in stack.toml becomes the Runtime that carries the stack."""

from collections.abc import Callable, Mapping

from aistack.config.paths import Paths
from aistack.plan import Plan
from aistack.runtimes import process
from aistack.runtimes.base import Runtime
from aistack.runtimes.compose import runtime as compose
from aistack.runtimes.systemd import runtime as systemd

Confirm = Callable[[str], bool]

RUNTIMES: Mapping[str, Callable[[Paths, Plan, Confirm], Runtime]] = {
    "process": process.make,
    "systemd": systemd.make,
    "compose": compose.make,
}
"""`runtime` of stack.toml -> what makes it, from the stack's paths, its plan, and whom to ask before packages
are installed."""
