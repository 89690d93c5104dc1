"""The process runtime: plain processes kept by a supervisord of the stack's own; no root, no Docker."""

import difflib
import hashlib
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aistack.components.base import Program, Service
from aistack.config.paths import Paths
from aistack.errors import ServiceError
from aistack.render import RenderedService
from aistack.runtimes import journal, records
from aistack.runtimes.base import Change, Observed, Progress, Report, State
from aistack.runtimes.convergence import converge
from aistack.runtimes.launch import Spec
from aistack.runtimes.local import LocalPlacement
from aistack.runtimes.programs import Installer
from aistack.runtimes.supervisor import Supervisor
from aistack.system import files
from aistack.system.run import check, run

_STATES: Mapping[str, State] = {
    "RUNNING": "running", "STARTING": "starting", "STOPPED": "stopped", "STOPPING": "stopped", "EXITED": "stopped",
    "BACKOFF": "failed", "FATAL": "failed", "UNKNOWN": "failed",
}  # fmt: skip


@dataclass(frozen=True)
class ProcessRuntime:
    """Runs services as children of one supervisord; `installer` brings the programs."""

    paths: Paths
    placement: LocalPlacement
    installer: Installer

    @property
    def supervisor(self) -> Supervisor:
        """The supervisord of this stack, running or not."""
        return Supervisor(self.paths)

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
        if told is None:
            if record is None or not alive:
                return Observed("missing")
            note = "it serves, but its supervisor is gone, so nothing would restart it"
            return Observed("stopped", record.pid, record.since, note=note)
        state = _STATES[told[0]]
        if record is None or not alive:
            return Observed(state, note=told[1])
        return Observed(state, record.pid, record.since, record.restart_hash, record.reload_hash, told[1])

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
        for rendered in wanted:
            self._write(rendered)
        supervisor = self.supervisor
        supervisor.configure([rendered.service for rendered in wanted])
        supervisor.ensure()
        converge(self, wanted, steps, report)

    def file_differences(self, wanted: Sequence[RenderedService]) -> Iterator[str]:
        """The files that `apply` would change, as unified diffs; secrets stand in files of their own, so none show."""
        for rendered in wanted:
            for file in rendered.files:
                place = self.paths.generated / file.path
                old = place.read_text().splitlines() if place.exists() else []
                yield from difflib.unified_diff(
                    old, file.content.splitlines(), f"a/{file.path}", f"b/{file.path}", n=1, lineterm=""
                )

    def begin(self, rendered: RenderedService, change: Change) -> None:
        """Carry out one step, without waiting for its effect."""
        supervisor, name = self.supervisor, rendered.name
        if change.step == "reload":
            self._reload(rendered)
        elif change.step in ("start", "restart"):
            supervisor.stop(name)
            supervisor.start(name)

    def stop(self, name: str) -> None:
        """Stop one service, whatever supervisord knows of it."""
        self.supervisor.stop(name)
        record = records.read(self._record(name))
        if record is not None:
            records.end(record, signal.SIGTERM, 10)
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

    def logs(self, service: str, lines: int, follow: bool) -> Iterator[str]:
        """The end of the service's log, and what follows."""
        return journal.read(self.paths.logs / f"{service}.log", lines, follow)

    def _started_order(self) -> list[str]:
        found = [(record.since, path.stem) for path in self.paths.run.glob("services/*.json")
                 if (record := records.read(path)) is not None]  # fmt: skip
        return [name for _, name in sorted(found)]

    def _reload(self, rendered: RenderedService) -> None:
        path = self._record(rendered.name)
        record = records.read(path)
        if record is None or not records.runs(record):
            raise ServiceError(f"{rendered.name} ended while it was to be reloaded", "run `aistack up` again")
        self.supervisor.signal(rendered.name, "HUP")
        records.write(path, records.Record(**{**asdict(record), "reload_hash": rendered.reload_hash}))

    def _write(self, rendered: RenderedService) -> None:
        self._make_folders(rendered.service)
        for file in rendered.files:
            files.write(self.paths.generated / file.path, file.content, file.mode)
        service, place = rendered.service, self.placement
        spec = Spec(
            service=service.name,
            argv=list(rendered.argv),
            environment={**place.environment, **rendered.environment},
            secrets={key: (place.secret(value.name), value.form) for key, value in rendered.secret_environment.items()},
            prepare=[*place.module_command, *rendered.prepare] if rendered.prepare else [],
            directory=str(self.paths.state / service.name),
            log=str(self.paths.logs / f"{service.name}.log"),
            record=str(self._record(service.name)),
            restart_hash=rendered.restart_hash,
            reload_hash=rendered.reload_hash,
            stop_signal=service.stop_signal,
            stop_seconds=service.stop_seconds,
        )
        files.write(self._spec(service.name), json.dumps(asdict(spec), indent=2) + "\n", 0o600)

    def _make_folders(self, service: Service) -> None:
        # nginx's workers, another user, must be able to pass through to their own folder, and see nothing else.
        for folder in (self.paths.data, self.paths.state, self.paths.state / service.name):
            files.make_directory(folder, 0o711)
        for folder in (self.paths.generated, self.paths.logs, self.paths.run, Path(self.placement.models)):
            files.make_directory(folder, 0o700)
        for state in service.states:
            files.make_directory(Path(self.placement.state(service.name, state.name)), state.mode)

    def _record(self, name: str) -> Path:
        return self.paths.run / "services" / f"{name}.json"

    def _spec(self, name: str) -> Path:
        return self.paths.generated / "services" / f"{name}.json"


def digest(path: str) -> str:
    """A file's content in sixteen characters that tell nothing about it; empty when it is not there."""
    try:
        return hashlib.sha256(b"aistack:" + Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""
