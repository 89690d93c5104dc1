"""`aistack down` and `aistack restart`."""

from collections.abc import Sequence

from aistack.errors import ServiceError
from aistack.operations.lock import changing
from aistack.operations.stack import Stack
from aistack.runtimes.base import Report


def down(stack: Stack, report: Report) -> None:
    """Stop every process of the stack; no data is touched."""
    with changing(stack.paths.run):
        stack.runtime.down(report)


def restart(stack: Stack, names: Sequence[str], report: Report) -> None:
    """Start the services called `names` anew, with the settings that they have, and wait until they are healthy.

    The others are left alone. Raises ServiceError, before anything is touched when one is not running.
    """
    with changing(stack.paths.run):
        observed = stack.runtime.observe()
        for name in names:
            if name not in observed or observed[name].state in ("missing", "stopped"):
                raise ServiceError(f"{name} is not running, or nothing looks after it", "`aistack up` starts it")
        stack.runtime.restart([item for item in stack.rendered() if item.name in names], report)
