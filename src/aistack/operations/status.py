"""`aistack status`: what runs, since when, and whether it answers."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aistack.components.base import Service
from aistack.operations.stack import Stack
from aistack.runtimes.base import State


@dataclass(frozen=True)
class ServiceStatus:
    """One service: `healthy` is whether it answers; `problem` is why not, or what else is wrong, and empty when
    all is well; `address` is where others reach it, in Compose's networks by its name; `uptime_s` 0.0 when stopped."""

    service: str
    title: str
    state: State
    healthy: bool
    problem: str
    pid: int
    uptime_s: float
    address: str

    @property
    def word(self) -> str:
        """How it is, in a word or two."""
        if self.healthy:
            return "healthy" if not self.problem else "unsupervised"
        return {"running": "not answering", "missing": "down"}.get(self.state, self.state)


def status(stack: Stack) -> tuple[ServiceStatus, ...]:
    """Every service of the plan, asked at the same time."""
    observed = stack.runtime.observe()
    rendered = stack.rendered()
    with ThreadPoolExecutor(max_workers=len(rendered)) as pool:
        answers = list(pool.map(lambda item: stack.runtime.health(item), rendered))
    found = []
    for item, reason in zip(rendered, answers, strict=True):
        seen = observed.get(item.name)
        found.append(
            ServiceStatus(
                item.name,
                item.service.title,
                seen.state if seen else "missing",
                reason is None,
                reason or (seen.note if seen and seen.state == "stopped" else ""),
                seen.pid if seen else 0,
                time.time() - seen.since if seen and seen.since else 0.0,
                reached_at(stack, item.service),
            )
        )
    return tuple(found)


def reached_at(stack: Stack, service: Service) -> str:
    """`address:port` where people reach a public service, and where the other services reach one that is not."""
    first = service.ports[0]
    if not first.public:
        return stack.runtime.placement.address(service.name, first.name)
    return f"[{first.address}]:{first.number}" if ":" in first.address else f"{first.address}:{first.number}"
