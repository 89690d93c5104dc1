"""Docker, by its command line: what containers a stack has, and Compose in the version that is there."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from aistack.errors import ProgramError, UserError
from aistack.runtimes.compose.document import HEALTH, NAME, RELOAD_HASH, RESTART_HASH
from aistack.system.run import Finished, check, lines, run

_PROJECT = "com.docker.compose.project"
# `service_completed_successfully` came with it.
_OLDEST = (1, 29)
_INSTALL = "install Docker's Compose plugin (docker-compose-plugin), or Debian's docker-compose"
# A container that is gone may still hold its place in a network for a moment.
_STILL_LEAVING = "active endpoints"
_LEAVING_S = 15.0
# One look serves all who ask at about the same time.
_FRESH_S = 0.3


@dataclass(frozen=True)
class Container:
    """One container: `state` and `health` in Docker's words, `health` empty where it has no check; `said` is what
    its last check or its end left behind; `addresses` by network."""

    id: str
    state: str
    health: str
    said: str
    pid: int
    since: float
    restarts: int
    addresses: Mapping[str, str]
    published: frozenset[int]
    labels: Mapping[str, str]

    @property
    def restart_hash(self) -> str:
        """What it was started with."""
        return self.labels.get(RESTART_HASH, "")

    @property
    def reload_hash(self) -> str:
        """What it had loaded when it was made."""
        return self.labels.get(RELOAD_HASH, "")

    @property
    def health_address(self) -> str:
        """`PORT/PATH` where it tells its health."""
        return self.labels.get(HEALTH, "")


@dataclass
class Docker:
    """The engine that DOCKER_HOST or the current context names, for the project whose compose.yaml lies in `folder`."""

    project: str
    folder: Path
    _seen: dict[str, Container] = field(default_factory=dict)
    _seen_at: float = float("-inf")

    def run(
        self, *arguments: str, on_line: Callable[[str], None] | None = None, env: Mapping[str, str] | None = None
    ) -> Finished:
        """`docker` with `arguments`. Raises UserError, with the cure, when there is no Docker or it does not answer."""
        try:
            done = run(["docker", *arguments], on_line=on_line, env=env)
        except ProgramError:
            raise UserError("Docker is not installed", "install docker.io, or Docker's own docker-ce") from None
        if done.status:
            _refuse_silent(done)
        return done

    def compose(self, *arguments: str) -> Finished:
        """Compose with `arguments`, on the project."""
        self.forget()
        done = run([*self._compose, *self._options, *arguments])
        if done.status:
            _refuse_silent(done)
        return done

    def logs(self, container: Container, count: int, follow: bool) -> Iterator[str]:
        """The end of a container's log, and with `follow` what comes after."""
        argv = ["docker", "logs", f"--tail={count}", *(["--follow"] if follow else []), container.id]
        return lines(argv, both=True)

    def admit(self) -> None:
        """Raise UserError unless there are an engine that answers and a Compose that is new enough."""
        check(self.run("version", "--format", "{{.Server.Version}}"), "docker version")
        found = (
            self.run("compose", "version", "--short") if self._plugin else run([*self._compose, "version", "--short"])
        )
        numbers = [int(part) for part in re.findall(r"\d+", found.stdout)[:2]]
        if tuple(numbers) < _OLDEST:
            raise UserError(f"Compose {found.stdout.strip()} is too old; 1.29 is the oldest that will do", _INSTALL)

    def has(self, reference: str) -> bool:
        """Whether the image is there."""
        return self.run("image", "inspect", "--format", "{{.Id}}", reference).status == 0

    def containers(self) -> Mapping[str, Container]:
        """The project's containers by service, stopped ones too."""
        if time.monotonic() - self._seen_at > _FRESH_S:
            self._seen = self._look()
            self._seen_at = time.monotonic()
        return self._seen

    def forget(self) -> None:
        """What was seen is no longer so."""
        self._seen_at = float("-inf")

    def remove(self, containers: Sequence[Container]) -> None:
        """Stop `containers`, each with the grace it was made with, and remove them; their data stays."""
        self.forget()
        if ids := [container.id for container in containers]:
            self.run("stop", *ids)
            check(self.run("rm", "--force", "--volumes", *ids), "removing containers")

    def remove_rest(self) -> None:
        """Remove the project's networks, and what Compose alone left of preparations."""
        ours = ("--filter", f"label={_PROJECT}={self.project}")
        if ids := self.run("ps", "--all", "--quiet", *ours).stdout.split():
            check(self.run("rm", "--force", "--volumes", *ids), "removing containers")
        left = time.monotonic() + _LEAVING_S
        while ids := self.run("network", "ls", "--quiet", *ours).stdout.split():
            done = self.run("network", "rm", *ids)
            if done.status and (_STILL_LEAVING not in done.stderr or time.monotonic() > left):
                check(done, "removing networks")
            time.sleep(0.1)

    @cached_property
    def rootless(self) -> bool:
        """Whether the engine is an ordinary user's, so that this machine cannot reach into its networks."""
        return "rootless" in self.run("info", "--format", "{{.SecurityOptions}}").stdout

    @cached_property
    def _plugin(self) -> bool:
        return self.run("compose", "version").status == 0

    @property
    def _compose(self) -> Sequence[str]:
        if self._plugin:
            return ("docker", "compose")
        if found := shutil.which("docker-compose"):
            return (found,)
        raise UserError("Docker Compose is not installed", _INSTALL)

    @property
    def _options(self) -> Sequence[str]:
        return ("--project-name", self.project, "--project-directory", str(self.folder),
                "--file", str(self.folder / "compose.yaml"))  # fmt: skip

    def _look(self) -> dict[str, Container]:
        filters = ("--filter", f"label={_PROJECT}={self.project}", "--filter", f"label={NAME}")
        ids = check(self.run("ps", "--all", "--quiet", "--no-trunc", *filters), "docker ps").stdout.split()
        if not ids:
            return {}
        # One that is removed meanwhile makes it fail, and leaves the others in its answer.
        found = [_container(told) for told in json.loads(self.run("inspect", *ids).stdout or "[]")]
        return {one.labels[NAME]: one for one in sorted(found, key=lambda one: one.since)}


