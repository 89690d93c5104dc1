"""What compose.yaml says of each service: who reaches whom, what it may do, and that it keeps secrets."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aistack.config.load import parse
from aistack.config.paths import Paths
from aistack.config.reference import sample, sections
from aistack.hardware.facts import gather
from aistack.hardware.host import Gpu
from aistack.plan import Plan, make_plan
from aistack.render import RenderedService, render
from aistack.runtimes.compose import document
from aistack.runtimes.compose.confines import Ground
from aistack.runtimes.compose.placement import ComposePlacement
from aistack.system.run import run

HOST = gather(run, Path(__file__).parents[3] / "fixtures/hosts/laptop")
PATHS = Paths(Path("/srv/config"), Path("/srv/data"))
CARDS = {vendor: Gpu(vendor, "a card", 24 << 30, "1", usable=True, why="") for vendor in ("nvidia", "amd")}


def placement(plan: Plan) -> ComposePlacement:
    image = plan.config.images.aistack or "aistack:test"
    return ComposePlacement(Ground(PATHS, plan.config, plan.services, (10001, 10001), image, plan.gpu, (44, 109)))


def rendered(values: Mapping[str, object], *cards: str) -> tuple[ComposePlacement, tuple[RenderedService, ...]]:
    host = replace(HOST, gpus=tuple(CARDS[card] for card in cards))
    plan = make_plan(parse(sample(values)), host)
    place = placement(plan)
    return place, render(plan, place, lambda _: "same")


def written(*cards: str, **values: object) -> dict[str, Any]:
    """compose.yaml as its reader sees it; `values` with double underscores for dots."""
    place, services = rendered({key.replace("__", "."): value for key, value in values.items()}, *cards)
    return document.read(document.text(document.document(services, place), place.ground))


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return written()


def reach(made: Mapping[str, Any], name: str) -> set[str]:
    """The services that share a network with `name`."""
    ours = set(made["services"][name].get("networks", ()))
    return {other for other, service in made["services"].items() if ours & set(service.get("networks", ()))} - {name}


@pytest.mark.parametrize(
    ("image", "version"),
    [("", (1, 28, 0)), ("mirror:5000/nginx:1.24-alpine", (1, 24)), ("mirror:5000/nginx:stable", ()),
     ("nginx@sha256:1.2", ()), ("nginx:1.26.3@sha256:00", (1, 26, 3))],
)  # fmt: skip
def test_the_version_of_a_program_is_that_of_its_tag(image: str, version: tuple[int, ...]) -> None:
    assert rendered({"images.nginx": image})[0].version("nginx") == version


def test_what_is_read_is_what_was_written() -> None:
    place, services = rendered({})
    made = document.document(services, place)
    again = document.read(document.text(made, place.ground))
    assert {key: again[key] for key in made} == made
    assert document.text(again, place.ground) == document.text(made, place.ground)


def test_every_container_is_held_in(default: dict[str, Any]) -> None:
    for service in default["services"].values():
        assert service["user"] == "10001:10001"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] > 0
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
        assert "privileged" not in service
        assert service["image"].rpartition(":")[2] not in ("latest", service["image"])


def test_only_the_proxy_publishes_ports_and_has_a_way_out(default: dict[str, Any]) -> None:
    services, networks = default["services"], default["networks"]
    assert {name for name, service in services.items() if "ports" in service} == {"nginx"}
    ways_out = {name for name, network in networks.items() if not network.get("internal")}
    assert {name for name, one in services.items() if ways_out & set(one.get("networks", ()))} == {"nginx"}


def test_a_service_reaches_only_whom_it_has_business_with(default: dict[str, Any]) -> None:
    assert not reach(default, "nginx") & {"chromadb", "engine", "node-exporter"}
    assert reach(default, "chromadb") == {"chat", "exporter"}
    assert reach(default, "engine") == {"gateway", "prometheus", "exporter"}
    assert reach(default, "chat-prepare") == set()


def test_an_engine_that_fetches_models_has_a_way_out_of_its_own() -> None:
    made = written(engine__kind="ollama")
    assert "engine-outbound" in made["services"]["engine"]["networks"]
    assert [name for name, one in made["services"].items() if "engine-outbound" in one.get("networks", ())] == [
        "engine"
    ]


@pytest.mark.parametrize(
    ("values", "secret"),
    [
        ({"gateway__database": "postgresql://aistack@db.example/aistack"}, "gateway-database-password"),
        ({"gateway__redis": "redis://db.example"}, "gateway-redis-password"),
    ],
)
def test_a_gateway_whose_counts_are_elsewhere_has_a_way_out_and_the_password(
    values: dict[str, object], secret: str
) -> None:
    made = written(**values)
    assert "gateway-outbound" in made["services"]["gateway"]["networks"]
    assert made["services"]["gateway"]["secrets"] == ["gateway-internal-key", secret]
    assert made["secrets"][secret] == {"file": f"/srv/config/secrets/{secret}"}
    _, services = rendered({key.replace("__", "."): value for key, value in values.items()})
    files = {file.path: file.content for one in services for file in one.files}
    settings = json.loads(files["gateway/settings.json"])
    assert settings[f"{secret.split('-')[1]}_password_file"] == f"/run/secrets/{secret}"


@pytest.mark.parametrize(
    ("address", "published"),
    [("0.0.0.0", "0.0.0.0:8443:8443"), ("127.0.0.1", "127.0.0.1:8443:8443"), ("::", "8443:8443"),
     ("fd00::7", "[fd00::7]:8443:8443")],
)  # fmt: skip
def test_the_proxy_is_published_where_the_site_says(address: str, published: str) -> None:
    assert written(proxy__address=address)["services"]["nginx"]["ports"] == [published]


def test_low_ports_need_no_capability() -> None:
    nginx = written(proxy__https_port=443)["services"]["nginx"]
    assert nginx["sysctls"] == {"net.ipv4.ip_unprivileged_port_start": 0}
    assert nginx["cap_drop"] == ["ALL"]


def test_services_wait_for_the_health_of_what_they_need(default: dict[str, Any]) -> None:
    assert default["services"]["chat"]["depends_on"] == {
        "chromadb": {"condition": "service_healthy"},
        "gateway": {"condition": "service_healthy"},
        "chat-prepare": {"condition": "service_completed_successfully"},
    }


def test_each_health_check_uses_what_its_image_has(default: dict[str, Any]) -> None:
    checks = {name: one["healthcheck"]["test"] for name, one in default["services"].items() if "healthcheck" in one}
    assert {name: test[1] for name, test in checks.items()} == {
        "chromadb": "bash", "engine": "python", "prometheus": "wget", "node-exporter": "wget", "exporter": "python",
        "gateway": "python", "nginx": "curl", "chat": "curl",
    }  # fmt: skip
    assert all(test[0] == "CMD" for test in checks.values())


def test_arguments_that_stand_in_an_image_s_command_are_left_out(default: dict[str, Any]) -> None:
    assert default["services"]["chat"]["command"][:7] == [
        "python", "-m", "uvicorn", "open_webui.main:app", "--forwarded-allow-ips", "*", "--host",
    ]  # fmt: skip


def test_a_secret_reaches_the_environment_of_the_program_alone(tmp_path: Path, default: dict[str, Any]) -> None:
    """The very script of the entry point, with the folder of secrets and the program exchanged."""
    (tmp_path / "gateway-internal-key").write_text('it\'s "$HOME" `x`\n')
    for name in ("chat-session-key", "administrator-password"):
        (tmp_path / name).write_text("plain\n")
    shell, option, script, name = default["services"]["chat"]["entrypoint"]
    script = script.replace("$$", "$").replace("/run/secrets", str(tmp_path))
    done = subprocess.run(
        [shell, option, script, name, "env", "-0"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    found = dict(line.split("=", 1) for line in done.stdout.strip("\0").split("\0"))
    assert found["RAG_OLLAMA_API_KEY"] == 'it\'s "$HOME" `x`'
    assert found["OLLAMA_API_CONFIGS"] == '{"0": {"enable": true, "key": "it\'s "$HOME" `x`"}}'
    assert found["WEBUI_SECRET_KEY"] == "plain"


def test_a_missing_secret_keeps_the_program_from_starting(tmp_path: Path, default: dict[str, Any]) -> None:
    shell, option, script, name = default["services"]["chat"]["entrypoint"]
    script = script.replace("$$", "$").replace("/run/secrets", str(tmp_path))
    done = subprocess.run([shell, option, script, name, "echo", "started"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "started" not in done.stdout


def test_graphics_cards_are_given_to_the_engine_alone() -> None:
    nvidia = written("nvidia", engine__kind="ollama")["services"]
    (cards,) = nvidia["engine"]["deploy"]["resources"]["reservations"]["devices"]
    assert cards == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    amd = written("amd", engine__kind="ollama")["services"]
    assert amd["engine"]["devices"] == ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"]
    assert amd["engine"]["group_add"] == ["44", "109"]
    assert amd["engine"]["image"].endswith("-rocm")
    for services in (nvidia, amd):
        assert [name for name, one in services.items() if "devices" in one or "deploy" in one] == ["engine"]


@pytest.mark.parametrize(("wished", "found"), [("auto", True), ("none", False), ("nvidia", True)])
def test_the_site_may_leave_a_card_alone(wished: str, found: bool) -> None:
    services = written("nvidia", engine__kind="ollama", engine__gpu=wished)["services"]
    assert ("deploy" in services["engine"]) is found


def test_a_dollar_is_not_taken_for_a_variable() -> None:
    chat = written(site__name="Cash $HOME")["services"]["chat"]
    assert chat["environment"]["WEBUI_NAME"] == "Cash $$HOME"


# Settings that matter here and not to the process runtime, and whom they start anew.
EFFECTS: tuple[tuple[Mapping[str, object], set[str]], ...] = (
    ({"engine.gpu": "nvidia"}, {"engine"}),
    ({"images.aistack": "registry.example/aistack:1"}, {"gateway", "exporter"}),
    ({"images.nginx": "registry.example/nginx:1"}, {"nginx"}),
    ({"images.chat": "registry.example/chat:1"}, {"chat"}),
    ({"images.chromadb": "registry.example/chroma:1"}, {"chromadb"}),
    ({"images.prometheus": "registry.example/prometheus:1"}, {"prometheus"}),
    ({"images.node_exporter": "registry.example/node:1"}, {"node-exporter"}),
    ({"images.nginx_exporter": "registry.example/nginx-exporter:1"}, {"nginx-exporter"}),
    ({"images.ollama": "registry.example/ollama:1"}, {"engine"}),
)


@pytest.mark.parametrize(("values", "restarted"), EFFECTS, ids=lambda item: "+".join(sorted(item)))
def test_a_setting_of_containers_starts_exactly_those_anew(values: Mapping[str, object], restarted: set[str]) -> None:
    before, after = (
        {one.name: one.restart_hash for one in rendered({"engine.kind": "ollama", **more})[1]} for more in ({}, values)
    )
    assert {name for name in before if before[name] != after[name]} == restarted


def test_every_setting_of_images_is_among_them() -> None:
    shown = {key for values, _ in EFFECTS for key in values}
    assert {key.path for one in sections() for key in one.keys if key.path.startswith("images.")} == shown - {
        "engine.gpu"
    }


def test_programs_are_told_of_names_and_places_in_containers() -> None:
    _, services = rendered({})
    files = {file.path: file.content for one in services for file in one.files}
    assert not [path for path, content in files.items() if str(PATHS.data) in content]
    gateway = json.loads(files["gateway/settings.json"])
    assert gateway["internal_key_file"] == "/run/secrets/gateway-internal-key"
    assert gateway["database"] == "/var/lib/ai-stack/gateway/data/gateway.db"
    assert gateway["chat_url"] == "http://chat:3000"
    assert "server chat:3000 resolve;" in files["nginx/nginx.conf"]
