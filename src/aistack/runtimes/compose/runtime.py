"""The Compose runtime: writes compose.yaml and what it mounts, and has Docker run each service in its turn."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from aistack.components.base import Port, Program, Service
from aistack.config.paths import Paths
from aistack.errors import ServiceError, UserError
from aistack.plan import Plan
from aistack.render import RenderedFile, RenderedService
from aistack.runtimes import own
from aistack.runtimes.base import Change, Observed, Progress, Report, State
from aistack.runtimes.compose import document, images
from aistack.runtimes.compose.confines import Ground
from aistack.runtimes.compose.docker import Container, Docker
from aistack.runtimes.compose.placement import ComposePlacement
from aistack.runtimes.compose.trial import judge
from aistack.runtimes.convergence import converge
from aistack.runtimes.previous import Previous
from aistack.system import files, probe

# Whom the containers run as when root brings the stack up: nobody of the machine, and the same everywhere.
_NOBODY = 10001
_STATES: Mapping[str, State] = {
    "running": "running", "restarting": "failed", "dead": "failed",
    "created": "stopped", "exited": "stopped", "paused": "stopped", "removing": "stopped",
}  # fmt: skip
_CRASHES = 3


@dataclass(frozen=True)
class ComposeRuntime:
    """Runs services as containers of one project. `refused` is why Docker would not start a service, by its name."""

    paths: Paths
    placement: ComposePlacement
    docker: Docker
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def ground(self) -> Ground:
        """What the containers stand on."""
        return self.placement.ground

    @property
    def previous(self) -> Previous:
        """What services that are being changed ran with before."""
        return Previous(self.paths.generated / "previous")

    @property
    def models(self) -> Path:
        """The model store."""
        return self.ground.models

    @property
    def compose_file(self) -> Path:
        """compose.yaml."""
        return self.paths.generated / "compose.yaml"

    def state(self, service: str, name: str) -> Path:
        """The folder of a StateDir."""
        return self.paths.state / service / name

    def url(self, service: str, port: str = "http") -> str:
        """The container's own address, which this machine reaches. Raises ServiceError when it does not run."""
        container = self.docker.containers().get(service)
        number = next(one for one in self.ground.services if one.name == service).port(port).number
        if container is None or not container.addresses:
            raise ServiceError(f"{service} is not running", "`aistack up` starts it")
        return f"http://{self._address(service, container)}:{number}"

    def digest(self, path: str) -> str:
        """What tells the content of a file apart."""
        return files.digest(self.placement.original(path))

    def ports(self, service: Service) -> tuple[Port, ...]:
        """Those that are to be published, and are not yet."""
        container = self.docker.containers().get(service.name)
        published = container.published if container else ()
        return tuple(port for port in service.ports if port.public and port.number not in published)

    def pids(self) -> frozenset[int]:
        """The first process of each container, and all that came of it."""
        found: set[int] = set()
        for container in self.docker.containers().values():
            if container.pid and psutil.pid_exists(container.pid):
                found.add(container.pid)
                found.update(child.pid for child in psutil.Process(container.pid).children(recursive=True))
        return frozenset(found)

    def admit(self) -> None:
        """Raise UserError without Docker and Compose, or where a folder's name would be misread in compose.yaml."""
        for folder in (self.paths.config, self.paths.data, self.models):
            if ":" in str(folder):
                raise UserError(f"Compose cannot mount {folder}: its name holds a colon", "choose another folder")
        self.docker.admit()

    def tree(self, wanted: Sequence[RenderedService]) -> tuple[RenderedFile, ...]:
        """compose.yaml, the name of the project, the Dockerfile of our image, and the configurations."""
        written = {
            "compose.yaml": document.text(document.document(wanted, self.placement), self.ground),
            ".env": f"COMPOSE_PROJECT_NAME={self.docker.project}\n",
            "image/Dockerfile": images.dockerfile(own.checkout()),
        }
        return (
            *(RenderedFile(str(self.paths.generated / name), text, 0o644, reloadable=False)
              for name, text in written.items()),
            *(replace(file, path=str(self.paths.generated / file.path)) for item in wanted for file in item.files),
        )  # fmt: skip

    def missing(self, programs: Sequence[tuple[str, Program]]) -> tuple[str, ...]:  # noqa: ARG002 - images bring them
        """The images that `install` would bring."""
        return tuple(
            f"{reference}: the image would be {'built' if reference == images.own_image() else 'pulled'}"
            for reference in self._missing()
        )

    def install(self, programs: Sequence[tuple[str, Program]], report: Report) -> None:  # noqa: ARG002
        """Pull the images, and build our own. Raises ProgramError."""
        for reference in self._missing():
            images.bring(self.docker, reference, self.paths.generated / "image/Dockerfile", report)

    def observe(self) -> Mapping[str, Observed]:
        """Every container of the project, as Docker tells."""
        return {name: self._observed(name, container) for name, container in self.docker.containers().items()}

    def health(self, rendered: RenderedService) -> str | None:
        """Asks the service itself; where this machine cannot reach it, Docker, which asks now and then."""
        container = self.docker.containers().get(rendered.name)
        if container is None:
            return "it does not run"
        if container.state != "running" or not container.addresses:
            return f"it is {container.state}: {container.said}"
        loaded = f"#{self._loaded(rendered.name, container)}" if rendered.service.health.tells_loaded else ""
        reason = probe.ask(f"http://{self._address(rendered.name, container)}:{container.health_address}{loaded}")
        if reason and container.health in ("healthy", "") and self.docker.rootless:
            return None
        return reason

    def check(self, wanted: Sequence[RenderedService]) -> None:
        """Let each program judge its new configuration in a container of its own. Raises ProgramError."""
        for rendered in wanted:
            if rendered.service.check:
                judge(self.docker, rendered, rendered.service.check, self.placement, self.paths.generated / "staged")

    def differences(self, wanted: Sequence[RenderedService]) -> Iterator[str]:
        """The files that `apply` would change."""
        for file in self.tree(wanted):
            name = Path(file.path).relative_to(self.paths.generated)
            yield from files.difference(Path(file.path), file.content, str(name))

    def apply(self, wanted: Sequence[RenderedService], steps: Sequence[Change], report: Report) -> None:
        """Write what changed, then start, restart or reload each service in its turn. Raises ServiceError."""
        self.previous.prepare(wanted, steps, self._keep)
        self._make_folders(wanted)
        for file in self.tree(wanted):
            files.make_directory(Path(file.path).parent)
            files.write(Path(file.path), file.content, file.mode)
        for rendered in wanted:
            self._hand(rendered.service)
        converge(self, wanted, steps, report)
        images.remove_older(self.docker)

    def restart(self, services: Sequence[RenderedService], report: Report) -> None:
        """As compose.yaml has them: what stack.toml says by now is for `apply`."""
        converge(self, services, [Change(one.name, "restart", "you asked for it") for one in services], report)

    def begin(self, rendered: RenderedService, change: Change) -> None:
        """Carry out one step, without waiting for its effect."""
        if change.step == "reload":
            self._reload(rendered.name)
        elif change.step != "keep":
            self.forget(rendered.name)
            self._start(rendered)

    def awaited(self, name: str) -> str | None:
        """The container may be the one that compose.yaml described before."""
        container = self.docker.containers().get(name)
        if container and container.restart_hash == self._label(name, document.RESTART_HASH):
            return None
        return self.refused.get(name, "it has not been started")

    def failure(self, name: str) -> str | None:
        """Why Docker, or the service itself, thinks that it cannot run."""
        container = self.docker.containers().get(name)
        if container and (container.state == "restarting" or container.restarts >= _CRASHES):
            last = list(self.docker.logs(container, 1, follow=False))
            return f"it ends as soon as it is started: {last[-1] if last else container.said}"
        return self.refused.get(name)

    def settled(self, name: str) -> None:
        """There is no way back from what works."""
        self.previous.forget(name)

    def revert(self, rendered: RenderedService, change: Change, *, begun: bool) -> str:
        """Put the old files back, and of compose.yaml the service's own part; when it has seen the new ones,
        have it take the old ones again."""
        now = document.read(self.compose_file.read_text())
        if self.previous.put_back(rendered.name) is None:
            return ""
        before = document.read(self.compose_file.read_text())
        for name in (rendered.name, document.preparation(rendered.name)):
            if name in before["services"]:
                now["services"][name] = before["services"][name]
        files.write(self.compose_file, document.text(now, self.ground), 0o644)
        self._hand(rendered.service)
        if not begun:
            return ""
        self.begin(rendered, change)
        reason = probe.wait(
            lambda: self.awaited(rendered.name) or self.health(rendered), rendered.service.health.start_seconds
        )
        return f"with its old settings: {reason}" if reason else "it runs with its old settings again"

    def forget(self, name: str) -> None:
        """Stop a service and remove its container."""
        if container := self.docker.containers().get(name):
            self.docker.remove([container])

    def down(self, report: Report) -> None:
        """Remove every container and network; data stays."""
        found = self.docker.containers()
        for name in found:
            report(Progress(name, "stopping"))
        self.docker.remove(list(found.values()))
        self.docker.remove_rest()
        for name in found:
            report(Progress(name, "stopped"))

    def leave(self) -> None:
        """What Compose and the containers read, and nobody else."""
        for path in (".env", "image", "handed"):
            files.remove(self.paths.generated / path)
        files.remove(self.compose_file)
        files.remove(self._note("").parent)

    def logs(self, service: str, lines: int, follow: bool) -> Iterator[str]:
        """From Docker, which keeps a log as long as its container. Raises ServiceError when there is none."""
        container = self.docker.containers().get(service)
        if container is None:
            raise ServiceError(f"{service} is not running", "`aistack up` starts it")
        return self.docker.logs(container, lines, follow)

    def _missing(self) -> Iterator[str]:
        for reference in dict.fromkeys(self.ground.reference(service) for service in self.ground.services):
            if not self.docker.has(reference):
                yield reference

    def _observed(self, name: str, container: Container) -> Observed:
        state = _STATES[container.state]
        if state != "running":
            return Observed(state, note=container.said)
        loaded = self._loaded(name, container)
        return Observed(state, container.pid, container.since, container.restart_hash, loaded)

    def _loaded(self, name: str, container: Container) -> str:
        """The hash of what it was last told to load."""
        note = _read(self._note(name))
        return note["reload_hash"] if note.get("container") == container.id else container.reload_hash

    def _start(self, rendered: RenderedService) -> None:
        """Docker's refusal fails this service alone, and is told when its time comes."""
        name = rendered.name
        self.refused.pop(name, None)
        if rendered.prepare:
            # Started with Compose alone it would be a service that another is waiting for.
            done = self.docker.compose("run", "--rm", "--no-deps", "-T", document.preparation(name))
            if done.status:
                self.refused[name] = f"it could not be prepared: {_refusal(done.stderr)}"
                return
        done = self.docker.compose("up", "--detach", "--no-deps", "--no-build", name)
        if done.status:
            self.refused[name] = _refusal(done.stderr)

    def _reload(self, name: str) -> None:
        container = self.docker.containers().get(name)
        if container is None or self.docker.run("kill", "--signal", "HUP", container.id).status:
            raise ServiceError(f"{name} ended while it was to be reloaded", "run `aistack up` again")
        loaded = {"container": container.id, "reload_hash": self._label(name, document.RELOAD_HASH)}
        files.write(self._note(name), json.dumps(loaded), 0o600)

    def _label(self, name: str, label: str) -> str:
        return str(document.read(self.compose_file.read_text())["services"][name]["labels"][label])

    def _address(self, service: str, container: Container) -> str:
        addresses = container.addresses
        return addresses.get(f"{self.docker.project}_{service}") or next(iter(addresses.values()))

    def _keep(self, rendered: RenderedService) -> None:
        if self.compose_file.exists():
            paths = [self.paths.generated / file.path for file in rendered.files]
            self.previous.keep(rendered.name, [self.compose_file, *paths], "")

    def _make_folders(self, wanted: Sequence[RenderedService]) -> None:
        for folder, mode in ((self.paths.data, 0o711), (self.paths.state, 0o711), (self.paths.run, 0o700)):
            files.make_directory(folder, mode)
        # The containers mount what lies in it one by one; nobody else has to look in.
        files.make_directory(self.paths.generated, 0o700)
        if not self.models.exists():  # else its mode is the site's own affair
            files.make_directory(self.models)
        for rendered in wanted:
            files.make_directory(self.paths.state / rendered.name, 0o711)
            for state in rendered.service.states:
                folder = self.state(rendered.name, state.name)
                files.make_directory(folder, state.mode)
                files.give(folder, *self.ground.user)
            for secret in rendered.service.secret_names:
                files.give(self.paths.secrets / secret, *self.ground.user)

    def _hand(self, service: Service) -> None:
        """Give the service copies that are its own of what the site keeps for itself."""
        if not service.handed:
            return
        folder = self.paths.generated / "handed" / service.name
        files.make_directory(folder.parent)
        files.make_directory(folder, 0o500)
        files.give(folder, *self.ground.user)
        for name in service.handed:
            copy = folder / f"{name}.pem"
            files.write(copy, self.placement.original(self.placement.handed(service.name, name)).read_bytes(), 0o400)
            files.give(copy, *self.ground.user)

    def _note(self, name: str) -> Path:
        return self.paths.run / "containers" / f"{name}.json"


