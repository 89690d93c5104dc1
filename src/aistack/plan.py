"""Config + Host -> Plan: which services stand, in the order in which they can start. Pure."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from aistack.components import COMPONENTS
from aistack.components.base import Component, Service
from aistack.config.schema import Config
from aistack.errors import ConfigError
from aistack.hardware.host import Host


@dataclass(frozen=True)
class Public:
    """How the stack is reached from outside.

    `names` are host names, `addresses` IP addresses; `origin` is the first as a URL without a path,
    `origins` all of them, `local` the one that this machine itself can use; `port_suffix` is empty for 443,
    else `:8443`.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    origin: str
    origins: tuple[str, ...]
    local: str
    port_suffix: str

    @property
    def server_names(self) -> tuple[str, ...]:
        """Names and addresses as they stand in a Host header, without the port."""
        return (*self.names, *(_in_url(address) for address in self.addresses))


@dataclass(frozen=True)
class Plan:
    """Everything that should run, in an order in which each service follows what it needs."""

    config: Config
    host: Host
    public: Public
    services: tuple[Service, ...]

    def service(self, name: str) -> Service:
        """The service called `name`. Raises ConfigError, naming those there are."""
        for service in self.services:
            if service.name == name:
                return service
        known = ", ".join(sorted(service.name for service in self.services))
        raise ConfigError(f"there is no service {name!r}", f"services of this stack: {known}")

    @property
    def gpu(self) -> str:
        """The vendor whose graphics cards are used, `nvidia` or `amd`; "" without any."""
        wished = self.config.engine.gpu
        if wished == "auto":
            return next((gpu.vendor for gpu in self.host.gpus if gpu.usable and gpu.vendor in ("nvidia", "amd")), "")
        return "" if wished == "none" else wished

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Every secret that a service of the plan uses and that can be made up."""
        return tuple(
            dict.fromkeys(
                name for service in self.services for name in service.secret_names if name not in service.site_secrets
            )
        )


def make_plan(config: Config, host: Host, components: Sequence[Component] = COMPONENTS) -> Plan:
    """Ask every component for its services and order them. Raises ConfigError on clashing names or a cycle."""
    services = {}
    for component in components:
        for service in component(config):
            if service.name in services:
                raise ConfigError(f"two components offer a service {service.name!r}")
            services[service.name] = service
    order = _order(services)
    return Plan(config, host, public_names(config, host), tuple(services[name] for name in order))


def _order(services: dict[str, Service]) -> tuple[str, ...]:
    for service in services.values():
        if missing := [name for name in service.after if name not in services]:
            raise ConfigError(f"service {service.name} waits for {missing[0]}, which is not in the plan")
    try:
        return tuple(TopologicalSorter({name: service.after for name, service in services.items()}).static_order())
    except CycleError as error:
        raise ConfigError(f"services wait for each other: {' -> '.join(error.args[1])}") from error


def public_names(config: Config, host: Host) -> Public:
    """The names of the site, or else those of the machine: first the one that leads to where the proxy listens."""
    bound = ipaddress.ip_address(config.proxy.address)
    # Where it listens on one address, the machine's names may lead to another one.
    local = "localhost" if bound.is_unspecified or bound.is_loopback else str(bound)
    certain = () if bound.is_unspecified else (local,)
    wished = config.site.host_names or (*certain, *host.host_names, *host.addresses)
    everything = dict.fromkeys((*wished, *certain, "localhost", "127.0.0.1", "::1"))
    names = tuple(name for name in everything if not _is_address(name))
    addresses = tuple(name for name in everything if _is_address(name))
    suffix = "" if config.proxy.https_port == 443 else f":{config.proxy.https_port}"
    origins = tuple(f"https://{_in_url(name)}{suffix}" for name in everything)
    return Public(names, addresses, origins[0], origins, f"https://{_in_url(local)}{suffix}", suffix)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _in_url(name: str) -> str:
    return f"[{name}]" if ":" in name else name
