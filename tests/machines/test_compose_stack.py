"""The whole stack on Docker Compose: a real engine, images made of the real programs, and ours from our Dockerfile."""

import json
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import Engine, wait_for
from sites import compose_site
from stacks import RealStack

# What must hold on every runtime is asked here too: all of it, of the fixtures `tended` and `stack`.
from test_lifecycle import *  # noqa: F403
from test_streams import *  # noqa: F403

SERVICES = {
    "chromadb", "engine", "prometheus", "node-exporter", "exporter", "gateway", "nginx", "chat", "nginx-exporter",
}  # fmt: skip
GOLDEN = Path(__file__).parents[1] / "golden"
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def site(engine: Engine) -> Iterator[RealStack]:
    """A stack with `runtime = "compose"` that is up."""
    with compose_site(engine) as made:
        yield made


def containers(engine: Engine) -> dict[str, dict[str, Any]]:
    """What Docker tells of each container, by service."""
    ids = engine.docker("ps", "--all", "--quiet", "--filter", "label=aistack.service").split()
    found = json.loads(engine.docker("inspect", *ids)) if ids else []
    return {one["Config"]["Labels"]["aistack.service"]: one for one in found}


def identities(engine: Engine) -> dict[str, tuple[str, str]]:
    """What changes when a service is started anew."""
    return {name: (one["Id"], one["State"]["StartedAt"]) for name, one in containers(engine).items()}


def project(stack: RealStack) -> str:
    """What Compose calls the stack, as the rendered tree tells it."""
    return (stack.home / "data/generated/.env").read_text().strip().partition("=")[2]


def test_everything_is_healthy_and_docker_thinks_so_too(site: RealStack, engine: Engine) -> None:
    found = site.status()
    assert set(found) == SERVICES
    assert not [item for item in found.values() if not item["healthy"] or item["problem"]]

    def agreed() -> bool:
        health = {name: one["State"].get("Health", {}).get("Status") for name, one in containers(engine).items()}
        return health == {name: "healthy" for name in SERVICES} | {"nginx-exporter": None}

    assert wait_for(agreed, 60), {name: one["State"].get("Health") for name, one in containers(engine).items()}


def test_people_chat_through_the_proxy(site: RealStack, key: str) -> None:
    question = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
    assert site.ask("/v1/chat/completions", key, question)["choices"][0]["message"]["content"]
    signed_in = site.ask("/api/v1/auths/signin", "", {"email": "admin@localhost", "password": site.password})
    models = site.ask("/api/models", signed_in["token"])["data"]
    assert "demo:latest" in {model["id"] for model in models}
    reply = site.ask("/api/chat/completions", signed_in["token"], {**question, "model": "demo:latest"})
    assert reply["choices"][0]["message"]["content"]


def test_prometheus_reaches_everybody_with_numbers(site: RealStack, engine: Engine) -> None:
    address = next(iter(containers(engine)["prometheus"]["NetworkSettings"]["Networks"].values()))["IPAddress"]
    url = f"http://{address}:{site.settings['monitoring.prometheus_port']}/prometheus/api/v1/targets"

    def all_up() -> bool:
        with urllib.request.urlopen(url, timeout=5) as answer:
            targets = json.load(answer)["data"]["activeTargets"]
        return len(targets) == 6 and all(target["health"] == "up" for target in targets)

    assert wait_for(all_up, 40)


def test_every_container_is_held_in(engine: Engine, site: RealStack) -> None:
    for name, one in containers(engine).items():
        held = one["HostConfig"]
        assert one["Config"]["User"] == "10001:10001", name
        assert held["ReadonlyRootfs"], name
        assert held["CapDrop"] == ["ALL"], name
        assert held["SecurityOpt"] == ["no-new-privileges:true"], name
        assert held["PidsLimit"] > 0, name
        assert not held["Privileged"], name
        # /proc tells what really runs, whatever Docker was asked for.
        status = Path(f"/proc/{one['State']['Pid']}/status").read_text()
        assert "\nUid:\t10001\t10001\t10001\t10001\n" in status, name
        assert "\nCapBnd:\t0000000000000000\n" in status, name
        assert "\nNoNewPrivs:\t1\n" in status, name


def test_nothing_but_the_proxy_publishes_a_port(engine: Engine, site: RealStack) -> None:
    ports = {name: one["HostConfig"]["PortBindings"] or {} for name, one in containers(engine).items()}
    assert {name for name, bound in ports.items() if bound} == {"nginx"}
    assert list(ports["nginx"]) == [f"{site.settings['proxy.https_port']}/tcp"]


