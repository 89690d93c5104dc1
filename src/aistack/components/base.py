"""What a component says about its programs: plain, frozen data that every runtime can translate.

Strings in `arguments`, `environment` and `ConfigFile.template` are Jinja templates. They see `config`
(the Config), `host` (facts about the machine) and `place` (a Placement: where things are reachable and
lie under the runtime at hand), so that one component serves every runtime.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal

from aistack.config.schema import Config

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class DebianProgram:
    """A program from a Debian package; `minimum` is the oldest version that will do."""

    package: str
    executable: str
    minimum: str


@dataclass(frozen=True)
class PythonProgram:
    """A Python program in a virtual environment of its own: exactly the `requirements`, which are complete."""

    environment: str
    requirements: tuple[str, ...]
    executable: str


@dataclass(frozen=True)
class OwnModule:
    """A module of aistack, run as `python -m`; it may need a shared `library`, from a Debian `package`."""

    module: str
    package: str = ""
    library: str = ""


@dataclass(frozen=True)
class InstalledProgram:
    """A program that the site installs itself; `hint` tells how."""

    executable: str
    hint: str


@dataclass(frozen=True)
class Image:
    """The container image that brings a program, pinned by `tag`.

    `command` is what starts it there; `skip` of the service's arguments stand in it already. `probe` is what in
    the image can ask a health path; "" when nothing can. `instead` is the site's own choice, a full reference.
    `amd` is added to the tag for AMD's graphics cards.
    """

    name: str
    tag: str
    command: tuple[str, ...]
    probe: Literal["curl", "wget", "bash", "python", "ollama", ""]
    skip: int = 0
    instead: str = ""
    amd: str = ""

    def reference(self, gpu: str) -> str:
        """What Docker calls it; `gpu` is the vendor of the cards to use, "" without any."""
        return self.instead or f"{self.name}:{self.tag}{self.amd if gpu == 'amd' else ''}"


Program = DebianProgram | PythonProgram | OwnModule | InstalledProgram


@dataclass(frozen=True)
class Port:
    """A TCP port that a service listens on: `public` for everybody, else for the stack alone."""

    name: str
    number: int
    public: bool = False
    address: str = "127.0.0.1"


@dataclass(frozen=True)
class StateDir:
    """A folder that a service keeps data in; `usual` is the one below /var/lib where people look for it."""

    name: str
    mode: int = 0o700
    usual: str = ""


@dataclass(frozen=True)
class ConfigFile:
    """A file rendered for a service. `path` is relative; the service is reloaded, not restarted, when
    only files with `reloadable` differ. `fixed` is a template of what of such a file no reload takes over."""

    path: str
    template: str
    mode: int = 0o644
    reloadable: bool = False
    fixed: str = ""


@dataclass(frozen=True)
class SecretValue:
    """An environment value that holds a secret: `{secret}` in `form` stands for it."""

    name: str
    form: str = "{secret}"


@dataclass(frozen=True)
class Health:
    """A service is healthy when GET `path` on `port` answers 200; it may take `start_seconds` to get there.

    `tells_loaded`: the answer holds what a file with `reloadable` has at `{{ loaded }}`, so that a reload that
    the program refused is noticed: most then serve on with what they had, and answer 200.
    """

    path: str
    port: str = "http"
    start_seconds: float = 30.0
    tells_loaded: bool = False


@dataclass(frozen=True)
class Scrape:
    """Where Prometheus finds the service's numbers."""

    path: str = "/metrics"
    port: str = "http"


@dataclass(frozen=True)
class BackupSource:
    """Data worth keeping: a `sqlite` file or a `directory`, relative to a state folder of the service."""

    kind: Literal["sqlite", "directory"]
    state: str
    path: str = "."


@dataclass(frozen=True)
class Check:
    """A program that says whether a rendered file will do, before it replaces the one in use.

    `{{ staged }}` in `arguments` is the path of the new version of `path`.
    """

    path: str
    executable: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Service:
    """One program of the stack, and all that the rest of aistack needs to know of it.

    `after`: services that must be healthy before this one is started; `talks_to`: all that it connects to;
    `outbound`: whether it connects to anything outside of the stack. `secrets` are made up when they are not there;
    `site_secrets` nobody can make up, the site lays them beside those. `handed`: files of the site (`certificate`,
    `certificate_key`) that it reads, and reads anew when it is reloaded. `prepare`: a module of aistack with its
    arguments, run to its end before each start. `sees_machine`: it looks at the whole machine, processes and disks.
    `image`: what a container of it is made from; None: our own.
    `memory_mib`, `tasks`: what it may take at most; 0: all there is.
    """

    name: str
    title: str
    program: Program
    arguments: tuple[str, ...]
    ports: tuple[Port, ...]
    health: Health
    environment: Mapping[str, str | SecretValue] = field(default_factory=lambda: EMPTY)
    secrets: tuple[str, ...] = ()
    site_secrets: tuple[str, ...] = ()
    states: tuple[StateDir, ...] = ()
    config_files: tuple[ConfigFile, ...] = ()
    after: tuple[str, ...] = ()
    scrape: Scrape | None = None
    backups: tuple[BackupSource, ...] = ()
    talks_to: tuple[str, ...] = ()
    outbound: bool = False
    handed: tuple[Literal["certificate", "certificate_key"], ...] = ()
    reads_models: bool = False
    sees_machine: bool = False
    uses_gpu: bool = False
    image: Image | None = None
    memory_mib: int = 0
    tasks: int = 512
    check: Check | None = None
    prepare: tuple[str, ...] = ()
    stop_seconds: float = 10.0

    def port(self, name: str) -> Port:
        """The port called `name`."""
        return next(port for port in self.ports if port.name == name)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Every secret that the service uses, from files or in its environment."""
        in_environment = (value.name for value in self.environment.values() if isinstance(value, SecretValue))
        return tuple(dict.fromkeys((*self.secrets, *self.site_secrets, *in_environment)))


Component = Callable[[Config], tuple[Service, ...]]
"""What a folder below `components` offers: the services that a Config asks of it, none when it does without."""


def template(component: str, name: str) -> str:
    """The text of `templates/<name>` in the folder of `component`."""
    return _text(component, f"templates/{name}")


def locked(component: str) -> tuple[str, ...]:
    """What scripts/lock pinned for `component`: a requirement each, all of them together complete."""
    return tuple(line for line in _text(component, "requirements.lock").splitlines() if not line.startswith("#"))


@cache
def _text(component: str, path: str) -> str:
    return (resources.files(f"aistack.components.{component}") / path).read_text(encoding="utf-8")
