"""`aistack up`: make the machine what stack.toml says; a second time changes nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime

from aistack import certificates
from aistack.errors import ServiceError
from aistack.operations.fetch_models import ModelNews, fetch_wanted
from aistack.operations.lock import changing
from aistack.operations.mistakes import refuse_missing_keys
from aistack.operations.stack import Stack
from aistack.runtimes.base import Change, Report
from aistack.system.ports import listeners, port_owner


@dataclass(frozen=True)
class Outcome:
    """What `up` did: the steps that were not `keep`, and what the person should know."""

    changed: tuple[Change, ...]
    notes: tuple[str, ...]


def up(stack: Stack, report: Report, model_news: ModelNews) -> Outcome:
    """Install, configure and start what is missing or changed; returns when everything is healthy.

    May be killed at any moment: the next call goes on from what it finds. Raises UserError.
    """
    stack.runtime.admit()
    with changing(stack.paths.run):
        return bring_up(stack, report, model_news)


def bring_up(stack: Stack, report: Report, model_news: ModelNews) -> Outcome:
    """The same on a machine that was found fit already, for one who holds the stack's lock. Raises UserError."""
    # Before anything is installed or written: what only the site can settle.
    refuse_missing_keys(stack.config, stack.paths.secrets)
    _refuse_taken_ports(stack, stack.changes())
    stack.runtime.install(stack.programs, report)
    notes = ensure_certificate(stack)
    stack.secrets.ensure(stack.plan.secret_names)
    if stack.config.engine.kind == "llamacpp":
        notes += fetch_wanted(stack, model_news)
    wanted, steps = stack.rendered(), stack.changes()
    work = {change.service for change in steps if change.step != "keep"}
    stack.runtime.check([rendered for rendered in wanted if rendered.name in work])
    stack.runtime.apply(wanted, steps, report)
    if stack.config.engine.kind == "ollama":
        notes += fetch_wanted(stack, model_news)
    return Outcome(tuple(change for change in steps if change.step != "keep"), notes)


def ensure_certificate(stack: Stack) -> tuple[str, ...]:
    """Make the stack's own certificate when the site has none; a note when people have to trust another root."""
    if stack.config.proxy.certificate:
        return ()
    first = not stack.paths.secrets.exists()
    public = stack.plan.public
    new_root = certificates.ensure(stack.paths.tls, public.names, public.addresses, datetime.now(UTC))
    if first or not new_root:
        return ()
    return (f"the root certificate, {stack.paths.tls / 'root.pem'}, is a new one: people must trust it (`aistack ca`)",)


def _refuse_taken_ports(stack: Stack, steps: tuple[Change, ...]) -> None:
    ours = stack.runtime.pids()
    starting = {change.service for change in steps if change.step in ("start", "restart")}
    among = listeners()
    taken = [
        f"port {port.number}, which {service.title} should listen on, is taken by {owner}"
        for service in stack.plan.services
        if service.name in starting
        for port in stack.runtime.ports(service)
        if (owner := port_owner(port.address, port.number, among)) is not None and owner.pid not in ours
    ]
    if taken:
        raise ServiceError(
            "\n".join(taken),
            "stop that program, or give the service another port in stack.toml; nothing was changed",
        )
