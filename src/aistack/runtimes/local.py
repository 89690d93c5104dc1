"""Where things are when the stack runs on this very machine: loopback addresses and plain paths."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from aistack.components.base import (
    DebianProgram,
    InstalledProgram,
    OwnModule,
    Port,
    PythonProgram,
    Service,
)
from aistack.config.paths import Paths
from aistack.config.schema import Config
from aistack.render import Placement
from aistack.runtimes import own
from aistack.runtimes.previous import Previous
from aistack.runtimes.programs import SYSTEM_PATH, Installer, environment_folder, find, version


@dataclass(frozen=True)
class LocalPlacement:
    """The Placement of the process runtime; `version_of` asks an executable for its version."""

    paths: Paths
    config: Config
    services: tuple[Service, ...]
    version_of: Callable[[str], tuple[int, ...]] = version

    def host(self, service: str) -> str:
        """Everything is on this machine."""
        return self.bind(service)

    def bind(self, service: str) -> str:  # noqa: ARG002 - other runtimes tell services apart
        """Loopback; only the proxy has public ports, and says so by `public_bind`."""
        return "127.0.0.1"

    def address(self, service: str, port: str = "http") -> str:
        """`127.0.0.1:port`."""
        number = next(item for item in self.services if item.name == service).port(port).number
        return f"{self.host(service)}:{number}"

    def url(self, service: str, port: str = "http") -> str:
        """`http://127.0.0.1:port`."""
        return f"http://{self.address(service, port)}"

    def state(self, service: str, name: str) -> str:
        """Below the data folder's `state`."""
        return str(self.paths.state / service / name)

    def file(self, path: str) -> str:
        """Below the data folder's `generated`."""
        return str(self.paths.generated / path)

    def secret(self, service: str, name: str) -> str:  # noqa: ARG002 - all run as one user
        """Below the configuration folder's `secrets`."""
        return str(self.paths.secrets / name)

    def handed(self, service: str, name: str) -> str:  # noqa: ARG002 - all run as one user
        """The site's own file, or ours."""
        return str(site_files(self.paths, self.config)[name])

    @property
    def models(self) -> str:
        """The model store."""
        return self.config.paths.models or str(self.paths.models)

    @property
    def programs(self) -> Path:
        """Where the virtual environments lie."""
        return Path(self.config.paths.programs or self.paths.programs)

    @property
    def machine_root(self) -> str:
        """Nothing: services see the paths that everybody sees."""
        return ""

    @property
    def public_bind(self) -> str:
        """The proxy's address, in brackets when it is IPv6."""
        address = self.config.proxy.address
        return f"[{address}]" if ":" in address else address

    @property
    def worker_user(self) -> str:
        """Debian's user for web servers, when we are root."""
        return "www-data" if os.geteuid() == 0 else ""

    @property
    def access_log(self) -> str:
        """The service's log."""
        return "/dev/stdout"

    @property
    def resolver(self) -> str:
        """None: loopback stays where it is."""
        return ""

    @property
    def proxy_source(self) -> str:
        """Loopback."""
        return "127.0.0.1"

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """What every service finds in its environment; nothing of the caller's own."""
        return {
            "PATH": SYSTEM_PATH,
            "HOME": str(self.paths.state),
            "LANG": "C.UTF-8",
        }

    @property
    def module_command(self) -> tuple[str, ...]:
        """What runs a module of aistack."""
        return (sys.executable, "-P", "-m")

    def find(self, executable: str) -> str:
        """The full path of `executable`, or just its name while it is not installed."""
        return find(executable) or executable

    def executable(self, service: Service) -> tuple[str, ...]:
        """The command that starts the program of `service`."""
        match service.program:
            case OwnModule(module):
                return (*self.module_command, module)
            case PythonProgram() as program:
                return (str(environment_folder(self.programs, program) / "bin" / program.executable),)
            case DebianProgram(executable=name) | InstalledProgram(executable=name):
                return (self.find(name),)

    def revision(self, service: Service) -> str:
        """Our own code and what it stands on: a running service must not outlive an update.

        And the program that judges its own new configurations: what the new one takes, the running old one may not.
        """
        if isinstance(service.program, OwnModule):
            return own.revision()
        judge = find(service.check.executable) if service.check else None
        if judge is None:
            return ""
        found = Path(judge).stat()
        return f"{judge} {found.st_size} {found.st_mtime_ns}"

    def version(self, service: str) -> tuple[int, ...]:
        """What its Debian package brought; () for others."""
        program = next(item for item in self.services if item.name == service).program
        return self.version_of(program.executable) if isinstance(program, DebianProgram) else ()

    def expand(self, text: str) -> str:
        """A template that needs nothing but `place`; `{{ staged }}` is left standing."""
        return expanded(text, self)


@dataclass(frozen=True)
class OnThisMachine:
    """What is the same for every runtime whose services are plain processes here; `installer` brings the programs."""

    paths: Paths
    placement: LocalPlacement
    installer: Installer

    @property
    def previous(self) -> Previous:
        """What services that are being changed ran with before."""
        return Previous(self.paths.generated / "previous")

    @property
    def models(self) -> Path:
        """The model store."""
        return Path(self.placement.models)

    def state(self, service: str, name: str) -> Path:
        """The folder of a StateDir."""
        return Path(self.placement.state(service, name))

    def url(self, service: str, port: str = "http") -> str:
        """Where a service is reached."""
        return self.placement.url(service, port)

    def ports(self, service: Service) -> tuple[Port, ...]:
        """All its ports: everything listens on this machine."""
        return service.ports


def expanded(text: str, place: Placement) -> str:
    """A template that needs nothing but `place`; `{{ staged }}` is left standing."""
    jinja = Environment(undefined=StrictUndefined)  # noqa: S701 - no HTML is rendered
    return jinja.from_string(text).render(place=place, staged="{{ staged }}")


def site_files(paths: Paths, config: Config) -> Mapping[str, Path]:
    """The files of the site that services are handed: its own, or ours."""
    return {
        "certificate": Path(config.proxy.certificate or paths.tls / "server.pem"),
        "certificate_key": Path(config.proxy.certificate_key or paths.tls / "server.key"),
    }
