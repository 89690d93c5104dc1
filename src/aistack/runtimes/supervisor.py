"""The stack's own supervisord: its configuration file, its life, and what it is told over a private socket."""

import contextlib
import os
import signal
import sys
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport, UnixStreamHTTPConnection

from aistack.components.base import Service
from aistack.config.paths import Paths
from aistack.errors import ServiceError
from aistack.system import files, probe
from aistack.system.run import start_daemon

# It answers within milliseconds, or hangs; only what waits for a service to stop takes longer.
_PATIENCE_S = 5.0
_PATIENCE_WITH_STOPS_S = 90.0
# sun_path of unix(7) holds 108 bytes, and supervisord binds under a longer, temporary name first.
_LONGEST_SOCKET = 90


@dataclass(frozen=True)
class Supervisor:
    """One supervisord, running or not."""

    paths: Paths

    @property
    def socket(self) -> Path:
        """Where it listens; only the stack's user may connect."""
        return self.paths.run / "supervisor.sock"

    @property
    def configuration(self) -> Path:
        """Its configuration file."""
        return self.paths.generated / "supervisord.conf"

    def configure(self, services: Sequence[Service]) -> None:
        """Write the configuration, and let a running supervisord take it over."""
        files.write(self.configuration, self.text(services), 0o600)
        # Also when nothing changed: whoever wrote it may have been killed before supervisord was told.
        if self.running():
            self._take_over()

    def text(self, services: Sequence[Service]) -> str:
        """What `configure` writes."""
        return _configuration(self.paths, self.socket, services)

    def running(self) -> bool:
        """Whether it answers."""
        try:
            with self._calls() as calls:
                return bool(calls.getState()["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def ensure(self) -> None:
        """Start it unless it runs. Raises ServiceError."""
        if self.running():
            return
        if len(str(self.socket)) > _LONGEST_SOCKET:
            raise ServiceError(
                f"the path of the supervisor's socket is too long: {self.socket}",
                "put the stack's data below a shorter path (AISTACK_HOME or XDG_DATA_HOME)",
            )
        files.remove(self.socket)
        start_daemon(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.configuration)],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "LANG": "C.UTF-8",
                "HOME": str(self.paths.state),
            },
            cwd=str(self.paths.run),
        )
        reason = probe.wait(lambda: None if self.running() else "it does not answer", 15)
        if reason:
            raise ServiceError(f"supervisord did not start: {reason}", f"look at {self.paths.logs}/supervisord.log")

    def states(self) -> Mapping[str, tuple[str, str]]:
        """Each service's state in supervisord's words, with why it cannot run; empty when there is no supervisord."""
        try:
            with self._calls() as calls:
                return {
                    info["name"]: (info["statename"], info["spawnerr"])
                    for info in calls.getAllProcessInfo()
                    if info["group"] != "rotate"
                }
        except (OSError, xmlrpc.client.Error):
            return {}

    def start(self, name: str) -> None:
        """Have `name` started; does not wait. No error when it runs already."""
        with self._calls() as calls, _unless(Faults.ALREADY_STARTED):
            calls.startProcess(name, False)

    def stop(self, name: str) -> None:
        """Stop `name` and wait for its end; no error when it does not run or is not known."""
        with (
            contextlib.suppress(OSError),
            self._calls(_PATIENCE_WITH_STOPS_S) as calls,
            _unless(Faults.NOT_RUNNING, Faults.BAD_NAME),
        ):
            calls.stopProcess(name, True)

    def shut_down(self) -> None:
        """End supervisord and all that is left under it; waits until it is gone."""
        try:
            with self._calls() as calls:
                pid = calls.getPID()
                # While it shuts down it takes a second for each group that it knows, even of what is stopped.
                for name in self.states():
                    with _unless(Faults.BAD_NAME, Faults.STILL_RUNNING):
                        calls.removeProcessGroup(name)
                calls.shutdown()
        except (OSError, xmlrpc.client.Error):
            return
        process = _handle(pid)
        if process is not None and probe.wait(lambda: "it still runs" if _lives(process) else None, 60):
            signal.pidfd_send_signal(process, signal.SIGKILL)

    def _take_over(self) -> None:
        with self._calls(_PATIENCE_WITH_STOPS_S) as calls:
            ((added, changed, removed),) = calls.reloadConfig()
            for name in (*changed, *removed):
                with _unless(Faults.BAD_NAME):
                    calls.stopProcessGroup(name)
                    calls.removeProcessGroup(name)
            for name in (*added, *changed):
                calls.addProcessGroup(name)

    @contextlib.contextmanager
    def _calls(self, patience_s: float = _PATIENCE_S) -> Iterator[Any]:
        transport = _Transport(self.socket, patience_s)
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor
        except TimeoutError:
            # Not taken for absent: a second supervisord beside a sleeping one would fight it for the services.
            raise ServiceError(
                f"supervisord does not answer within {patience_s:.0f} s",
                f"end it, the services go on: kill -9 $(cat {self.paths.run}/supervisord.pid); then `aistack up`",
            ) from None
        finally:
            transport.close()


