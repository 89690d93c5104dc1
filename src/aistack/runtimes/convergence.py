"""The order of things: each service is begun when what it needs is healthy, and watched until it is, too."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aistack.errors import ServiceError, UserError
from aistack.render import RenderedService
from aistack.runtimes.base import Change, Progress, Report

_POLL_S = 0.1
_PATIENCE_WITH_CRASHES_S = 6.0


class Actor(Protocol):
    """What a runtime must be able to do, one service at a time."""

    def health(self, rendered: RenderedService) -> str | None:
        """Why a service is not well; None when it is."""
        ...

    def awaited(self, name: str) -> str | None:
        """Why what runs is not yet what was begun; None when it is."""
        ...

    def begin(self, rendered: RenderedService, change: Change) -> None:
        """Carry out one step, without waiting for its effect."""
        ...

    def forget(self, name: str) -> None:
        """Stop a service that is no longer part of the stack."""
        ...

    def failure(self, name: str) -> str | None:
        """Why the runtime thinks that a service cannot run, if it does."""
        ...

    def settled(self, name: str) -> None:
        """A service is healthy with what it was given."""
        ...

    def revert(self, rendered: RenderedService, change: Change, *, begun: bool) -> str:
        """Give a service that was to change its old settings again, and when the change was `begun`, carry
        that out and wait; returns how it went in a few words, "" when there was nothing to do."""
        ...


@dataclass
class _Progress:
    healthy: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)


def converge(actor: Actor, wanted: Sequence[RenderedService], steps: Sequence[Change], report: Report) -> None:
    """Carry out `steps` and wait until every service of `wanted` is healthy; the others are taken to be.

    One that fails does not stop those that can do without it. In the end it gets its old settings again, and so
    does what changed with it and has to do with it, which would not fit it any more. Raises ServiceError that
    names all that failed.
    """
    for change in steps:
        if change.step == "stop":
            actor.forget(change.service)
            report(Progress(change.service, "stopped", change.why))
    by_name = {change.service: change for change in steps}
    so_far = _Progress()
    so_far.healthy.update({name for rendered in wanted for name in rendered.service.after} - by_name.keys())
    open_ones = list(wanted)
    while open_ones:
        for rendered in list(open_ones):
            if _advance(actor, rendered, by_name[rendered.name], so_far, report):
                open_ones.remove(rendered)
        if open_ones:
            time.sleep(_POLL_S)
    _settle(actor, wanted, by_name, so_far)
    if so_far.failed:
        reasons = "; ".join(f"{name}: {why}" for name, why in so_far.failed.items())
        first = next(iter(so_far.failed))
        raise ServiceError(
            f"not everything came up: {reasons}", f"look at `aistack logs {first}`, or run `aistack doctor`"
        )


def _settle(actor: Actor, wanted: Sequence[RenderedService], by_name: Mapping[str, Change], so_far: _Progress) -> None:
    """Take back what failed with all that belongs to it, and let the others stand."""
    changed = [rendered for rendered in wanted if by_name[rendered.name].step in ("restart", "reload")]
    undone = _together(changed, so_far.failed)
    for rendered in wanted:
        if rendered.name in so_far.healthy and rendered.name not in undone:
            actor.settled(rendered.name)
    for rendered in changed:
        name = rendered.name
        if name in undone and (told := _reverted(actor, rendered, by_name[name], begun=name in so_far.begun)):
            so_far.failed[name] = f"{so_far.failed.get(name, 'it changed together with these')} ({told})"


def _together(changed: Sequence[RenderedService], failed: Mapping[str, str]) -> set[str]:
    """Those of `changed` that failed, and those that need or talk to one of them, or it to them, and so on."""
    links = {(one.name, other) for one in changed for other in (*one.service.after, *one.service.talks_to)}
    links |= {(other, one) for one, other in links}
    found = {rendered.name for rendered in changed if rendered.name in failed}
    left = {rendered.name for rendered in changed} - found
    while more := {name for name in left if any((name, other) in links for other in found)}:
        found |= more
        left -= more
    return found


def _advance(actor: Actor, rendered: RenderedService, change: Change, so_far: _Progress, report: Report) -> bool:
    """Take `rendered` a step further; returns whether it is done with, well or not."""
    name = rendered.name
    if name not in so_far.begun:
        if lost := [other for other in rendered.service.after if other in so_far.failed]:
            return _fail(so_far, name, f"it needs {lost[0]}", report)
        if not so_far.healthy.issuperset(rendered.service.after):
            return False
        if change.step != "keep":
            report(Progress(name, "reloading" if change.step == "reload" else "starting", change.why))
        so_far.begun[name] = time.monotonic()
        try:
            actor.begin(rendered, change)
        except UserError as error:
            return _fail(so_far, name, error.message, report)
    reason = actor.awaited(name) or actor.health(rendered)
    if reason is None:
        so_far.healthy.add(name)
        report(Progress(name, "healthy"))
        return True
    waited = time.monotonic() - so_far.begun[name]
    if waited > rendered.service.health.start_seconds:
        return _fail(so_far, name, f"{reason} after {waited:.0f} s", report)
    if waited > _PATIENCE_WITH_CRASHES_S and (why := actor.failure(name)):
        return _fail(so_far, name, why, report)
    return False


def _reverted(actor: Actor, rendered: RenderedService, change: Change, *, begun: bool) -> str:
    """How taking a change back went; what goes wrong there must not keep the others from it."""
    try:
        return actor.revert(rendered, change, begun=begun)
    except UserError as error:
        return f"with its old settings: {error.message}"


def _fail(so_far: _Progress, name: str, why: str, report: Report) -> bool:
    so_far.failed[name] = why
    report(Progress(name, "failed", why))
    return True
