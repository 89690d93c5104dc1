import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from aistack.config.load import parse
from aistack.config.paths import Paths
from aistack.config.reference import sample
from aistack.hardware.facts import gather
from aistack.plan import make_plan
from aistack.render import RenderedService, render
from aistack.runtimes.systemd import units
from aistack.runtimes.systemd.placement import SystemdPlacement
from aistack.system.run import run

PATHS = Paths(Path("/etc/ai-stack"), Path("/var/lib/ai-stack"))
HOST = gather(run, Path(__file__).parents[2] / "fixtures/hosts/laptop")


def stack(
    values: Mapping[str, object] | None = None, gpu: str = ""
) -> tuple[SystemdPlacement, dict[str, RenderedService]]:
    plan = make_plan(parse(sample(values or {})), HOST)
    place = SystemdPlacement(PATHS, plan.config, plan.services, gpu=gpu)
    return place, {item.name: item for item in render(plan, place, lambda _path: "same")}


def unit(name: str, values: Mapping[str, object] | None = None, *, gpu: str = "", version: int = 252) -> list[str]:
    place, services = stack(values, gpu)
    return units.unit(services[name], place, version).splitlines()


def setting(lines: list[str], name: str) -> list[str]:
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def test_a_unit_tells_what_it_was_written_for() -> None:
    place, services = stack()
    told = units.told(units.unit(services["gateway"], place, 252))
    assert told == units.Told(
        "http://127.0.0.1:8080/health/live", services["gateway"].restart_hash, services["gateway"].reload_hash
    )
    assert units.told("[Unit]\nDescription=somebody else's\n") is None


def test_a_service_starts_after_what_it_needs_is_ready() -> None:
    lines = unit("chat")
    assert setting(lines, "After") == ["network.target ai-stack-chromadb.service ai-stack-gateway.service"]
    (gate,) = setting(lines, "ExecStartPost")
    assert gate.endswith("aistack.runtimes.systemd.ready http://127.0.0.1:3000/health 180")


def test_secrets_are_named_and_never_written() -> None:
    lines = unit("chat")
    assert "chat-session-key:/etc/ai-stack/secrets/chat-session-key" in setting(lines, "LoadCredential")
    (start,) = setting(lines, "ExecStart")
    words = shlex.split(start)
    form = words[words.index("OLLAMA_API_CONFIGS") + 2]
    assert form == '{"0": {"enable": true, "key": "{secret}"}}'


def test_only_the_proxy_and_ollama_may_connect_beyond_loopback() -> None:
    place, services = stack()
    free = {
        name
        for name, item in services.items()
        if not setting(units.unit(item, place, 252).splitlines(), "IPAddressDeny")
    }
    assert free == {"nginx"}
    assert not setting(unit("engine", {"engine.kind": "ollama"}), "IPAddressDeny")


@pytest.mark.parametrize(
    ("setting_of_it", "url", "secret"),
    [
        ("gateway.database", "postgresql://aistack@db.example/aistack", "gateway-database-password"),
        ("gateway.redis", "redis://db.example", "gateway-redis-password"),
    ],
)
def test_a_gateway_whose_counts_are_elsewhere_may_connect_there_and_has_the_password(
    setting_of_it: str, url: str, secret: str
) -> None:
    lines = unit("gateway", {setting_of_it: url})
    assert not setting(lines, "IPAddressDeny")
    assert f"{secret}:/etc/ai-stack/secrets/{secret}" in setting(lines, "LoadCredential")
    assert setting(unit("gateway"), "LoadCredential") == [
        "gateway-internal-key:/etc/ai-stack/secrets/gateway-internal-key"
    ]


@pytest.mark.parametrize(("port", "capability"), [(8443, ""), (443, "CAP_NET_BIND_SERVICE")])
def test_a_capability_is_given_for_low_ports_alone(port: int, capability: str) -> None:
    lines = unit("nginx", {"proxy.https_port": port})
    assert setting(lines, "CapabilityBoundingSet") == [capability]
    assert setting(lines, "AmbientCapabilities") == [capability]


def test_cards_are_for_the_service_that_computes_on_them() -> None:
    ollama = {"engine.kind": "ollama"}
    assert setting(unit("engine", ollama, gpu="nvidia"), "DeviceAllow") == [
        "char-nvidia rw", "char-nvidia-uvm rw", "char-nvidia-caps rw",
    ]  # fmt: skip
    assert setting(unit("engine", ollama, gpu="amd"), "DeviceAllow") == ["char-kfd rw", "char-drm rw"]
    assert setting(unit("engine", ollama, gpu="amd"), "SupplementaryGroups") == ["render video"]
    for lines in (unit("engine", ollama), unit("engine", gpu="nvidia"), unit("chat", ollama, gpu="nvidia")):
        assert setting(lines, "PrivateDevices") == ["yes"]
        assert not setting(lines, "DeviceAllow")


def test_data_lie_in_usual_places_unless_the_site_has_its_own_there() -> None:
    assert setting(unit("chat"), "StateDirectory") == ["open-webui"]
    assert setting(unit("gateway"), "StateDirectory") == ["ai-stack/state/gateway/data ai-stack/state/gateway/audit"]
    assert setting(unit("chat", {"paths.usual_places": False}), "StateDirectory") == ["ai-stack/state/chat/data"]


def test_waits_grow_where_systemd_knows_how() -> None:
    assert not setting(unit("chat", version=252), "RestartSteps")
    assert setting(unit("chat", version=254), "RestartMaxDelaySec") == ["30"]


def test_a_word_of_any_kind_reaches_the_program_as_it_is() -> None:
    place, services = stack()
    odd = replace(services["exporter"], argv=("/bin/x", 'a "b" $HOME %n', "back\\slash", ""))
    (start,) = setting(units.unit(odd, place, 252).splitlines(), "ExecStart")
    # As systemd reads it: quotes and backslashes, then $$ and %%.
    words = [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(start)]
    assert words == list(odd.argv)


def test_every_service_has_a_user_and_a_place_in_the_target() -> None:
    _, services = stack()
    for name in services:
        assert f'u ai-stack-{name} - "aistack {name}"' in units.users(list(services.values()))
        assert f"ai-stack-{name}.service" in units.target(list(services.values()))


def test_files_that_root_keeps_are_found_by_the_names_that_services_have_for_them() -> None:
    place, _ = stack()
    assert (
        place.original("/run/credentials/ai-stack-chat.service/chat-session-key") == PATHS.secrets / "chat-session-key"
    )
    assert place.original("/run/ai-stack-nginx/certificate_key.pem") == PATHS.tls / "server.key"
    assert place.original("/etc/hosts") == Path("/etc/hosts")
