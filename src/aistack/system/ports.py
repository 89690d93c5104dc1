"""Who listens on which TCP port: asked by `up` before it starts a service, and by `doctor`."""

import ipaddress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Listener:
    """A listening socket; `pid` is None where it belongs to another user and we are not root."""

    address: str
    port: int
    pid: int | None


@dataclass(frozen=True)
class Owner:
    """The process behind a port. `ancestors` are the pids of its parents, nearest first.

    Of another user's process only root can see which it is: then `pid` is None and the rest empty.
    """

    pid: int | None
    name: str
    command: tuple[str, ...]
    ancestors: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else "a process of another user"


def listeners() -> tuple[Listener, ...]:
    """Every TCP socket that listens on this machine, IPv4 and IPv6."""
    return tuple(
        Listener(found.laddr.ip, found.laddr.port, found.pid)
        for found in psutil.net_connections(kind="tcp")
        if found.laddr and found.status == psutil.CONN_LISTEN
    )


def port_owner(address: str, port: int, among: tuple[Listener, ...] | None = None) -> Owner | None:
    """The process that keeps us from listening on `address`:`port`, or None when the port is free.

    `among` spares asking again when several ports are looked up. Where workers share their parent's
    socket the kernel may name any of them: compare `ancestors` too.
    """
    found = [
        one for one in (listeners() if among is None else among) if one.port == port and _collide(one.address, address)
    ]
    owners = [owner for one in found if (owner := _owner(one.pid)) is not None]
    return min(owners, key=lambda owner: (owner.pid is None, len(owner.ancestors)), default=None)


def _owner(pid: int | None) -> Owner | None:
    """The process `pid`; None when it has ended since its socket was seen, and so freed its port."""
    if pid is None:
        return Owner(None, "", (), ())
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            command = tuple(process.cmdline())
            ancestors = tuple(parent.pid for parent in process.parents())
            return Owner(pid, process.name(), command, ancestors)
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return Owner(pid, "a protected process", (), ())


def _collide(taken: str, wanted: str) -> bool:
    """Whether a socket on `taken` keeps one from `wanted`: the same, or one of them is every address.

    `::` takes IPv4 along, as Linux has it unless net.ipv6.bindv6only is set.
    """
    first, second = _plain(taken), _plain(wanted)
    if first.version == second.version:
        return first == second or first.is_unspecified or second.is_unspecified
    sixth = first if first.version == 6 else second
    return sixth.is_unspecified


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
