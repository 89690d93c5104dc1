"""The systemd runtime: writes units, users and folders, and lets systemd keep the services."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from aistack.components.base import Program, Service
from aistack.config.paths import Paths
from aistack.errors import ServiceError, UserError
from aistack.plan import Plan
from aistack.render import RenderedFile, RenderedService
from aistack.runtimes import own
from aistack.runtimes.base import MOVED, Change, Observed, Progress, Report, State
from aistack.runtimes.convergence import converge
from aistack.runtimes.local import OnThisMachine
from aistack.runtimes.programs import Installer
from aistack.runtimes.systemd import units
from aistack.runtimes.systemd.placement import PREFIX, STARTED, TARGET, UNITS, SystemdPlacement, unit_name, user_name
from aistack.system import files, probe
from aistack.system.run import check, lines, run

_USERS = Path("/etc/sysusers.d/ai-stack.conf")
_STATES: Mapping[str, State] = {
    "active": "running", "reloading": "running", "activating": "starting", "failed": "failed",
    "inactive": "stopped", "deactivating": "stopped",
}  # fmt: skip
_ASKED = ("Id", "LoadState", "ActiveState", "SubState", "Result", "MainPID", "ActiveEnterTimestampMonotonic",
          "NRestarts", "DropInPaths")  # fmt: skip


@dataclass(frozen=True)
class SystemdRuntime(OnThisMachine):
    """Runs services as units; needs root. `version` is systemd's."""

    placement: SystemdPlacement
    version: int

    def digest(self, path: str) -> str:
        """What tells the content of a file apart."""
        return files.digest(self.placement.original(path))

    def pids(self) -> frozenset[int]:
        """Main processes and all that came of them."""
        found: set[int] = set()
        for seen in self.observe().values():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end while we look
                if seen.pid:
                    found.add(seen.pid)
                    found.update(child.pid for child in psutil.Process(seen.pid).children(recursive=True))
        return frozenset(found)

    def admit(self) -> None:
        """Raise UserError where systemd does not run, we are not root, or a folder is somebody else's."""
        if not Path("/run/systemd/system").exists():
            raise UserError("systemd does not run here", 'set runtime = "process" in stack.toml')
        if os.geteuid() != 0:
            raise UserError('runtime = "systemd" needs root', "run the same command with sudo")
        if self.paths.data.parent != Path("/var/lib"):
            raise UserError(
                f'runtime = "systemd" keeps the stack in /var/lib/ai-stack, not in {self.paths.data}',
                "leave AISTACK_HOME unset",
            )
        moving = (self.paths.data / MOVED).exists()
        for service in self.placement.services:
            for state in service.states:
                _refuse_foreign(self.state(service.name, state.name), service, moving=moving)

    def missing(self, programs: Sequence[tuple[str, Program]]) -> tuple[str, ...]:
        """What `install` would bring."""
        return self.installer.told(programs)

    def install(self, programs: Sequence[tuple[str, Program]], report: Report) -> None:
        """Debian packages, virtual environments, and our own code where services may read it. Raises ProgramError."""
        self.installer.install(programs, report)
        self.installer.install_own(self.placement.own_environment, own.requirements(), report)

    def observe(self) -> Mapping[str, Observed]:
        """Every unit of ours, as systemd and the running process tell."""
        names = sorted(path.name for path in UNITS.glob(f"{PREFIX}*.service"))
        return {_service(told["Id"]): _observed(told) for told in _show(names)}

    def health(self, rendered: RenderedService) -> str | None:
        """Asks the service itself, where its unit tells that it listens."""
        told = self._told(rendered.name)
        return probe.ask(told.health if told else units.health_url(rendered, self.placement))

    def check(self, wanted: Sequence[RenderedService]) -> None:
        """Let each program judge its new configuration in a scratch folder. Raises ProgramError."""
        staged = self.paths.generated / "staged"
        for rendered in wanted:
            test = rendered.service.check
            if test is None:
                continue
            content = next(file.content for file in rendered.files if file.path == test.path)
            for there, here in self._stand_ins(rendered.service, staged):
                content = content.replace(there, here)
            files.write(staged / test.path, content, 0o600)
            arguments = [self.placement.expand(part) for part in test.arguments]
            for there, here in (*self._stand_ins(rendered.service, staged), ("{{ staged }}", str(staged / test.path))):
                arguments = [part.replace(there, here) for part in arguments]
            done = run([self.placement.find(test.executable), *arguments], timeout_s=30)
            files.remove(staged)
            check(done, f"{rendered.service.title}: the new {test.path} was refused; the old one stays in use")

    def tree(self, wanted: Sequence[RenderedService]) -> tuple[RenderedFile, ...]:
        """Every file that `apply` writes, by its absolute path."""
        generated = [
            replace(file, path=str(self.paths.generated / file.path)) for item in wanted for file in item.files
        ]
        return (
            RenderedFile(str(_USERS), units.users(wanted), 0o644, reloadable=False),
            RenderedFile(str(UNITS / TARGET), units.target(wanted), 0o644, reloadable=False),
            *(RenderedFile(str(self._unit(item.name)), self._text(item), 0o644, reloadable=False) for item in wanted),
            *generated,
        )

    def differences(self, wanted: Sequence[RenderedService]) -> Iterator[str]:
        """The files that `apply` would change, and the drop-ins of an administrator, which it leaves alone."""
        for file in self.tree(wanted):
            yield from files.difference(Path(file.path), file.content, file.path.lstrip("/"))
        for told in _show([unit_name(item.name) for item in wanted if self._unit(item.name).exists()]):
            yield from (f"{_service(told['Id'])}: {path} adds to its unit" for path in told["DropInPaths"].split())

    def apply(self, wanted: Sequence[RenderedService], steps: Sequence[Change], report: Report) -> None:
        """Write what changed, then start, restart or reload each service in its turn. Raises ServiceError."""
        self.previous.prepare(wanted, steps, self._keep)
        self._make_folders()
        for file in self.tree(wanted):
            if Path(file.path).is_relative_to(self.paths.generated):
                files.make_directory(Path(file.path).parent)
            files.write(Path(file.path), file.content, file.mode)
        # Also when nothing changed: whoever wrote it may have been killed before systemd was told.
        check(run(["systemd-sysusers", str(_USERS)]), "making the services' users")
        _systemctl("daemon-reload")
        _systemctl("enable", "--quiet", TARGET)
        converge(self, wanted, steps, report)
        _systemctl("start", "--no-block", TARGET)
        self._remove_old_builds()

    def restart(self, services: Sequence[RenderedService], report: Report) -> None:
        """As their units stand: what stack.toml says by now is for `apply`."""
        converge(self, services, [Change(one.name, "restart", "you asked for it") for one in services], report)

    def begin(self, rendered: RenderedService, change: Change) -> None:
        """Carry out one step, without waiting for its effect."""
        unit = unit_name(rendered.name)
        match change.step:
            case "start" | "restart":
                _systemctl("stop", unit)
                run(["systemctl", "reset-failed", unit])
                _systemctl("start", "--no-block", unit)
            case "reload":
                _systemctl("reload", unit)
                if told := self._told(rendered.name):
                    files.write(STARTED / rendered.name, f"{told.restart_hash} {told.reload_hash}\n")

    def awaited(self, name: str) -> str | None:
        """The process of the old unit may still be answering."""
        told, seen = self._told(name), self.observe().get(name)
        if told and seen and seen.pid and seen.restart_hash == told.restart_hash:
            return None
        return "it has not been started"

    def failure(self, name: str) -> str | None:
        """Why systemd thinks that `name` cannot run, if it does."""
        told = next(iter(_show([unit_name(name)])), None)
        if told is None or (told["ActiveState"] != "failed" and told["SubState"] != "auto-restart"):
            return None
        last = run(["journalctl", "-u", unit_name(name), "-n", "1", "-o", "cat", "--no-pager"]).stdout.strip()
        return f"it ends as soon as it is started ({told['Result']}): {last}"

    def settled(self, name: str) -> None:
        """There is no way back from what works."""
        self.previous.forget(name)

    def revert(self, rendered: RenderedService, change: Change, *, begun: bool) -> str:
        """Put the old unit and files back and, when the service has seen the new ones, have it take the old again."""
        health = self.previous.put_back(rendered.name)
        if health is None:
            return ""
        _systemctl("daemon-reload")
        if not begun:
            return ""
        self.begin(rendered, change)
        reason = probe.wait(lambda: probe.ask(health), rendered.service.health.start_seconds)
        return f"with its old settings: {reason}" if reason else "it runs with its old settings again"

    def forget(self, name: str) -> None:
        """Stop a service that is no longer part of the stack, and remove its unit."""
        _systemctl("stop", unit_name(name))
        files.remove(self._unit(name))
        _systemctl("daemon-reload")

    def down(self, report: Report) -> None:
        """Stop every unit, and leave the target for the next boot out."""
        run(["systemctl", "disable", "--quiet", TARGET])
        names = list(self.observe())
        for name in names:
            report(Progress(name, "stopping"))
        # Also those that are stopping already: nothing must write any more when this returns.
        if names:
            _systemctl("stop", TARGET, *(unit_name(name) for name in names))
        for name in names:
            report(Progress(name, "stopped"))

    def leave(self) -> None:
        """Units and users' list; an administrator's drop-ins stay, and so do the users."""
        ours = [name for name in self.observe() if self._told(name)]
        for path in (*map(self._unit, ours), UNITS / TARGET, _USERS, STARTED):
            files.remove(path)
        _systemctl("daemon-reload")

    def logs(self, service: str, count: int, follow: bool) -> Iterator[str]:
        """From the journal."""
        argv = ["journalctl", "-u", unit_name(service), "-n", str(count), "-o", "short-iso", "--no-pager"]
        return lines([*argv, "--follow"] if follow else argv)

    def _text(self, rendered: RenderedService) -> str:
        return units.unit(rendered, self.placement, self.version)

    def _unit(self, name: str) -> Path:
        return UNITS / unit_name(name)

    def _told(self, name: str) -> units.Told | None:
        try:
            return units.told(self._unit(name).read_text())
        except OSError:
            return None

    def _keep(self, rendered: RenderedService) -> None:
        if told := self._told(rendered.name):
            paths = [self.paths.generated / file.path for file in rendered.files]
            self.previous.keep(rendered.name, [*paths, self._unit(rendered.name)], told.health)

    def _stand_ins(self, service: Service, staged: Path) -> Iterator[tuple[str, str]]:
        """What a check must not touch or cannot see yet, and what takes its place."""
        for state in service.states:
            folder = staged / "state" / state.name
            files.make_directory(folder)
            yield self.placement.state(service.name, state.name), str(folder)
        for name in service.handed:
            there = self.placement.handed(service.name, name)
            yield there, str(self.placement.original(there))

    def _make_folders(self) -> None:
        for folder, mode in ((self.paths.data, 0o755), (self.paths.generated, 0o755), (self.paths.run, 0o700)):
            files.make_directory(folder, mode)
        if not self.models.exists():
            files.make_directory(self.models)

    def _remove_old_builds(self) -> None:
        for folder in self.placement.programs.glob("aistack-*"):
            if folder != self.placement.own_environment:
                files.remove(folder)


