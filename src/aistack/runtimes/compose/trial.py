"""A new configuration is judged by its own program, in a container that cannot reach anything."""

from pathlib import Path

from aistack.components.base import Check
from aistack.render import RenderedService
from aistack.runtimes.compose.confines import CONFIGURATION, HANDED
from aistack.runtimes.compose.docker import Docker
from aistack.runtimes.compose.placement import ComposePlacement
from aistack.system import files
from aistack.system.run import check

_STAGED = CONFIGURATION / "staged"


def judge(docker: Docker, rendered: RenderedService, test: Check, place: ComposePlacement, folder: Path) -> None:
    """Run the check of `rendered` on its new file, with copies below `folder`. Raises ProgramError."""
    service, ground = rendered.service, place.ground
    files.remove(folder)
    files.make_directory(folder, 0o700)
    content = next(file.content for file in rendered.files if file.path == test.path)
    _lay(folder / "staged" / test.path, content, place)
    for name in service.handed:
        original = place.original(place.handed(service.name, name))
        _lay(folder / "handed" / f"{name}.pem", original.read_bytes(), place)
    files.make_directory(folder / "handed")
    scratch = [f"--tmpfs={place.state(service.name, state.name)}:mode=1777" for state in service.states]
    arguments = [place.expand(part).replace("{{ staged }}", str(_STAGED / test.path)) for part in test.arguments]
    done = docker.run(
        "run", "--rm", "--network=none", "--user={}:{}".format(*ground.user), "--read-only", "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true", "--tmpfs=/tmp", *scratch,
        f"--volume={folder / 'staged'}:{_STAGED}:ro", f"--volume={folder / 'handed'}:{HANDED}:ro",
        f"--entrypoint={test.executable}", ground.reference(service), *arguments,
    )  # fmt: skip
    files.remove(folder)
    check(done, f"{service.title}: the new {test.path} was refused; the old one stays in use")


def _lay(path: Path, content: str | bytes, place: ComposePlacement) -> None:
    files.make_directory(path.parent)
    files.write(path, content, 0o400)
    files.give(path, *place.ground.user)
