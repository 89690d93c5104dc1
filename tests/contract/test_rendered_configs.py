"""What is rendered is judged by the program that will read it."""

import re
import shutil
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from aistack import certificates
from aistack.config.load import parse
from aistack.config.paths import Paths, find_paths
from aistack.config.reference import sample
from aistack.engine import settings as engine_settings
from aistack.errors import ProgramError
from aistack.exporter import settings as exporter_settings
from aistack.gateway import settings as gateway_settings
from aistack.hardware.facts import gather
from aistack.operations.stack import Stack
from aistack.plan import make_plan
from aistack.runtimes import process
from aistack.system import files
from aistack.system.run import run

GOLDEN = Path(__file__).parents[1] / "golden"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program, path=_PATH) is None, reason=f"{program} is not installed")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now: `nginx -t` tries the sockets, too."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def stack_of(folder: Path, values: Mapping[str, object]) -> Stack:
    """A stack below `folder`, not started, with its certificate made."""
    https, http, status = free_ports(3)
    ports = {"proxy.https_port": https, "proxy.http_port": http, "proxy.status_port": status}
    plan = make_plan(parse(sample({**ports, **values})), gather(run))
    paths = Paths(folder / "config", folder / "data")
    certificates.ensure(paths.tls, plan.public.names, plan.public.addresses, datetime.now(UTC))
    return Stack(paths, plan, process.make(paths, plan, lambda _: False))


SITES: list[dict[str, object]] = [
    {},
    {"proxy.http_port": 0},
    {"proxy.address": "127.0.0.1", "site.host_names": ["ai.example", "192.0.2.7", "fd00::7"]},
    {"engine.kind": "ollama", "proxy.max_upload_mb": 5000},
    {"proxy.limits.api_rate": "1r/m", "proxy.limits.chat_burst": 1, "monitoring.retention": "99999y"},
    {"proxy.limits.chat_rate": "9999999r/s", "proxy.limits.api_burst": 100_000, "proxy.max_upload_mb": 102_400},
]


@pytest.mark.parametrize("values", SITES, ids=lambda item: "+".join(item) or "defaults")
@needs("nginx")
def test_nginx_takes_its_configuration(tmp_path: Path, values: dict[str, object]) -> None:
    stack = stack_of(tmp_path, values)
    stack.runtime.check([service for service in stack.rendered() if service.name == "nginx"])


@pytest.mark.parametrize("values", SITES, ids=lambda item: "+".join(item) or "defaults")
@needs("promtool")
def test_prometheus_takes_its_configuration(tmp_path: Path, values: dict[str, object]) -> None:
    stack = stack_of(tmp_path, values)
    stack.runtime.check([service for service in stack.rendered() if service.name == "prometheus"])


@needs("nginx")
def test_nginx_takes_every_folder_that_a_stack_may_lie_in(tmp_path: Path) -> None:
    """What `find_paths` lets through can be written into nginx.conf."""
    home = tmp_path / "Ünter+über~(1)#50%=@a,b&c!"
    paths = find_paths({"AISTACK_HOME": str(home)}, 1000)
    assert paths.data.parent == home
    stack = stack_of(home, {})
    stack.runtime.check([service for service in stack.rendered() if service.name == "nginx"])


@needs("nginx")
def test_a_configuration_that_nginx_refuses_does_not_replace_the_one_in_use(tmp_path: Path) -> None:
    stack = stack_of(tmp_path, {})
    files.remove(stack.paths.tls / "server.key")
    in_use = stack.paths.generated / "nginx/nginx.conf"
    files.write(in_use, "# in use\n")
    with pytest.raises(ProgramError, match=r"server\.key"):
        stack.runtime.check([service for service in stack.rendered() if service.name == "nginx"])
    assert in_use.read_text() == "# in use\n"


@needs("nginx")
def test_nginx_says_nothing_about_the_default_configuration(tmp_path: Path) -> None:
    """Not even a warning: a directive of yesterday is found before it is one of nobody's."""
    stack = stack_of(tmp_path, {})
    (nginx,) = (service for service in stack.rendered() if service.name == "nginx")
    stack.runtime.check([nginx])
    staged = stack.paths.generated / "staged/nginx/nginx.conf"
    work = stack.runtime.placement.state("nginx", "work")
    done = run([shutil.which("nginx", path=_PATH) or "nginx", "-t", "-q", "-c", str(staged), "-p", work])
    assert [line for line in done.stderr.splitlines() if "[warn]" in line or "[emerg]" in line] == []


