"""A Debian machine with systemd as its first process, in a container: to install on, to break and to reboot."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine import Engine, wait_for

# Their bits in a capability set (linux/capability.h). A machine has those of them that root here has.
_CAPABILITIES = {"NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_NICE": 23, "SYS_RESOURCE": 24}


@dataclass(frozen=True)
class Machine:
    """A running machine, by the name of its container."""

    engine: Engine
    name: str

    def run(
        self, *argv: str, status: int | None = 0, timeout: int = 60, stdin: str | None = None, user: str = "root"
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` in the machine, for `timeout` seconds at most (then status 124); fails unless it ends with
        `status` (None: any)."""
        done = subprocess.run(
            ["docker", "exec", "--interactive", "--user", user, self.name, "timeout", "--kill-after=5", str(timeout),
             *argv],
            env=self.engine.environment, input=stdin or "", capture_output=True, text=True, timeout=timeout + 30,
            check=False,
        )  # fmt: skip
        story = f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert status is None or done.returncode == status, story
        return done

    def write(self, path: str, text: str, mode: str = "0644") -> None:
        """Write a file in the machine, with the folders above it."""
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, stdin=text)

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or folder into the machine, as root's."""
        self.engine.docker("cp", str(source), f"{self.name}:{target}")

    def copy_checkout(self, repository: Path, target: str) -> None:
        """Copy what git knows of `repository`, uncommitted changes too, and what it would not ignore."""
        listed = ["git", "-C", str(repository), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, capture_output=True, check=True).stdout
        packed = ["tar", "--directory", str(repository), "--null", "--files-from=-", "--ignore-failed-read", "--create"]
        archive = subprocess.run(packed, input=files, capture_output=True, check=True).stdout
        self.run("mkdir", "--parents", target)
        unpack = ["docker", "exec", "--interactive", self.name, "tar", "--directory", target, "--no-same-owner", "-x"]
        subprocess.run(unpack, env=self.engine.environment, input=archive, capture_output=True, check=True)

    def reboot(self) -> None:
        """Shut down as `poweroff` does and boot again: disks are kept; /run and /tmp, hence the journal, are not."""
        self.engine.docker("restart", "--time", "90", self.name)
        self.wait_until_up()

    @property
    def address(self) -> str:
        """Its IP address, that this machine reaches it by."""
        return self.engine.docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", self.name).strip()

    def wait_until_up(self, timeout: float = 120) -> None:
        """Return when systemd has finished booting, well or `degraded`; fails when that takes `timeout` seconds."""
        said = "nothing"

        def booted() -> bool:
            nonlocal said
            said = self.run("systemctl", "is-system-running", status=None).stdout.strip()
            return said in ("running", "degraded")

        assert wait_for(booted, timeout), f"{said}\n{self.engine.docker('logs', '--tail', '20', self.name)}"


@contextmanager
def booted(engine: Engine, image: str, name: str, *, folders: Sequence[Path] = (), options: Sequence[str] = ()
) -> Iterator[Machine]:  # fmt: skip
    """A machine made from `image`, for the `with` block; it sees `folders` of ours at their own paths, read-only.

    `options` are further ones of `docker run`, such as devices.
    """
    capabilities = [part for name in _possible_capabilities() for part in ("--cap-add", name)]
    seen = [part for folder in folders for part in ("--volume", f"{folder}:{folder}:ro")]
    engine.docker(
        "run", "--detach", "--name", name, "--hostname", name, *capabilities, "--security-opt", "seccomp=unconfined",
        "--security-opt", "apparmor=unconfined", "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw",
        "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777", "--env", "container=docker",
        *seen, *options, image,
    )  # fmt: skip
    machine = Machine(engine, name)
    try:
        machine.wait_until_up()
        yield machine
    finally:
        engine.docker("rm", "--force", "--volumes", name)


def _possible_capabilities() -> list[str]:
    status = Path("/proc/self/status").read_text().splitlines()
    ours = next(int(line.split()[1], 16) for line in status if line.startswith("CapBnd:"))
    return [name for name, bit in _CAPABILITIES.items() if ours >> bit & 1]
