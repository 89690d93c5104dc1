"""The rules of the house: imports go one way, and few modules start programs, write files or ask ports."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/aistack"

# The deployer from top to bottom: each may import those below it. Two on one line do not know each other.
LAYERS = (
    ("cli",),
    ("operations",),
    ("runtimes",),
    ("render",),
    ("plan",),
    ("components", "hardware"),
    ("config",),
)
FOR_EVERYBODY = {"errors", "system"}
# What stands beside the deployer: nothing of it may be imported here but what is named.
BESIDE: dict[str, set[str]] = {
    "errors": set(),
    "system": set(),
    "certificates": set(),
    "models": set(),
    "engine": {"models"},
    "gateway": {"rag"},
    "rag": set(),
    "exporter": {"certificates"},
}
BORROWED = {
    "operations": {"models", "certificates", "gateway.state"},
    "cli": {"models", "gateway.keys", "gateway.key_terms", "gateway.usage_report"},
}

STARTS_PROGRAMS = {
    "system/run.py": "the one place for it",
    "engine/worker.py": "starts llama.cpp in the event loop, with pipes that run.py's callers have no use for",
}
WRITES_FILES = {
    "system/files.py": "the one place for it",
    "models/partials.py": "downloads go on where they stopped, so they are written piece by piece",
    "models/store.py": "moves gigabytes by renaming them, which no writer of whole contents could",
    "models/demo.py": "gguf's own writer makes the file, below a partial name",
    "models/minilm.py": "gguf's own writer makes the file, below a partial name",
    "runtimes/launch.py": "opens the log that becomes the service's standard output",
    "runtimes/rotate.py": "cuts logs in place while services go on writing to them",
    "runtimes/programs.py": "opens a lock file",
    "operations/lock.py": "opens a lock file",
    "gateway/audit.py": "logging's own handler writes the audit log and turns it over",
    "gateway/state/database.py": "SQLite writes its database itself, which must be private before",
    "components/chat/release_settings.py": "SQLite writes Open WebUI's database itself",
    "engine/llama.py": "tells the kernel, below /proc, whom to end first when memory runs out",
}
ASKS_PORTS = {
    "system/probe.py": "the one place for it",
    "gateway/http_client.py": "talks to engines, for whoever asks the gateway",
}

_CLIENTS = {"http.client", "urllib.request", "requests", "telnetlib"}
_STARTERS = {"subprocess", "multiprocessing", "pty"}
_STARTING_CALLS = ("exec", "spawn", "posix_spawn", "fork", "system", "popen")
_STARTING_METHODS = {
    "create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell",
}  # fmt: skip
_WRITING_METHODS = {
    "write_text", "write_bytes", "touch", "mkdir", "makedirs", "rmdir", "removedirs", "unlink", "rename", "renames",
    "symlink_to", "hardlink_to", "chmod", "fchmod", "lchmod", "chown", "truncate", "ftruncate", "mknod", "mkfifo",
    "copyfile", "copy2", "copytree", "copyfileobj", "rmtree", "move", "mkstemp", "mkdtemp", "TemporaryFile",
    "NamedTemporaryFile", "TemporaryDirectory", "GGUFWriter",
}  # fmt: skip
_WRITING_FUNCTIONS = {"os.remove", "os.replace", "os.link", "os.symlink", "shutil.copy", "sqlite3.connect"}
_WRITING_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported, absolute; of `from a import b` both `a` and `a.b`, as b may be either."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module lies"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def part_of(file: str) -> str:
    """The package, or single module, right below aistack that a file belongs to."""
    return file.partition("/")[0].removesuffix(".py")


def allowed(part: str) -> set[str]:
    """What `part` may import from: names right below aistack, or `package.module`."""
    for number, layer in enumerate(LAYERS):
        if part in layer:
            below = {name for lower in LAYERS[number + 1 :] for name in lower}
            return {part} | below | FOR_EVERYBODY | BORROWED.get(part, set())
    if part == "system":
        return {"system", "errors"}
    return {part} | BESIDE[part] | (FOR_EVERYBODY if part != "errors" else set())


def wrong_imports(file: str, tree: ast.Module) -> list[str]:
    """The imports of `file` that go the wrong way."""
    part = part_of(file)
    if part == "__init__":
        return [name for name in imported(tree) if name.startswith("aistack")]
    may = allowed(part)
    wrong = []
    for name in imported(tree):
        inner = name.removeprefix("aistack.")
        if inner == name or inner == "__version__" or inner.split(".")[0] in may:
            continue
        if not any(inner == item or inner.startswith(f"{item}.") for item in may) and not _leads_to(inner, may):
            wrong.append(f"{file} imports {name}")
    return wrong


def _leads_to(package: str, may: set[str]) -> bool:
    """`from aistack.gateway import keys` yields `gateway` too, which only leads to `gateway.keys`."""
    return any(item.startswith(f"{package}.") for item in may)


def calls(tree: ast.Module) -> Iterator[tuple[str, str, ast.Call]]:
    """Every call as (what it is called on or "", its last name, the call)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield ast.unparse(node.func.value), node.func.attr, node
            elif isinstance(node.func, ast.Name):
                yield "", node.func.id, node


