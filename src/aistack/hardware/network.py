"""The names and addresses by which others can reach this machine: what its certificate must hold."""

import ipaddress
import re
from pathlib import Path

from aistack.hardware.tree import text

# Bridges and pairs that containers and virtual machines make: addresses that only they can reach. A bridge that an
# administrator made, such as br0 or br-lan, is none of them.
_INTERNAL = re.compile("docker|br-[0-9a-f]{12}$|veth|virbr|cni|cbr|flannel|lxc|lxd|podman|cali")
_UP = 0x1  # IFF_UP
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
    networks = _networks(text(root / "proc/net/route"))
    roaming = any(_roams(folder, networks) for folder in (root / "sys/class/net").glob("*"))
    ipv4 = {address for address in _local(text(root / "proc/net/fib_trie")) if _counts(address, networks, roaming)}
    ipv6 = _ipv6(text(root / "proc/net/if_inet6"))
    return (*map(str, sorted(ipv4)), *map(str, sorted(ipv6)))


def _local(trie: str) -> set[ipaddress.IPv4Address]:
    """Our own addresses in the kernel's routing trie: a leaf `|-- A` followed by `/32 host LOCAL`."""
    found = {ipaddress.IPv4Address(address) for address in re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", trie)}
    return {address for address in found if not address.is_loopback and not address.is_link_local}


def _networks(routes: str) -> tuple[tuple[str, ipaddress.IPv4Network], ...]:
    """The network that each interface is in. /proc/net/route writes addresses as little-endian hex."""
    found = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and int(fields[2], 16) == 0:  # no gateway
            destination, mask = (ipaddress.IPv4Address(bytes.fromhex(fields[column])[::-1]) for column in (1, 7))
            network = ipaddress.IPv4Network(f"{destination}/{mask}")
            if 0 < network.prefixlen < network.max_prefixlen:
                found.append((fields[0], network))
    return tuple(found)


def _roams(device: Path, networks: tuple[tuple[str, ipaddress.IPv4Network], ...]) -> bool:
    """Whether an interface that is up may have an address in no network: a tunnel's, or a cloud's /32."""
    ordinary = device.name in ("lo", *(name for name, _ in networks)) or (device / "master").exists()
    return not ordinary and not _INTERNAL.match(device.name) and bool(int(text(device / "flags") or "0", 16) & _UP)


def _counts(
    address: ipaddress.IPv4Address, networks: tuple[tuple[str, ipaddress.IPv4Network], ...], roaming: bool
) -> bool:
    """Whether others can reach us by `address`. One in no network is that of an interface that roams, where there
    is such; else of one that is down, whose routes are gone while its address stays."""
    interfaces = [name for name, network in networks if address in network]
    return not any(_INTERNAL.match(name) for name in interfaces) if interfaces else roaming


def _ipv6(listing: str) -> set[ipaddress.IPv6Address]:
    """Columns of /proc/net/if_inet6: address, interface number, prefix, scope, flags, interface."""
    found = set()
    for line in listing.splitlines():
        address, _, _, scope, flags, interface = line.split()
        lasting = not int(flags, 16) & _IPV6_SHORT_LIVED
        if scope == _IPV6_GLOBAL_SCOPE and lasting and not _INTERNAL.match(interface):
            found.add(ipaddress.IPv6Address(bytes.fromhex(address)))
    return found
