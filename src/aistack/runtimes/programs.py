"""Brings the programs that services need: Debian packages through apt-get, Python ones in environments of their own."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aistack.components.base import DebianProgram, InstalledProgram, OwnModule, Program, PythonProgram
from aistack.errors import ProgramError, UserError
from aistack.runtimes import debian
from aistack.runtimes.base import Progress, Report
from aistack.system import files
from aistack.system.run import check, run

# Where Debian, and a site by hand, install for the whole machine. It goes before the caller's own PATH, which is not
# the same for cron as for somebody who signed in: services would be restarted for the difference.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON_ENVIRONMENT_BYTES = 3_000_000_000


def find(executable: str) -> str | None:
    """The full path of `executable`; None while it is not installed."""
    return shutil.which(executable, path=f"{SYSTEM_PATH}:{os.environ.get('PATH', '')}")


def version(executable: str) -> tuple[int, ...]:
    """What `executable` says to `-v`, as nginx has it; () while it is not installed."""
    path = find(executable)
    if path is None:
        return ()
    done = run([path, "-v"], timeout_s=20)
    return numbers(f"{done.stdout}{done.stderr}")


def numbers(text: str) -> tuple[int, ...]:
    """The first version in `text`, such as 1.22.1; () when there is none."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def environment_folder(programs: Path, program: PythonProgram) -> Path:
    """The virtual environment of exactly these pins; other pins are another folder, so a rollback finds its own."""
    pins = hashlib.sha256(repr((program.requirements, sys.version_info[:2])).encode())
    return programs / f"{program.environment}-{pins.hexdigest()[:10]}"


@dataclass(frozen=True)
class Installer:
    """Installs below `programs`; `confirm` is asked before the system's own packages are touched."""

    programs: Path
    confirm: Callable[[str], bool]
    python: str = sys.executable

    def missing(self, wanted: Sequence[tuple[str, Program]]) -> tuple[tuple[str, Program], ...]:
        """Those of `wanted` (service, program) that are not there yet."""
        return tuple((name, program) for name, program in wanted if not self._present(program))

    def told(self, wanted: Sequence[tuple[str, Program]]) -> tuple[str, ...]:
        """The same in sentences."""
        return tuple(_told(name, program) for name, program in self.missing(wanted))

    def install(self, wanted: Sequence[tuple[str, Program]], report: Report) -> None:
        """Bring what is missing; a second call does nothing. Raises ProgramError, or UserError when refused."""
        debian.finish_interrupted()
        missing = self.missing(wanted)
        for name, program in missing:
            if isinstance(program, InstalledProgram):
                raise ProgramError(f"{name} needs {program.executable}, which is not installed", program.hint)
        packages = sorted({program.package for _, program in missing if isinstance(program, DebianProgram | OwnModule)})
        if packages:
            self.install_packages(packages, report)
        for name, program in missing:
            if isinstance(program, PythonProgram):
                self._install_program(name, program, report)

    def install_packages(self, packages: Sequence[str], report: Report) -> None:
        """Install Debian packages, and leave none of the services running that they would start."""
        if not self.confirm(f"install with apt-get: {' '.join(packages)}"):
            raise UserError("not installed", f"install them yourself: apt-get install {' '.join(packages)}")
        debian.install(packages, lambda line: report(Progress("packages", "installing", line)))

    def _present(self, program: Program) -> bool:
        match program:
            case DebianProgram(_, executable, _) | InstalledProgram(executable, _):
                return find(executable) is not None
            case PythonProgram():
                return (environment_folder(self.programs, program) / "complete").exists()
            case OwnModule(_, _, library):
                return not library or _loads(library)

    def install_own(self, folder: Path, requirements: Sequence[str], report: Report) -> None:
        """Our own code in an environment that services may read. Raises ProgramError."""
        self._make_environment(folder, "aistack", requirements, report)

    def _install_program(self, name: str, program: PythonProgram, report: Report) -> None:
        folder = environment_folder(self.programs, program)
        self._make_environment(folder, name, ["--no-deps", *program.requirements], report)

    def _make_environment(self, folder: Path, name: str, requirements: Sequence[str], report: Report) -> None:
        # One that is there may be shared, with the modes that its users agreed on.
        if not self.programs.is_dir():
            files.make_directory(self.programs)
        with _lock(self.programs / f".{folder.name}.lock"):
            if (folder / "complete").exists():
                return
            _need_room(self.programs)
            # Without `complete` it is what a killed `up` left; uv's cache makes starting over cheap.
            files.remove(folder)
            report(Progress(name, "installing", f"virtual environment {folder.name}"))
            uv = str(Path(sys.executable).with_name("uv"))
            made = run([uv, "venv", "--quiet", "--no-config", "--python", self.python, str(folder)])
            check(made, f"making a virtual environment for {name}")
            sources = package_sources()
            argv = [uv, "pip", "install", "--no-config", "--no-progress", "--compile-bytecode", "--link-mode=hardlink",
                    "--python", str(folder / "bin/python"), *sources.options, *requirements]  # fmt: skip
            done = run(
                argv,
                env={**sources.environment, "PYTHONDONTWRITEBYTECODE": ""},
                on_line=lambda line: report(Progress(name, "installing", line)),
            )
            hint = "check the network, or pip's settings (`pip config list`)"
            check(done, f"installing {folder.name}", hint)
            files.write(folder / "complete", "")


