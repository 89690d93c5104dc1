"""What nearly every operation begins with: the site's wishes, the machine, and the runtime between them."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aistack.components.base import Program
from aistack.components.gateway.component import DATABASE_PASSWORD
from aistack.config.load import Judge, load, readable
from aistack.config.paths import Paths, find_paths
from aistack.config.schema import Config
from aistack.config.secrets import Secrets
from aistack.errors import ConfigError
from aistack.hardware import facts
from aistack.models.ollama import OllamaServer
from aistack.models.store import ModelStore
from aistack.operations.mistakes import wrong_names
from aistack.plan import Plan, make_plan
from aistack.render import RenderedService, render
from aistack.runtimes.base import Change, Observed, Runtime, changes
from aistack.runtimes.kinds import RUNTIMES
from aistack.runtimes.local import site_files
from aistack.system.files import as_owner
from aistack.system.run import run

if TYPE_CHECKING:
    from aistack.gateway.state.database import Database


def refuse(_question: str) -> bool:
    """The answer of a caller who cannot be asked."""
    return False


@dataclass(frozen=True)
class Stack:
    """A stack as its stack.toml wants it, with the runtime that carries it."""

    paths: Paths
    plan: Plan
    runtime: Runtime

    @property
    def config(self) -> Config:
        """What stack.toml says."""
        return self.plan.config

    @property
    def secrets(self) -> Secrets:
        """The stack's secrets."""
        return Secrets(self.paths.secrets)

    @property
    def models(self) -> ModelStore:
        """The model store of the embedded engine."""
        return ModelStore(self.runtime.models)

    @property
    def ollama(self) -> OllamaServer | None:
        """The Ollama that has the models, when that is the engine."""
        return OllamaServer(self.runtime.url("engine")) if self.config.engine.kind == "ollama" else None

    @property
    def certificate(self) -> Path:
        """The proxy's certificate chain: the site's own, or ours."""
        return site_files(self.paths, self.config)["certificate"]

    @property
    def certificate_key(self) -> Path:
        """Its private key."""
        return site_files(self.paths, self.config)["certificate_key"]

    @property
    def gateway_database(self) -> Path:
        """Where API keys are kept."""
        return self.runtime.state("gateway", "data") / "gateway.db"

    @property
    def programs(self) -> Sequence[tuple[str, Program]]:
        """Each service's name with the program it needs."""
        return [(service.name, service.program) for service in self.plan.services]

    def rendered(self) -> tuple[RenderedService, ...]:
        """Every service as it should run now."""
        return render(self.plan, self.runtime.placement, self.runtime.digest)

    def changes(self, observed: Mapping[str, Observed] | None = None) -> tuple[Change, ...]:
        """What `up` would do."""
        return changes(self.rendered(), self.runtime.observe() if observed is None else observed)


@contextmanager
def gateway_database(stack: Stack) -> Iterator["Database"]:
    """The gateway's database, open. Raises UserError."""
    # Most commands need none, and its library takes long to import.
    from aistack.gateway.state.database import Database, preload

    with ExitStack() as closing:
        where: str | Path = stack.config.gateway.database
        password = None
        if where:
            password = stack.secrets.path(DATABASE_PASSWORD).read_text().strip()
        else:
            where = stack.gateway_database
            preload()  # our code may lie where the folder's owner may not look
            closing.enter_context(as_owner(where.parent))
        database = Database(where, password)
        closing.callback(database.close)
        yield database


def open_stack(
    paths: Paths | None = None,
    confirm: Callable[[str], bool] = refuse,
    *,
    runtime: str | None = None,
    like: Stack | None = None,
    judges: Iterable[Judge] = (),
    tolerate: Callable[[ConfigError], None] | None = None,
) -> Stack:
    """Read stack.toml and the machine. Raises ConfigError, also for what `judges` find.

    `runtime` takes the place of the one in stack.toml; `like`: with the settings of that stack instead. With
    `tolerate` a stack.toml that is wrong is handed to it, and counts as far as it can be understood: for those
    who only have to find what runs.
    """
    paths = paths or find_paths(os.environ, os.geteuid())
    try:
        config = like.config if like else load(paths.stack_toml, (wrong_names, *judges))
    except ConfigError as error:
        if tolerate is None:
            raise
        config = readable(paths.stack_toml)
        tolerate(error)
    plan = make_plan(config.model_copy(update={"runtime": runtime or config.runtime}), facts.gather(run))
    return Stack(paths, plan, RUNTIMES[plan.config.runtime](paths, plan, confirm))
