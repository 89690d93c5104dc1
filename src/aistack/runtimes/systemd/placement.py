"""Where things are when systemd runs the stack: loopback addresses, and the places where people look for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aistack.components.base import OwnModule, Service
from aistack.runtimes import own
from aistack.runtimes.local import LocalPlacement, site_files

PREFIX = "ai-stack-"
TARGET = "ai-stack.target"
UNITS = Path("/etc/systemd/system")
PROGRAMS = Path("/opt/ai-stack")
STATE = Path("/var/lib")
# What each running service was started with, and last loaded: a line of two hashes, written by the unit itself.
STARTED = Path("/run/ai-stack")


def unit_name(service: str) -> str:
    """The unit that runs `service`."""
    return f"{PREFIX}{service}.service"


def user_name(service: str) -> str:
    """The system user that `service` runs as."""
    return f"{PREFIX}{service}"


@dataclass(frozen=True)
class SystemdPlacement(LocalPlacement):
    """The Placement of the systemd runtime; `gpu` is the vendor of the cards to use, "" without any."""

    gpu: str = ""

    def state(self, service: str, name: str) -> str:
        """`/var/lib/open-webui` and the like; what has no such usual place lies below the stack's own folder."""
        return str(STATE / self.state_directory(service, name))

    def state_directory(self, service: str, name: str) -> str:
        """The same relative to /var/lib, as StateDirectory= has it."""
        usual = next(state.usual for item in self.services if item.name == service
                     for state in item.states if state.name == name)  # fmt: skip
        if usual and self.config.paths.usual_places:
            return usual
        return str((self.paths.state / service / name).relative_to(STATE))

    def secret(self, service: str, name: str) -> str:
        """Where LoadCredential= puts it."""
        return f"/run/credentials/{unit_name(service)}/{name}"

    def handed(self, service: str, name: str) -> str:
        """A copy that the service's user may read, in its RuntimeDirectory=."""
        return f"/run/{PREFIX}{service}/{name}.pem"

    def original(self, path: str) -> Path:
        """The file on this machine that a service finds at `path`."""
        for service in self.services:
            for name in service.handed:
                if path == self.handed(service.name, name):
                    return site_files(self.paths, self.config)[name]
            for secret in service.secret_names:
                if path == self.secret(service.name, secret):
                    return self.paths.secrets / secret
        return Path(path)

    @property
    def programs(self) -> Path:
        """Where the virtual environments lie."""
        return Path(self.config.paths.programs or PROGRAMS)

    @property
    def worker_user(self) -> str:
        """None: nginx is not started as root."""
        return ""

    @property
    def access_log(self) -> str:
        """The journal: standard output is a socket there, which nginx cannot open."""
        return "syslog:server=unix:/dev/log,nohostname,tag=nginx"

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """Nothing of the caller's own; systemd sets the rest."""
        return {"LANG": "C.UTF-8", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def own_environment(self) -> Path:
        """The virtual environment with this very build of aistack, readable by all."""
        return self.programs / f"aistack-{own.revision()}"

    @property
    def module_command(self) -> tuple[str, ...]:
        """What runs a module of aistack."""
        return (str(self.own_environment / "bin" / "python"), "-m")

    def revision(self, service: Service) -> str:
        """Nothing: the path of our own modules tells their build."""
        return "" if isinstance(service.program, OwnModule) else super().revision(service)