def fetch_package(requirement: str, folder: Path) -> None:
    """Unpack one Python package, without what it depends on, into `folder`. Raises ProgramError."""
    uv = str(Path(sys.executable).with_name("uv"))
    sources = package_sources()
    done = run(
        [uv, "pip", "install", "--no-config", "--quiet", "--no-deps", *sources.options,
         "--target", str(folder), "--python", sys.executable, requirement],
        env=sources.environment,
    )  # fmt: skip
    check(done, f"fetching {requirement}", "check the network, or pip's settings (`pip config list`)")


def _told(name: str, program: Program) -> str:
    match program:
        case InstalledProgram(executable, hint):
            return f"{name}: {executable} is not installed; {hint}"
        case DebianProgram(package=title) | PythonProgram(environment=title) | OwnModule(package=title):
            return f"{name}: {title} would be installed"


@dataclass(frozen=True)
class Sources:
    """Where uv finds packages, and whose certificates count: addresses may hold passwords, so they stand in its
    environment, which others cannot read."""

    options: tuple[str, ...]
    environment: Mapping[str, str]


def package_sources() -> Sources:
    """What pip's own settings say: a site that has told pip of its mirror need not tell us as well."""
    # -P: the folder that we are called in is not ours, and may hold a `pip.py`.
    return sources_of(run([sys.executable, "-P", "-m", "pip", "config", "list"], timeout_s=30).stdout)


def sources_of(pip_settings: str) -> Sources:
    """The same from what `pip config list` printed."""
    said: dict[str, list[str]] = {}
    for line in pip_settings.splitlines():
        key, _, value = line.partition("=")
        words = value.strip("'\"").replace("\\n", " ").split()
        # The first that pip lists is its environment's, which is also the one it follows.
        if words:
            said.setdefault(key.rpartition(".")[2], words)
    further = [word for word in said.get("extra-index-url", []) if not word.startswith("file:")]
    environment = {
        "UV_DEFAULT_INDEX": "".join(said.get("index-url", [])[:1]),
        "UV_INDEX": " ".join(further),
        "UV_FIND_LINKS": ",".join(said.get("find-links", [])),
    }
    # uv brings certificates of its own; a site whose proxy has others put those into the machine's store.
    cert = ("--cert", said["cert"][0]) if "cert" in said else ()
    return Sources(("--system-certs", *cert), {name: value for name, value in environment.items() if value})


def _loads(library: str) -> bool:
    """Whether the machine has the shared library, wherever its loader looks."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _need_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _PYTHON_ENVIRONMENT_BYTES:
        raise UserError(
            f"{folder} has {free / 1e9:.1f} GB free; the programs need {_PYTHON_ENVIRONMENT_BYTES / 1e9:.0f} GB",
            "free some space, or set paths.programs in stack.toml to a folder on another disk",
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Two stacks may share the folder: one installs, the other waits."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise files.explained(error, path) from error
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o666)  # whatever the umask: another user must be able to wait for it
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