def make(paths: Paths, plan: Plan, confirm: Callable[[str], bool]) -> SystemdRuntime:
    """The systemd runtime of a stack."""
    placement = SystemdPlacement(paths, plan.config, plan.services, gpu=plan.gpu)
    found = re.search(r"systemd (\d+)", run(["systemctl", "--version"]).stdout)
    installer = Installer(placement.programs, confirm, own.shared_python())
    return SystemdRuntime(paths, placement, installer, int(found[1]) if found else 0)


def _service(unit: str) -> str:
    return unit.removeprefix(PREFIX).removesuffix(".service")


def _systemctl(*arguments: str) -> None:
    check(run(["systemctl", *arguments]), f"systemctl {' '.join(arguments)}", "see `journalctl -xe`")


def _show(names: Sequence[str]) -> Iterator[Mapping[str, str]]:
    if not names:
        return
    done = run(["systemctl", "show", f"--property={','.join(_ASKED)}", *names])
    for block in check(done, "systemctl show").stdout.strip().split("\n\n"):
        yield dict(line.partition("=")[::2] for line in block.splitlines())


def _observed(told: Mapping[str, str]) -> Observed:
    if told["LoadState"] == "not-found":
        return Observed("missing")
    state = "failed" if told["SubState"] == "auto-restart" else _STATES.get(told["ActiveState"], "starting")
    note = "" if told["Result"] == "success" else told["Result"]
    pid = int(told["MainPID"])
    if not pid or state in ("failed", "stopped"):
        return Observed(state, note=note)
    entered = int(told["ActiveEnterTimestampMonotonic"]) / 1e6
    since = time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - entered) if entered else time.time()
    restart_hash, _, reload_hash = _started_with(_service(told["Id"])).partition(" ")
    return Observed(state, pid, since, restart_hash, reload_hash, note)


def _started_with(name: str) -> str:
    try:
        return (STARTED / name).read_text().strip()
    except OSError:
        return ""


def _refuse_foreign(folder: Path, service: Service, *, moving: bool) -> None:
    """Raise UserError when `folder` holds data that no service of ours made, and no move of ours brought."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        owner = folder.owner()
    except KeyError:
        owner = str(folder.stat().st_uid)
    ours = (user_name(service.name), *(("root",) if moving else ()))
    if owner not in ours and folder.parent == Path("/var/lib"):
        raise ServiceError(
            f"{folder} holds data of another {service.title} (it belongs to {owner}); nothing was changed",
            "move it away, or leave it and set paths.usual_places = false in stack.toml",
        )
