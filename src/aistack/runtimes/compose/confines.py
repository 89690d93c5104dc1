"""Service -> what holds its container in: image, user, networks, folders, limits. Pure.

It is all that a container is made with beside what is rendered for it, so that a change here starts it anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aistack.components.base import Service
from aistack.config.paths import Paths
from aistack.config.schema import Config

# Where things lie in a container.
STATE = Path("/var/lib/ai-stack")
CONFIGURATION = Path("/etc/ai-stack")
HANDED = CONFIGURATION / "handed"
SECRETS = Path("/run/secrets")
MACHINE = "/host"

# The one network, beside those of services with business outside, that leads out of the machine.
_EDGE = "edge"
_ONLY_ROOT_BELOW = 1024

Definition = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """What the containers stand on: `user` is the uid and gid they run as, `image` that of our own modules,
    `gpu` the vendor of the cards to use ("" without any), and `gpu_groups` the gids that may."""

    paths: Paths
    config: Config
    services: tuple[Service, ...]
    user: tuple[int, int]
    image: str
    gpu: str = ""
    gpu_groups: tuple[int, ...] = ()

    @property
    def models(self) -> Path:
        """The model store, as this machine sees it."""
        return Path(self.config.paths.models or self.paths.models)

    def reference(self, service: Service) -> str:
        """The image of `service`."""
        gpu = self.gpu if service.uses_gpu else ""
        return service.image.reference(gpu) if service.image else self.image


def networks(services: Sequence[Service]) -> Definition:
    """A network for each service, without a way out, and one for each with business outside."""
    inner: Definition = {service.name: {"internal": True} for service in services}
    outer: Definition = {name: {} for service in services for name in _ways_out(service)}
    return inner | outer


def frame(service: Service, ground: Ground) -> Definition:
    """The container of `service`, without what is to run in it."""
    known = {other.name for other in ground.services}
    talks_to = [name for name in service.talks_to if name in known]
    found: Definition = {
        **confined(ground.reference(service), ground, service.tasks),
        "restart": "unless-stopped",
        "stop_grace_period": f"{service.stop_seconds:.0f}s",
        "networks": [service.name, *talks_to, *_ways_out(service)],
    }
    if volumes := [*_volumes(service, ground)]:
        found["volumes"] = volumes
    if service.memory_mib:
        found["mem_limit"] = f"{service.memory_mib}m"
    if service.secret_names:
        found["secrets"] = list(service.secret_names)
    if public := [port for port in service.ports if port.public]:
        found["ports"] = [f"{_published_on(port.address)}{port.number}:{port.number}" for port in public]
    if any(port.number < _ONLY_ROOT_BELOW for port in service.ports):
        found["sysctls"] = {"net.ipv4.ip_unprivileged_port_start": 0}
    return found | _graphics(service, ground) | _health_check(service)


def confined(image: str, ground: Ground, tasks: int) -> Definition:
    """What every container has: nothing that it could do without."""
    return {
        "image": image,
        "user": "{}:{}".format(*ground.user),
        "init": True,
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": tasks,
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}},
    }


def states(service: Service, ground: Ground) -> Iterator[str]:
    """The folders that `service` keeps data in."""
    for state in service.states:
        inside = f"{service.name}/{state.name}"
        yield f"{ground.paths.state / inside}:{STATE / inside}"


def health_address(service: Service) -> str:
    """Where a container tells its health: `PORT/PATH` of its own address."""
    health = service.health
    return f"{service.port(health.port).number}{health.path}"


def _ways_out(service: Service) -> Iterator[str]:
    if any(port.public for port in service.ports):
        yield _EDGE
    if service.outbound:
        yield f"{service.name}-outbound"


def _published_on(address: str) -> str:
    """Docker publishes on every address, IPv6 too, when none is named."""
    if address == "::":
        return ""
    return f"[{address}]:" if ":" in address else f"{address}:"


def _volumes(service: Service, ground: Ground) -> Iterator[str]:
    # Folders, never single files: a file that is replaced by renaming would stay the old one in the container.
    for folder in dict.fromkeys(Path(file.path).parts[0] for file in service.config_files):
        yield f"./{folder}:{CONFIGURATION / folder}:ro"
    if service.handed:
        yield f"./handed/{service.name}:{HANDED}:ro"
    yield from states(service, ground)
    if service.reads_models:
        yield f"{ground.models}:{STATE / 'models'}:ro"
    if service.sees_machine:
        yield f"/:{MACHINE}:ro"


def _graphics(service: Service, ground: Ground) -> Definition:
    vendor = ground.gpu if service.uses_gpu else ""
    if vendor == "nvidia":
        cards = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
        return {"deploy": {"resources": {"reservations": {"devices": [cards]}}}}
    if vendor == "amd":
        groups = [str(group) for group in ground.gpu_groups]
        return {"devices": ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"], "group_add": groups}
    return {}


def _health_check(service: Service) -> Definition:
    port, _, path = health_address(service).partition("/")
    url = f"http://127.0.0.1:{port}/{path}"
    shell = (
        f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /{path} HTTP/1.0\\r\\n\\r\\n' >&3; "
        "read -r status <&3; [[ $status == *' 200 '* ]]"
    )
    tests: Mapping[str, Sequence[str]] = {
        "curl": ("curl", "--fail", "--silent", "--output", "/dev/null", url),
        "wget": ("wget", "-q", "-O", "/dev/null", url),
        "bash": ("bash", "-c", shell),
        "python": ("python", "-m", "aistack.system.probe", url),
        "ollama": ("ollama", "list"),
    }
    probe = service.image.probe if service.image else "python"
    if not probe:
        return {}
    return {
        "healthcheck": {
            "test": ["CMD", *tests[probe]],
            "interval": "15s",
            "timeout": "5s",
            "retries": 3,
            "start_period": f"{service.health.start_seconds:.0f}s",
        }
    }
