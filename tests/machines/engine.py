"""A Docker engine of the tests' own, for a session: starts `dockerd`, ends exactly that one, and leaves no trace of it.

It takes the names of upstream images and the machine's iptables chains for itself, so it never runs beside another
engine. Where one runs that may be used like that, AISTACK_TEST_ENGINE names it, as DOCKER_HOST would.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

# dockerd looks for its helpers here too, whatever the PATH of an ordinary user says.
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PROGRAMS = ("dockerd", "containerd", "runc", "docker", "docker-compose", "iptables", "debootstrap", "setpriv")
# One engine at a time on a machine, whichever checkout the tests run from.
_LOCK = Path("/run/lock/aistack-test-engine")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class NoEngine(Exception):
    """Why there can be no engine here, in words for the summary of the tests."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers at `address`; `folder` holds what the tests keep between sessions."""

    address: str
    folder: Path

    def docker(self, *arguments: str, timeout: float = 120, stdin: str | None = None) -> str:
        """What `docker` prints on stdout; AssertionError with all it wrote when it fails."""
        return self._run(("docker", *arguments), timeout, stdin)

    def compose(self, folder: Path, *arguments: str, timeout: float = 600) -> str:
        """What `docker-compose` (1.29) prints on stdout, for the compose file in `folder`."""
        return self._run(("docker-compose", "--project-directory", str(folder), "--file",
                          str(folder / "compose.yaml"), *arguments), timeout, None)  # fmt: skip

    def build(self, tag: str, folder: Path, *options: str, timeout: float = 1500) -> str:
        """Build `tag` from the Dockerfile in `folder`; at once when Docker's cache has it from an earlier session.

        Its `RUN`s use the machine's own network, as a package mirror may need.
        """
        self.docker("build", "--quiet", "--network", "host", "--tag", tag, *options, str(folder), timeout=timeout)
        return tag

    def has_image(self, tag: str, label: str) -> bool:
        """Whether there is an image `tag` with the label `name=value`."""
        return bool(self.docker("images", "--quiet", "--filter", f"label={label}", tag).strip())

    @property
    def environment(self) -> Mapping[str, str]:
        """For programs that talk to this engine."""
        return {**os.environ, "PATH": SEARCH, "DOCKER_HOST": self.address}

    def _run(self, argv: tuple[str, ...], timeout: float, stdin: str | None) -> str:
        done = subprocess.run(
            argv, env=self.environment, input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """An engine with its images below `folder`, for the `with` block. Raises NoEngine where there can be none."""
    given = os.environ.get("AISTACK_TEST_ENGINE")
    _need_root_and_programs()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        held.enter_context(_alone())
        if given:
            yield Engine(given, folder)
            return
        _need_no_other()
        held.enter_context(_unchanged_network())
        # Short, because the sockets of dockerd and containerd lie below it.
        run = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="ai-", dir="/run")))
        made = Engine(f"unix://{run}/docker.sock", folder)
        held.enter_context(_dockerd(run, folder / "data"))
        _remove_all(made)  # what a killed session left
        held.callback(_remove_all, made)
        yield made


def _need_root_and_programs() -> None:
    if os.geteuid() != 0:
        raise NoEngine("only root can start a Docker engine")
    missing = [program for program in _PROGRAMS if shutil.which(program, path=SEARCH) is None]
    if missing:
        raise NoEngine(f"a Docker engine needs programs that are not installed: {', '.join(missing)}")


def _need_no_other() -> None:
    if _an_engine_runs():
        raise NoEngine("a Docker engine runs here already; AISTACK_TEST_ENGINE=unix:///... lets the tests use it")


def _an_engine_runs() -> bool:
    for name in Path("/proc").glob("[0-9]*/comm"):
        try:
            if name.read_text().strip() == "dockerd":
                return True
        except OSError:  # it has ended meanwhile
            continue
    return False


@contextmanager
def _alone() -> Iterator[None]:
    descriptor = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not wait_for(lambda: _locked(descriptor), 120):
            raise NoEngine("other tests on this machine have had the Docker engine for two minutes")
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _dockerd(run: Path, data: Path) -> Iterator[None]:
    log = run / "log"
    # Killed with us, should we be killed; containerd is its child and ends with it.
    argv: list[str | Path] = [
        "setpriv", "--pdeathsig", "TERM", "dockerd", "--host", f"unix://{run}/docker.sock", "--data-root", data,
        "--exec-root", run / "exec", "--pidfile", run / "pid",
    ]  # fmt: skip
    with log.open("w") as stream:
        process = subprocess.Popen(
            argv, env={**os.environ, "PATH": SEARCH}, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    try:
        answered = wait_for(lambda: process.poll() is not None or _answers(f"unix://{run}/docker.sock"), 60)
        if not answered or process.poll() is not None:
            lines = log.read_text().strip().splitlines() or ["no word"]
            raise NoEngine(f"dockerd does not start here: {lines[-1]}")
        yield
    finally:
        process.terminate()
        process.wait(60)
        # dockerd leaves the mount of its own network namespace behind.
        subprocess.run(["umount", run / "exec" / "netns" / "default"], capture_output=True, check=False)


def _answers(address: str) -> bool:
    argv = ["docker", "--host", address, "version"]
    return subprocess.run(argv, env={**os.environ, "PATH": SEARCH}, capture_output=True, check=False).returncode == 0


def _remove_all(made: Engine) -> None:
    """Containers, volumes and networks go while the engine still runs, and with them their bridges and rules."""
    containers = made.docker("ps", "--all", "--quiet").split()
    if containers:
        made.docker("rm", "--force", "--volumes", *containers)
    made.docker("network", "prune", "--force")
    made.docker("volume", "prune", "--force")


@contextmanager
def _unchanged_network() -> Iterator[None]:
    """Undo what dockerd leaves behind: its bridge, its chains, the policy of FORWARD and forwarding itself."""
    forwarding, policy = _FORWARDING.read_text(), _forward_policy()
    try:
        yield
    finally:
        # Ours has ended. One that somebody started meanwhile uses the same bridge and chains: leave them to it.
        if not _an_engine_runs():
            _restore_network(policy, forwarding)


def _restore_network(policy: str, forwarding: str) -> None:
    rules = [rule for rule in _iptables("iptables-save").splitlines() if not re.search("DOCKER|docker0", rule)]
    rules = [re.sub("^:FORWARD DROP", f":FORWARD {policy}", rule) for rule in rules]
    _iptables("iptables-restore", "\n".join(rules) + "\n")
    subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
    _FORWARDING.write_text(forwarding)


def _forward_policy() -> str:
    try:
        return _iptables("iptables", "", "--list-rules", "FORWARD").split()[2]
    except subprocess.CalledProcessError as error:
        raise NoEngine(f"iptables does not work here: {error.stderr.strip()}") from error


def _iptables(program: str, stdin: str = "", *arguments: str) -> str:
    argv = [program, *arguments]
    return subprocess.run(
        argv, env={**os.environ, "PATH": SEARCH}, input=stdin, capture_output=True, text=True, check=True
    ).stdout


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask `condition` until it holds, for `seconds` at most; whether it did."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return held
