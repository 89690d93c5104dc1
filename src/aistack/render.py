"""Plan + Placement -> what each service is given: command line, environment, files and their hashes. Pure."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from jinja2 import Environment, StrictUndefined

from aistack.components.base import ConfigFile, SecretValue, Service
from aistack.plan import Plan


class Placement(Protocol):
    """A runtime's answers: where services are reachable, and where files and programs lie, all as text."""

    def host(self, service: str) -> str:
        """The host name at which other services reach `service`."""
        ...

    def bind(self, service: str) -> str:
        """The address that `service` listens on."""
        ...

    def address(self, service: str, port: str = "http") -> str:
        """`host:port` for other services."""
        ...

    def url(self, service: str, port: str = "http") -> str:
        """`http://host:port` for other services."""
        ...

    def state(self, service: str, name: str) -> str:
        """The folder of a StateDir."""
        ...

    def file(self, path: str) -> str:
        """Where a ConfigFile is found."""
        ...

    def secret(self, service: str, name: str) -> str:
        """Where `service` finds the file with a secret."""
        ...

    def handed(self, service: str, name: str) -> str:
        """Where `service` finds a file of the site: `certificate` or `certificate_key`."""
        ...

    def executable(self, service: Service) -> tuple[str, ...]:
        """The command that starts the program of `service`, to which its arguments are added."""
        ...

    def revision(self, service: Service) -> str:
        """What a service must be started anew for beside what is rendered for it: another build of its program,
        other confines; empty when there is nothing such."""
        ...

    def version(self, service: str) -> tuple[int, ...]:
        """The version of the program of `service`, for what older ones read otherwise; () when it is not known."""
        ...

    @property
    def models(self) -> str:
        """The folder of the model store."""
        ...

    @property
    def machine_root(self) -> str:
        """What a service that sees the machine finds before the paths of its files; empty where they are its own."""
        ...

    @property
    def public_bind(self) -> str:
        """The address that the proxy listens on, as nginx writes it."""
        ...

    @property
    def worker_user(self) -> str:
        """The user that a proxy started as root hands its workers to; empty when it is not root."""
        ...

    @property
    def access_log(self) -> str:
        """Where the proxy writes a line a request, as nginx names it."""
        ...

    @property
    def resolver(self) -> str:
        """The name server to ask for the addresses of services; empty where they never change."""
        ...

    @property
    def proxy_source(self) -> str:
        """The address that the proxy's connections come from; `*` where only it can connect."""
        ...


@dataclass(frozen=True)
class RenderedFile:
    """A file to write; `path` is relative to the folder of generated files."""

    path: str
    content: str
    mode: int
    reloadable: bool


@dataclass(frozen=True)
class RenderedService:
    """A service in a runtime's own terms.

    When `restart_hash` differs from that of the running service it must be started anew; when only
    `reload_hash` differs a reload will do.
    """

    service: Service
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    secret_environment: Mapping[str, SecretValue]
    prepare: tuple[str, ...]
    files: tuple[RenderedFile, ...]
    restart_hash: str
    reload_hash: str

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    @property
    def health(self) -> str:
        """The path of its health; where it tells what it has loaded, that follows as a fragment (`system/probe.py`)."""
        health = self.service.health
        return f"{health.path}#{self.reload_hash}" if health.tells_loaded else health.path


def render(plan: Plan, place: Placement, digest: Callable[[str], str]) -> tuple[RenderedService, ...]:
    """Every service of `plan` as `place` has it. `digest` tells a file's content apart by its path."""
    return tuple(_Renderer(plan, place, digest).service(service) for service in plan.services)


def seconds(duration: str) -> float:
    """`500ms`, `30s`, `5m`, `2h`, `1d` in seconds; `-1` and `0` stay what they are."""
    for unit, factor in (("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)):
        number = duration.removesuffix(unit)
        if number != duration and number.isdigit():
            return int(number) * factor
    return float(duration)


# It stands in the text that its own value is made from.
_LOADED = "{{ loaded }}"


class _Renderer:
    def __init__(self, plan: Plan, place: Placement, digest: Callable[[str], str]) -> None:
        self._place = place
        self._digest = digest
        # StrictUndefined: a misspelt name is an error, not an empty string in somebody's nginx.conf.
        self._jinja = Environment(  # noqa: S701 - no HTML is rendered
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        self._jinja.filters["seconds"] = seconds
        self._names: dict[str, Any] = {
            "config": plan.config, "host": plan.host, "public": plan.public, "services": plan.services, "place": place,
            "loaded": _LOADED,
        }  # fmt: skip

    def text(self, template: str) -> str:
        return self._jinja.from_string(template).render(self._names)

    def file(self, file: ConfigFile) -> RenderedFile:
        return RenderedFile(file.path, self.text(file.template), file.mode, file.reloadable)

    def service(self, service: Service) -> RenderedService:
        argv = (*self._place.executable(service), *(self.text(part) for part in service.arguments))
        plain = {k: self.text(v) for k, v in service.environment.items() if isinstance(v, str)}
        secret = {k: v for k, v in service.environment.items() if isinstance(v, SecretValue)}
        prepare = tuple(self.text(part) for part in service.prepare)
        files = tuple(self.file(file) for file in service.config_files)
        secrets = {name: self._digest(self._place.secret(service.name, name)) for name in service.secret_names}
        forms = {name: (value.name, value.form) for name, value in secret.items()}
        fixed = {file.path: file.content for file in files if not file.reloadable}
        fixed |= {file.path: self.text(file.fixed) for file in service.config_files if file.fixed}
        loaded = {file.path: file.content for file in files if file.reloadable}
        handed = {name: self._digest(self._place.handed(service.name, name)) for name in service.handed}
        # A socket that is moved by a reload may fail to open without anybody being told.
        sockets = [(port.address, port.number) for port in service.ports]
        build = self._place.revision(service)
        reload_hash = _hash(loaded, handed)
        files = tuple(replace(file, content=file.content.replace(_LOADED, reload_hash)) for file in files)
        return RenderedService(
            service, argv, plain, secret, prepare, files,
            restart_hash=_hash(argv, plain, forms, prepare, fixed, secrets, sockets, build),
            reload_hash=reload_hash,
        )  # fmt: skip


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