@pytest.mark.parametrize("values", SITES, ids=lambda item: "+".join(item) or "defaults")
def test_our_own_programs_take_their_settings(tmp_path: Path, values: dict[str, object]) -> None:
    stack = stack_of(tmp_path, values)
    for service in stack.rendered():
        for file in service.files:
            files.write(tmp_path / file.path, file.content)
    gateway = gateway_settings.load(tmp_path / "gateway/settings.json")
    assert gateway.database == str(stack.gateway_database)
    assert gateway.nodes[0].kind == stack.config.engine.kind
    exporter = exporter_settings.load(tmp_path / "exporter/settings.json")
    assert exporter.services.keys() == {service.name for service in stack.plan.services} - {"exporter"}
    if stack.config.engine.kind == "llamacpp":
        engine = engine_settings.load(tmp_path / "engine/settings.json")
        assert engine.models_dir == stack.models.root
        assert engine.threads >= 1


def golden(runtime: str) -> pytest.MarkDecorator:
    """For each example's tree as `runtime` has it."""
    folders = sorted(GOLDEN.glob(f"*/{runtime}"))
    return pytest.mark.parametrize("tree", folders, ids=lambda path: f"{path.parent.name}-{path.name}")


@golden("compose")
@needs("docker-compose")
def test_compose_takes_every_example(tree: Path) -> None:
    file = str(tree / "compose.yaml")
    done = run(["docker-compose", "--project-directory", str(tree), "--file", file, "config", "--quiet"])
    assert (done.status, done.stderr) == (0, "")


@golden("*")
@needs("promtool")
def test_prometheus_takes_every_example(tree: Path) -> None:
    promtool = shutil.which("promtool", path=_PATH) or "promtool"
    done = run([promtool, "check", "config", f"{tree}/prometheus/prometheus.yml"])
    assert done.status == 0, done.stderr


@golden("[ps]*")  # what Compose's nginx says of its own is asked in tests/machines
@needs("nginx")
def test_nginx_takes_every_example(tree: Path, tmp_path: Path) -> None:
    certificates.ensure(tmp_path, ("localhost",), (), datetime.now(UTC))
    text = (tree / "nginx/nginx.conf").read_text()
    work = re.search(r"pid (\S+)/nginx.pid;", text)
    assert work
    text = text.replace(work[1], str(tmp_path))
    text = re.sub(r"(ssl_certificate) \S+;", rf"\1 {tmp_path}/server.pem;", text)
    text = re.sub(r"(ssl_certificate_key) \S+;", rf"\1 {tmp_path}/server.key;", text)
    used = sorted(set(re.findall(r"listen \S+?:(\d+)", text)))
    for old, new in zip(used, free_ports(len(used)), strict=True):
        text = re.sub(rf"(listen \S+?):{old}\b", rf"\1:{new}", text)
    (tmp_path / "nginx.conf").write_text(text)
    nginx = shutil.which("nginx", path=_PATH) or "nginx"
    done = run([nginx, "-t", "-q", "-c", f"{tmp_path}/nginx.conf", "-p", str(tmp_path), "-e", "stderr"])
    assert (done.status, done.stderr) == (0, "")


@golden("systemd")
@needs("systemd-analyze")
def test_systemd_takes_every_example(tree: Path) -> None:
    units = sorted(map(str, (tree / "etc/systemd/system").iterdir()))
    told = run(["systemd-analyze", "verify", *units]).stderr.splitlines()
    # The programs of the stack need not be installed here.
    assert [line for line in told if "is not executable: No such file or directory" not in line] == []


@golden("process")
def test_supervisord_takes_every_example(tree: Path, tmp_path: Path) -> None:
    for name in ("logs", "run"):
        (tmp_path / name).mkdir()
    text = (tree / "supervisord.conf").read_text().replace("/var/lib/ai-stack", str(tmp_path))
    (tmp_path / "supervisord.conf").write_text(text)
    options = ServerOptions()
    options.realize(["--configuration", str(tmp_path / "supervisord.conf")])
    programs = {group.name for group in options.process_group_configs} - {"rotate"}
    assert programs == {path.stem for path in (tree / "services").iterdir()}