def _container(told: Mapping[str, Any]) -> Container:
    state, network = told["State"], told["NetworkSettings"]
    health = state.get("Health") or {}
    log = health.get("Log") or [{}]
    return Container(
        id=told["Id"],
        state=state["Status"],
        health=health.get("Status", ""),
        said=state["Error"] or str(log[-1].get("Output", "")).strip() or f"it ended with {state['ExitCode']}",
        pid=state["Pid"],
        since=_seconds(state["StartedAt"]) if state["Pid"] else 0.0,
        restarts=told["RestartCount"],
        addresses={name: one["IPAddress"] for name, one in network["Networks"].items() if one["IPAddress"]},
        published=frozenset(int(one["HostPort"]) for binds in network["Ports"].values() for one in binds or ()),
        labels=told["Config"]["Labels"],
    )


def _seconds(stamp: str) -> float:
    """Docker writes nanoseconds, which datetime does not read."""
    return datetime.fromisoformat(re.sub(r"\.\d+", "", stamp).replace("Z", "+00:00")).timestamp()


def _refuse_silent(done: Finished) -> None:
    """Raise UserError when an answer says that there is no engine to ask."""
    told = done.stderr or done.stdout
    if "permission denied" in told and "docker.sock" in told:
        raise UserError("you may not use Docker", "sudo usermod -aG docker $USER, then sign in again; or run with sudo")
    if "Cannot connect to the Docker daemon" in told or "Couldn't connect to Docker daemon" in told:
        raise UserError("the Docker engine does not answer", "sudo systemctl start docker")