def starts_programs(tree: ast.Module) -> bool:
    if any(name.split(".")[0] in _STARTERS or name.endswith("ProcessPoolExecutor") for name in imported(tree)):
        return True
    return any(
        name in _STARTING_METHODS or (owner == "os" and name.startswith(_STARTING_CALLS))
        for owner, name, _ in calls(tree)
    )


def writes_files(tree: ast.Module) -> bool:
    return any(
        name in _WRITING_METHODS
        or f"{owner}.{name}" in _WRITING_FUNCTIONS
        or _replaces_path(name, call)
        or _opens_to_write(owner, name, call)
        for owner, name, call in calls(tree)
    )


def _replaces_path(name: str, call: ast.Call) -> bool:
    """Path.replace takes one argument; str.replace takes two, datetime's and dataclasses' take keywords."""
    return name == "replace" and len(call.args) == 1 and not call.keywords


def _opens_to_write(owner: str, name: str, call: ast.Call) -> bool:
    if name == "fdopen" or (name == "open" and owner in ("", "io", "gzip")):
        mode = call.args[1:2]
    elif name == "open" and owner == "os":
        return any(
            isinstance(part, ast.Attribute) and part.attr in _WRITING_FLAGS
            for argument in call.args[1:]
            for part in ast.walk(argument)
        )
    elif name == "open":
        mode = call.args[:1]
    else:
        return False
    mode = mode + [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    return any(isinstance(item, ast.Constant) and set(str(item.value)) & set("wax+") != set() for item in mode)


def asks_ports(tree: ast.Module) -> bool:
    return bool(_CLIENTS & set(imported(tree))) or any(
        name in ("create_connection", "connect_ex") for _, name, _ in calls(tree)
    )


def test_imports_go_one_way() -> None:
    assert [wrong for file, tree in sources() for wrong in wrong_imports(file, tree)] == []


def test_every_part_of_the_house_has_its_place() -> None:
    known = {name for layer in LAYERS for name in layer} | BESIDE.keys() | {"__init__"}
    assert {part_of(file) for file, _ in sources()} <= known


@pytest.mark.parametrize(
    ("rule", "exceptions"),
    [(starts_programs, STARTS_PROGRAMS), (writes_files, WRITES_FILES), (asks_ports, ASKS_PORTS)],
)
def test_only_the_named_modules_touch_the_machine(
    rule: Callable[[ast.Module], bool], exceptions: dict[str, str]
) -> None:
    """Both ways: nobody else does, and no exception outlives its reason."""
    assert {file for file, tree in sources() if rule(tree)} == set(exceptions)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("gateway/x.py", "from aistack.config.schema import Config"),
        ("engine/x.py", "import aistack.runtimes.base"),
        ("exporter/x.py", "from aistack import plan"),
        ("components/x.py", "from aistack.hardware.host import Host"),
        ("plan.py", "from aistack.render import render"),
        ("config/x.py", "from aistack.components import COMPONENTS"),
        ("system/x.py", "from aistack.config import paths"),
        ("operations/x.py", "from aistack.gateway.principals import Gatekeeper"),
        ("operations/x.py", "from aistack.gateway import principals"),
        ("runtimes/x.py", "from aistack.gateway.keys import KeyStore"),
        ("gateway/x.py", "from aistack.models.store import ModelStore"),
        ("errors.py", "from aistack.system import files"),
    ],
)
def test_a_wrong_import_is_seen(file: str, line: str) -> None:
    assert wrong_imports(file, ast.parse(line))


@pytest.mark.parametrize(
    "line", ["from aistack.gateway.keys import KeyStore", "from aistack.gateway import keys", "import json"]
)
def test_a_borrowed_module_may_be_imported(line: str) -> None:
    assert wrong_imports("cli/x.py", ast.parse(line)) == []


@pytest.mark.parametrize(
    "line",
    ["import subprocess", "os.execv(a, b)", "os.system('ls')", "from multiprocessing import Process", "os.fork()",
     "asyncio.create_subprocess_exec('ls')"],
)  # fmt: skip
def test_starting_a_program_is_seen(line: str) -> None:
    assert starts_programs(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    ["open('x', 'w')", "open('x', mode='ab')", "path.open('r+')", "path.write_text('x')", "a.replace(b)",
     "os.open(p, os.O_RDWR | os.O_CREAT)", "shutil.rmtree(p)", "sqlite3.connect(p)", "path.mkdir(parents=True)"],
)  # fmt: skip
def test_writing_a_file_is_seen(line: str) -> None:
    assert writes_files(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    ["open('x')", "path.open('rb')", "text.replace('a', 'b')", "now.replace(microsecond=0)",
     "os.open(p, os.O_PATH | os.O_DIRECTORY)", "dataclasses.replace(a, b=1)"],
)  # fmt: skip
def test_reading_is_not_taken_for_writing(line: str) -> None:
    assert not writes_files(ast.parse(line))
