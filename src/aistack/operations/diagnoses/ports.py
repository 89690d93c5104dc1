"""Diagnosis: does a process that is not ours hold a port that we want?"""

import os
from pathlib import Path

from aistack.hardware.tree import number
from aistack.operations.diagnoses.base import Finding, Inputs
from aistack.system.ports import Owner, port_owner

_LOWEST_FREE = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A problem for each port that somebody else holds, or that we may not open."""
    seen = inputs.listeners()
    found = []
    for service, (address, port) in inputs.ports.items():
        owner = port_owner(address, port, seen)
        if owner is None:
            found += _forbidden(service, port)
        elif not _ours(owner, inputs.own_pids):
            found.append(_taken(service, address, port, owner))
    return tuple(found) or (Finding("ok", "ports", f"all {len(inputs.ports)} ports are free or ours"),)


def _ours(owner: Owner, own_pids: frozenset[int]) -> bool:
    return not own_pids.isdisjoint({owner.pid, *owner.ancestors})


def _taken(service: str, address: str, port: int, owner: Owner) -> Finding:
    command = " ".join(owner.command).strip()
    running = f", running `{command[:120]}`" if command else ""
    look = f"see `ps -fp {owner.pid}`" if owner.pid else f"see `sudo ss -ltnp sport = :{port}`"
    return Finding(
        "problem",
        "ports",
        f"{address}:{port}, wanted by {service}, is taken by {owner}{running}",
        f"stop that program ({look}), or give {service} another port in stack.toml and run `aistack up`",
    )


def _forbidden(service: str, port: int) -> list[Finding]:
    lowest = number(_LOWEST_FREE)
    if os.geteuid() == 0 or lowest is None or port >= lowest:
        return []
    return [
        Finding(
            "warning",
            "ports",
            f"port {port}, wanted by {service}, is one that only root may open (below {lowest})",
            f"choose one from {lowest} on, or run `sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`",
        )
    ]
