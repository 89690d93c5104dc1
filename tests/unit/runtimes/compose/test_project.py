"""What the runtime says without asking Docker: names of projects, folders it cannot mount, the rendered tree."""

from pathlib import Path

import pytest

from aistack.config.load import parse
from aistack.config.paths import Paths
from aistack.errors import UserError
from aistack.hardware.facts import gather
from aistack.operations.stack import Stack
from aistack.operations.write_tree import write_tree
from aistack.plan import make_plan
from aistack.runtimes.compose.runtime import project
from aistack.runtimes.kinds import RUNTIMES
from aistack.system.run import run

HOST = gather(run, Path(__file__).parents[3] / "fixtures/hosts/laptop")


def stack(home: Path, text: str) -> Stack:
    plan = make_plan(parse(text), HOST)
    paths = Paths(home / "config", home / "data")
    return Stack(paths, plan, RUNTIMES[plan.config.runtime](paths, plan, lambda _: False))


def test_stacks_in_other_places_have_projects_of_their_own() -> None:
    usual = project(Paths(Path("/etc/ai-stack"), Path("/var/lib/ai-stack")))
    others = [project(Paths(Path(f"/srv/{name}/config"), Path(f"/srv/{name}/data"))) for name in ("a", "b")]
    assert usual == "ai-stack"
    assert len({usual, *others}) == 3


def test_a_folder_that_cannot_be_mounted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="colon"):
        stack(tmp_path / "a:b", 'runtime = "compose"').runtime.admit()


@pytest.mark.parametrize("runtime", ["compose", "process"])
def test_a_rendered_tree_holds_what_up_would_write_and_no_secret(tmp_path: Path, runtime: str) -> None:
    made = stack(tmp_path / "home", f'runtime = "{runtime}"')
    made.secrets.ensure(made.plan.secret_names)
    written = {str(path.relative_to(tmp_path / "out")) for path in write_tree(made, tmp_path / "out")}
    assert {"nginx/nginx.conf", "gateway/settings.json", "prometheus/prometheus.yml"} <= written
    assert ({"compose.yaml", ".env", "image/Dockerfile"} <= written) is (runtime == "compose")
    secrets = [made.secrets.path(name).read_text().strip() for name in made.plan.secret_names]
    text = "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret in text]
    assert not made.paths.generated.exists()
