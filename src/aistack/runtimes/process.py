"""The process runtime: plain processes kept by a supervisord of the stack's own; no root, no Docker."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from aistack.components.base import Program, Service
from aistack.config.paths import Paths
from aistack.errors import ServiceError
from aistack.plan import Plan
from aistack.render import RenderedFile, RenderedService
from aistack.runtimes import journal, records
from aistack.runtimes.base import Change, Observed, Progress, Report, State
from aistack.runtimes.convergence import converge
from aistack.runtimes.launch import Spec, read_spec
from aistack.runtimes.local import LocalPlacement, OnThisMachine
from aistack.runtimes.programs import Installer
from aistack.runtimes.supervisor import Supervisor
from aistack.system import files, probe
from aistack.system.run import check, run

_STATES: Mapping[str, State] = {
    "RUNNING": "running", "STARTING": "starting", "STOPPED": "stopped", "STOPPING": "stopped", "EXITED": "stopped",
    "BACKOFF": "failed", "FATAL": "failed", "UNKNOWN": "failed",
}  # fmt: skip


@dataclass(frozen=True)
class ProcessRuntime(OnThisMachine):
    """Runs services as children of one supervisord; `installer` brings the programs."""

    @property
    def supervisor(self) -> Supervisor:
        """The supervisord of this stack, running or not."""
        return Supervisor(self.paths)

    def digest(self, path: str) -> str:
        """What tells the content of a file apart."""
        return files.digest(Path(path))

    def admit(self) -> None:
        """Any machine and any user will do."""

    def tree(self, wanted: Sequence[RenderedService]) -> tuple[RenderedFile, ...]:
        """The configurations, what to run, and supervisord's own."""
        services = [rendered.service for rendered in wanted]
        return (
            RenderedFile(str(self.supervisor.configuration), self.supervisor.text(services), 0o600, reloadable=False),
            *(file for rendered in wanted for file in self._files(rendered)),
        )

    def missing(self, programs: Sequence[tuple[str, Program]]) -> tuple[str, ...]:
        """What `install` would bring."""
        return self.installer.told(programs)

    def health(self, rendered: RenderedService) -> str | None:
        """Asks the service itself, where it was told to listen."""
        spec = read_spec(self._spec(rendered.name))
        return probe.ask(spec.health if spec else self._health_url(rendered))

    def awaited(self, name: str) -> str | None:
        """Another process of the service may still be answering: one that a killed supervisor left behind."""
        spec, record = read_spec(self._spec(name)), records.read(self._record(name))
        if spec and record and record.restart_hash == spec.restart_hash and records.runs(record):
            return None
        return "it has not been started"

    def install(self, programs: Sequence[tuple[str, Program]], report: Report) -> None:
        """Bring what is missing: Debian packages, virtual environments. Raises ProgramError."""
        self.installer.install(programs, report)

    def observe(self) -> Mapping[str, Observed]:
        """Every service that supervisord knows, or that a record tells of; a process without a
        supervisor counts as stopped, so that `up` takes it back under one."""
        states = self.supervisor.states()
        recorded = {path.stem for path in self.paths.run.glob("services/*.json")}
        return {name: self._observe(name, states.get(name)) for name in sorted(recorded | set(states))}

    def _observe(self, name: str, told: tuple[str, str] | None) -> Observed:
        record = records.read(self._record(name))
        alive = record is not None and records.runs(record)
        state = _STATES[told[0]] if told else "missing"
        note = told[1] if told else ""
        if record is None or not alive:
            return Observed(state, note=note)
        if state in ("missing", "stopped"):
            state, note = "stopped", "it serves, but its supervisor is gone, so nothing would restart it"
        return Observed(state, record.pid, record.since, record.restart_hash, record.reload_hash, note)

    def pids(self) -> frozenset[int]:
        """Every process of this stack, for telling its ports from other people's."""
        found = [records.read(path) for path in self.paths.run.glob("services/*.json")]
        return frozenset(pid for record in found if record is not None for pid in records.members(record))

    def check(self, wanted: Sequence[RenderedService]) -> None:
        """Let each program judge its new configuration before the old one is touched. Raises ProgramError."""
        for rendered in wanted:
            test = rendered.service.check
            if test is None:
                continue
            staged = next(file for file in rendered.files if file.path == test.path)
            place = self.paths.generated / "staged" / staged.path
            self._make_folders(rendered.service)
            files.write(place, staged.content, 0o600)
            arguments = [self.placement.expand(part).replace("{{ staged }}", str(place)) for part in test.arguments]
            done = run([self.placement.find(test.executable), *arguments], timeout_s=30)
            check(done, f"{rendered.service.title}: the new {staged.path} was refused; the old one stays in use")

    def apply(self, wanted: Sequence[RenderedService], steps: Sequence[Change], report: Report) -> None:
        """Write what changed, then start, restart or reload each service in its turn. Raises ServiceError."""
        self.previous.prepare(wanted, steps, self._keep)
        for rendered in wanted:
            self._write(rendered)
        supervisor = self.supervisor
        supervisor.configure([rendered.service for rendered in wanted])
        supervisor.ensure()
        converge(self, wanted, steps, report)

    def restart(self, services: Sequence[RenderedService], report: Report) -> None:
        """As they are on disk: what stack.toml says by now is for `apply`."""
        converge(self, services, [Change(one.name, "restart", "you asked for it") for one in services], report)

    def differences(self, wanted: Sequence[RenderedService]) -> Iterator[str]:
        """The configurations that `apply` would change."""
        for rendered in wanted:
            for file in rendered.files:
                yield from files.difference(self.paths.generated / file.path, file.content, file.path)

    def begin(self, rendered: RenderedService, change: Change) -> None:
        """Carry out one step, without waiting for its effect."""
        supervisor, name = self.supervisor, rendered.name
        if change.step == "restart":
            self.stop(name)
        if change.step == "reload":
            self._reload(name)
        if change.step != "keep":
            supervisor.start(name)

    def settled(self, name: str) -> None:
        """There is no way back from what works."""
        self.previous.forget(name)

    def revert(self, rendered: RenderedService, change: Change, *, begun: bool) -> str:
        """Put the old files back and, when the service has seen the new ones, have it take the old ones again."""
        health = self.previous.put_back(rendered.name)
        if health is None or not begun:
            return ""
        self.begin(rendered, change)
        reason = probe.wait(lambda: probe.ask(health), rendered.service.health.start_seconds)
        return f"with its old settings: {reason}" if reason else "it runs with its old settings again"

    def stop(self, name: str) -> None:
        """Stop one service, whatever supervisord knows of it."""
        self.supervisor.stop(name)
        spec, record = read_spec(self._spec(name)), records.read(self._record(name))
        if record is not None:
            records.end(record, spec.stop_seconds if spec else 10)
        files.remove(self._record(name))

    def forget(self, name: str) -> None:
        """Stop a service that is no longer part of the stack, and remove its generated files."""
        self.stop(name)
        files.remove(self._spec(name))

    def failure(self, name: str) -> str | None:
        """Why supervisord thinks that `name` cannot run, if it does."""
        told = self.supervisor.states().get(name)
        return told[1] or "it ends as soon as it is started" if told and told[0] in ("BACKOFF", "FATAL") else None

    def down(self, report: Report) -> None:
        """Stop every process of the stack, the supervisor last; also what a killed supervisor left behind."""
        supervisor = self.supervisor
        for name in reversed(self._started_order()):
            report(Progress(name, "stopping"))
            self.stop(name)
            report(Progress(name, "stopped"))
        supervisor.shut_down()

    def leave(self) -> None:
        """What supervisord and the launcher read."""
        for path in (self.supervisor.configuration, self._spec("").parent, self._record("").parent):
            files.remove(path)

    def logs(self, service: str, lines: int, follow: bool) -> Iterator[str]:
        """The end of the service's log, and what follows."""
        return journal.read(self.paths.logs / f"{service}.log", lines, follow)

    def _started_order(self) -> list[str]:
        found = [(record.since, path.stem) for path in self.paths.run.glob("services/*.json")
                 if (record := records.read(path)) is not None]  # fmt: skip
        return [name for _, name in sorted(found)]

    def _reload(self, name: str) -> None:
        spec, record = read_spec(self._spec(name)), records.read(self._record(name))
        if spec is None or record is None or not records.tell(record, signal.SIGHUP):
            raise ServiceError(f"{name} ended while it was to be reloaded", "run `aistack up` again")
        records.write(self._record(name), replace(record, reload_hash=spec.reload_hash))

    def _keep(self, rendered: RenderedService) -> None:
        if spec := read_spec(self._spec(rendered.name)):
            self.previous.keep(rendered.name, [Path(file.path) for file in self._files(rendered)], spec.health)

    def _health_url(self, rendered: RenderedService) -> str:
        return self.url(rendered.name, rendered.service.health.port) + rendered.health

    def _write(self, rendered: RenderedService) -> None:
        self._make_folders(rendered.service)
        for file in self._files(rendered):
            files.write(Path(file.path), file.content, file.mode)

    def _files(self, rendered: RenderedService) -> tuple[RenderedFile, ...]:
        spec = json.dumps(asdict(self._new_spec(rendered)), indent=2) + "\n"
        return (
            *(replace(file, path=str(self.paths.generated / file.path)) for file in rendered.files),
            RenderedFile(str(self._spec(rendered.name)), spec, 0o600, reloadable=False),
        )

    def _new_spec(self, rendered: RenderedService) -> Spec:
        service, place = rendered.service, self.placement
        return Spec(
            service=service.name,
            argv=list(rendered.argv),
            environment={**place.environment, **rendered.environment},
            secrets={
                key: (place.secret(service.name, value.name), value.form)
                for key, value in rendered.secret_environment.items()
            },
            prepare=[*place.module_command, *rendered.prepare] if rendered.prepare else [],
            directory=str(self.paths.state / service.name),
            log=str(self.paths.logs / f"{service.name}.log"),
            record=str(self._record(service.name)),
            restart_hash=rendered.restart_hash,
            reload_hash=rendered.reload_hash,
            stop_seconds=service.stop_seconds,
            health=self._health_url(rendered),
        )

    def _make_folders(self, service: Service) -> None:
        # nginx's workers, another user, must be able to pass through to their own folder, and see nothing else.
        for folder in (self.paths.data, self.paths.state, self.paths.state / service.name):
            files.make_directory(folder, 0o711)
        for folder in (self.paths.generated, self.paths.logs, self.paths.run):
            files.make_directory(folder, 0o700)
        if not self.models.exists():  # else its mode is the site's own affair
            files.make_directory(self.models)
        for state in service.states:
            folder = self.state(service.name, state.name)
            files.make_directory(folder, state.mode)
            if os.geteuid() == 0:  # another runtime may have had it, under users of its own
                files.give(folder, 0, 0)

    def _record(self, name: str) -> Path:
        return self.paths.run / "services" / f"{name}.json"

    def _spec(self, name: str) -> Path:
        return self.paths.generated / "services" / f"{name}.json"


def make(paths: Paths, plan: Plan, confirm: Callable[[str], bool]) -> ProcessRuntime:
    """The process runtime of a stack."""
    placement = LocalPlacement(paths, plan.config, plan.services)
    return ProcessRuntime(paths, placement, Installer(placement.programs, confirm))