def make(paths: Paths, plan: Plan, confirm: Callable[[str], bool]) -> ComposeRuntime:  # noqa: ARG001 - nothing to ask
    """The Compose runtime of a stack."""
    user = (_NOBODY, _NOBODY) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    image = plan.config.images.aistack or images.own_image()
    groups = _groups() if plan.gpu == "amd" else ()
    ground = Ground(paths, plan.config, plan.services, user, image, plan.gpu, groups)
    return ComposeRuntime(paths, ComposePlacement(ground), Docker(project(paths), paths.generated))


def project(paths: Paths) -> str:
    """What Compose calls the stack; stacks in other places have names of their own."""
    if paths.data == Path("/var/lib/ai-stack"):
        return "ai-stack"
    return f"ai-stack-{hashlib.sha256(str(paths.data).encode()).hexdigest()[:8]}"


def _groups() -> tuple[int, ...]:
    """Those that may use AMD's cards, by number: the image need not know their names."""
    devices = [Path("/dev/kfd"), *sorted(Path("/dev/dri").glob("renderD*"))]
    return tuple(dict.fromkeys(device.stat().st_gid for device in devices if device.exists()))


def _read(path: Path) -> Mapping[str, str]:
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _refusal(told: str) -> str:
    """Why Docker refused, in one line: what stands behind the last of the words that each Compose puts before it."""
    why = re.split(r"ERROR: (?:for \S+ )?|Error response from daemon: ", told)[-1]
    return (
        " ".join(why.replace("Encountered errors while bringing up the project.", "").split()) or "it did not say why"
    )
