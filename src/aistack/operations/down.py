"""`aistack down` and `aistack restart`."""

from collections.abc import Sequence

from aistack.operations.lock import changing
from aistack.operations.stack import Stack
from aistack.runtimes.base import Change, Report


def down(stack: Stack, report: Report) -> None:
    """Stop every process of the stack; no data is touched."""
    with changing(stack.paths.run):
        stack.runtime.down(report)


def restart(stack: Stack, names: Sequence[str], report: Report) -> None:
    """Start the services called `names` anew and wait until they are healthy; the others are left alone.

    Raises ServiceError.
    """
    with changing(stack.paths.run):
        wanted = stack.rendered()
        steps = tuple(
            Change(item.name, "restart", "you asked for it") if item.name in names else Change(item.name, "keep", "")
            for item in wanted
        )
        stack.runtime.apply(wanted, steps, report)
