"""The names and addresses by which others can reach this machine: what its certificate must hold."""

import ipaddress
import re
from pathlib import Path

from aistack.hardware.tree import text

# Bridges and pairs that containers and virtual machines make: addresses that only they can reach.
_INTERNAL = ("docker", "br-", "veth", "virbr", "cni", "cbr", "flannel", "lxc", "lxd", "podman", "cali")
_IPV6_SHORT_LIVED = 0x01 | 0x08 | 0x20 | 0x40  # temporary (privacy), failed, deprecated, tentative
_IPV6_GLOBAL_SCOPE = "00"


def host_names(root: Path) -> tuple[str, ...]:
    """The machine's name, then the other names that /etc/hosts gives it, then its mDNS name if it has one."""
    name = text(root / "proc/sys/kernel/hostname") or text(root / "etc/hostname")
    names = [name]
    for line in text(root / "etc/hosts").splitlines():
        listed = line.partition("#")[0].split()[1:]
        if name in listed:
            names += listed
    if (root / "usr/sbin/avahi-daemon").exists() and "." not in name:
        names.append(f"{name}.local")
    return tuple(dict.fromkeys(name for name in names if name and name != "localhost"))


def addresses(root: Path) -> tuple[str, ...]:
    """The addresses others can reach us by, IPv4 first, sorted, so that the same machine answers the same."""
    routes = text(root / "proc/net/route")
    ipv4 = _ipv4(text(root / "proc/net/fib_trie"), _internal_networks(routes))
    ipv6 = _ipv6(text(root / "proc/net/if_inet6"))
    return (*map(str, sorted(ipv4)), *map(str, sorted(ipv6)))


def _ipv4(trie: str, internal: tuple[ipaddress.IPv4Network, ...]) -> set[ipaddress.IPv4Address]:
    """Our own addresses in the kernel's routing trie: a leaf `|-- A` followed by `/32 host LOCAL`."""
    local = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", trie)
    found = {ipaddress.IPv4Address(address) for address in local}
    return {
        address
        for address in found
        if not address.is_loopback and not address.is_link_local and not any(address in network for network in internal)
    }


def _internal_networks(routes: str) -> tuple[ipaddress.IPv4Network, ...]:
    """The networks behind bridges for containers. /proc/net/route writes addresses as little-endian hex."""
    found = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[0].startswith(_INTERNAL):
            destination, mask = (ipaddress.IPv4Address(bytes.fromhex(fields[column])[::-1]) for column in (1, 7))
            found.append(ipaddress.IPv4Network(f"{destination}/{mask}"))
    return tuple(found)


def _ipv6(listing: str) -> set[ipaddress.IPv6Address]:
    """Columns of /proc/net/if_inet6: address, interface number, prefix, scope, flags, interface."""
    found = set()
    for line in listing.splitlines():
        address, _, _, scope, flags, interface = line.split()
        lasting = not int(flags, 16) & _IPV6_SHORT_LIVED
        if scope == _IPV6_GLOBAL_SCOPE and lasting and not interface.startswith(_INTERNAL):
            found.add(ipaddress.IPv6Address(bytes.fromhex(address)))
    return found