class _Transport(SupervisorTransport):  # type: ignore[misc]
    def __init__(self, socket: Path, patience_s: float) -> None:
        super().__init__(None, None, f"unix://{socket}")
        self._get_connection = lambda: _Connection(socket, patience_s)


class _Connection(UnixStreamHTTPConnection):  # type: ignore[misc]
    def __init__(self, socket: Path, patience_s: float) -> None:
        super().__init__("localhost")
        self.socketfile = str(socket)
        self._patience_s = patience_s

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._patience_s)


@contextlib.contextmanager
def _unless(*faults: int) -> Iterator[None]:
    try:
        yield
    except xmlrpc.client.Fault as fault:
        if fault.faultCode not in faults:
            raise ServiceError(f"supervisord refused: {fault.faultString}", "run `aistack up` again") from fault


def _handle(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _lives(process: int) -> bool:
    try:
        signal.pidfd_send_signal(process, 0)
    except ProcessLookupError:
        return False
    return True


def _configuration(paths: Paths, socket: Path, services: Sequence[Service]) -> str:
    """supervisord.conf. Services are started by `up`, in the order of health, hence no autostart."""
    python = _quoted(sys.executable)
    parts = [
        f"[unix_http_server]\nfile={_quoted(socket)}\nchmod=0700\n",
        f"[supervisord]\nlogfile={_quoted(paths.logs / 'supervisord.log')}\nlogfile_maxbytes=10MB\nlogfile_backups=3\n"
        f"pidfile={_quoted(paths.run / 'supervisord.pid')}\nnodaemon=true\nsilent=true\numask=077\n",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n",
        f"[eventlistener:rotate]\ncommand={python} -m aistack.runtimes.rotate {_quoted(paths.logs)}\n"
        "events=TICK_60\nstdout_logfile=NONE\nstderr_logfile=NONE\n",
    ]
    for service in services:
        spec = paths.generated / "services" / f"{service.name}.json"
        log = paths.logs / f"{service.name}.log"
        parts.append(
            f"[program:{service.name}]\ncommand={python} -m aistack.runtimes.launch {_quoted(spec)}\n"
            "autostart=false\nautorestart=true\nstartsecs=1\nstartretries=100\nkillasgroup=true\n"
            f"stopwaitsecs={service.stop_seconds:.0f}\n"
            f"redirect_stderr=true\nstdout_logfile={_quoted(log)}\nstdout_logfile_maxbytes=0\n"
        )
    return "; Written by aistack; the next `aistack up` replaces it.\n" + "\n".join(parts)


def _quoted(value: str | Path) -> str:
    """A path for supervisord.conf, where % begins a substitution."""
    return str(value).replace("%", "%%")
