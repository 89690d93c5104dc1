"""Where things are when Compose runs the stack: services by their names, files where the containers see them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from aistack.components.base import OwnModule, Service
from aistack.runtimes.compose.confines import CONFIGURATION, HANDED, MACHINE, SECRETS, STATE, Ground, frame
from aistack.runtimes.local import expanded, site_files
from aistack.runtimes.programs import numbers

MODULE = ("python", "-m")


@dataclass(frozen=True)
class ComposePlacement:
    """The Placement of the Compose runtime."""

    ground: Ground

    def host(self, service: str) -> str:
        """Docker's name server knows each service by its name."""
        return service

    def bind(self, service: str) -> str:  # noqa: ARG002 - other runtimes tell services apart
        """Every address of the container; which networks lead to it is Compose's to say."""
        return "0.0.0.0"  # noqa: S104

    def address(self, service: str, port: str = "http") -> str:
        """`service:port`."""
        number = next(item for item in self.ground.services if item.name == service).port(port).number
        return f"{service}:{number}"

    def url(self, service: str, port: str = "http") -> str:
        """`http://service:port`."""
        return f"http://{self.address(service, port)}"

    def state(self, service: str, name: str) -> str:
        """Below /var/lib/ai-stack."""
        return str(STATE / service / name)

    def file(self, path: str) -> str:
        """Below /etc/ai-stack."""
        return str(CONFIGURATION / path)

    def secret(self, service: str, name: str) -> str:  # noqa: ARG002 - each container has its own
        """Where Compose puts it."""
        return str(SECRETS / name)

    def handed(self, service: str, name: str) -> str:  # noqa: ARG002 - each container has its own
        """A copy that the container's user may read."""
        return str(HANDED / f"{name}.pem")

    def original(self, path: str) -> Path:
        """The file on this machine that a service finds at `path`, or that it finds a copy of."""
        inside = Path(path)
        if inside.parent == HANDED:
            return site_files(self.ground.paths, self.ground.config)[inside.stem]
        return self.ground.paths.secrets / inside.name

    def executable(self, service: Service) -> tuple[str, ...]:
        """What starts it in its image."""
        if service.image:
            return service.image.command
        assert isinstance(service.program, OwnModule)
        return (*MODULE, service.program.module)

    def revision(self, service: Service) -> str:
        """All else that its container is made with."""
        return hashlib.sha256(json.dumps(frame(service, self.ground)).encode()).hexdigest()

    def version(self, service: str) -> tuple[int, ...]:
        """What the tag of its image tells."""
        reference = self.ground.reference(next(item for item in self.ground.services if item.name == service))
        return numbers(reference.partition("@")[0].rpartition("/")[2].partition(":")[2])

    def expand(self, text: str) -> str:
        """A template that needs nothing but `place`; `{{ staged }}` is left standing."""
        return expanded(text, self)

    @property
    def models(self) -> str:
        """The model store."""
        return str(STATE / "models")

    @property
    def machine_root(self) -> str:
        """Where the machine's root is mounted."""
        return MACHINE

    @property
    def public_bind(self) -> str:
        """Every address of the container; Docker publishes the port on the site's address."""
        return "0.0.0.0"  # noqa: S104

    @property
    def worker_user(self) -> str:
        """None: the container is not started as root."""
        return ""

    @property
    def access_log(self) -> str:
        """The container's log."""
        return "/dev/stdout"

    @property
    def resolver(self) -> str:
        """Docker's own name server: a new container may have another address."""
        return "127.0.0.11"

    @property
    def proxy_source(self) -> str:
        """Any: only the proxy and the gateway share a network with the chat."""
        return "*"