def test_the_proxy_cannot_reach_the_database_or_the_engine(engine: Engine, site: RealStack) -> None:
    found = containers(engine)

    def reached(host: str, port: object) -> bool:
        script = f"curl --silent --output /dev/null --max-time 2 http://{host}:{port}/ && echo yes || echo no"
        return engine.docker("exec", found["nginx"]["Id"], "sh", "-c", script).strip() == "yes"

    assert reached("gateway", site.settings["gateway.port"])
    for name, port in (("chromadb", "vectors.port"), ("engine", "engine.port")):
        assert not reached(name, site.settings[port])
        for network in found[name]["NetworkSettings"]["Networks"].values():
            assert not reached(network["IPAddress"], site.settings[port])


def test_secrets_are_not_in_what_docker_tells(engine: Engine, site: RealStack) -> None:
    secrets = [path.read_text().strip() for path in (site.home / "config/secrets").iterdir()]
    told = json.dumps(list(containers(engine).values())) + (site.home / "data/generated/compose.yaml").read_text()
    assert len(secrets) >= 3
    assert not [secret for secret in secrets if secret in told]


@pytest.mark.parametrize("tree", sorted(GOLDEN.glob("*/compose")), ids=lambda path: path.parent.name)
def test_nginx_in_its_image_takes_every_example(site: RealStack, engine: Engine, tree: Path, tmp_path: Path) -> None:
    for name in ("certificate", "certificate_key"):
        shutil.copy(site.home / f"data/generated/handed/nginx/{name}.pem", tmp_path)
    told = engine.docker(
        "run", "--rm", "--network=none", "--tmpfs=/var/lib/ai-stack/nginx/work", "--entrypoint=sh",
        f"--volume={tree}/nginx:/etc/ai-stack/nginx:ro", f"--volume={tmp_path}:/etc/ai-stack/handed:ro",
        containers(engine)["nginx"]["Config"]["Image"],
        "-c", "nginx -t -q -c /etc/ai-stack/nginx/nginx.conf -e stderr 2>&1",
    )  # fmt: skip
    assert told == ""


def test_a_killed_service_comes_back(site: RealStack, engine: Engine) -> None:
    before = identities(engine)
    pid = site.status()["gateway"]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: site.status()["gateway"]["healthy"] and site.status()["gateway"]["pid"] != pid, 60)
    assert {name for name in before if identities(engine)[name] != before[name]} == {"gateway"}
    assert "nothing had to change" in site.run("up").stdout


def test_compose_alone_runs_what_was_rendered_and_up_finds_nothing_to_do(site: RealStack, engine: Engine) -> None:
    site.run("down")
    engine.compose(site.home / "data/generated", "--project-name", project(site), "up", "--detach")
    assert wait_for(lambda: not [item for item in site.status().values() if item["problem"]], 60)
    assert "nothing had to change" in site.run("up").stdout


def test_down_leaves_nothing_but_data(site: RealStack, engine: Engine, key: str) -> None:
    site.run("down")
    assert engine.docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project") == ""
    assert engine.docker("network", "ls", "--quiet", "--filter", "label=com.docker.compose.project").strip() == ""
    assert engine.docker("volume", "ls", "--quiet").strip() == ""
    began = time.monotonic()
    site.run("up")
    print(f"up again, with the images there: {time.monotonic() - began:.1f} s")
    assert "demo" in {model["id"] for model in site.ask("/v1/models", key)["data"]}


def test_a_move_to_processes_and_back_takes_everything_along(site: RealStack, engine: Engine, key: str) -> None:
    chat = {"chat": {"title": "before the move", "models": ["demo:latest"], "messages": []}}
    assert site.ask("/api/v1/chats/new", site.sign_in(), chat)["title"] == "before the move"
    for runtime in ("process", "compose"):
        told = site.run("move", "--to", runtime, "--yes", timeout=900).stdout
        assert f"The stack runs on {runtime} now" in told
        assert (containers(engine) == {}) == (runtime == "process")
        assert "before the move" in {found["title"] for found in site.ask("/api/v1/chats/", site.sign_in())}
        assert "demo" in {model["id"] for model in site.ask("/v1/models", key)["data"]}
        site.run("move", "--confirm")
        generated = site.home / "data" / "generated"
        assert (generated / "compose.yaml").exists() == (generated / "handed").exists() == (runtime == "compose")
        assert (generated / "services").exists() == (runtime == "process")
    assert not (site.home / "data" / "before-move").exists()
