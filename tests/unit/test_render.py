import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from aistack.components import COMPONENTS, engine
from aistack.components.base import Component, ConfigFile, Health, OwnModule, Port, SecretValue, Service
from aistack.config.load import parse
from aistack.config.paths import Paths
from aistack.config.reference import sample, sections
from aistack.config.schema import Config
from aistack.hardware.facts import gather
from aistack.hardware.host import Host
from aistack.plan import make_plan
from aistack.render import RenderedService, render, seconds
from aistack.runtimes.local import LocalPlacement
from aistack.system.run import run

HOST = replace(
    gather(run, Path(__file__).parents[1] / "fixtures/hosts/laptop"),
    host_names=("lap",),
    addresses=("10.0.0.7",),
)
PATHS = Paths(Path("/srv/stack/config"), Path("/srv/stack/data"))

Services = Mapping[str, RenderedService]


def unchanging(_path: str) -> str:
    return "same"


def rendered(
    config: Config,
    digest: Callable[[str], str] = unchanging,
    host: Host = HOST,
    components: Sequence[Component] = COMPONENTS,
) -> Services:
    plan = make_plan(config, host, components)
    found = render(plan, LocalPlacement(PATHS, config, plan.services), digest)
    return {service.name: service for service in found}


@pytest.fixture(scope="module")
def before() -> Services:
    """The default stack, to compare with."""
    return rendered(Config())


def content(services: Services, service: str, path: str) -> str:
    return next(file.content for file in services[service].files if file.path == path)


def differing(before: Services, after: Services, which: str) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if getattr(before[name], which) != getattr(after[name], which)}


# Each setting, a value that is not its default, the services to start anew, and those that need a reload.
EFFECTS: tuple[tuple[Mapping[str, object], set[str], set[str]], ...] = (
    ({"site.name": "Werkstatt"}, {"chat"}, set()),
    ({"site.host_names": ["ai.example"]}, {"chat", "prometheus"}, {"nginx"}),
    ({"site.administrator": "ada@ai.example"}, {"chat"}, set()),
    ({"proxy.address": "127.0.0.1"}, {"chat", "nginx", "prometheus"}, {"nginx"}),
    ({"proxy.https_port": 9443}, {"chat", "nginx", "prometheus"}, {"nginx"}),
    ({"proxy.http_port": 8088}, {"nginx"}, {"nginx"}),
    ({"proxy.status_port": 8082}, {"nginx", "nginx-exporter", "exporter"}, {"nginx"}),
    ({"proxy.max_upload_mb": 50}, {"engine"}, {"nginx", "gateway"}),
    ({"proxy.certificate": "/c.pem", "proxy.certificate_key": "/c.key"}, {"exporter"}, {"nginx"}),
    ({"proxy.limits.api_rate": "60r/m"}, set(), {"nginx"}),
    ({"proxy.limits.api_burst": 11}, set(), {"nginx"}),
    ({"proxy.limits.chat_rate": "20r/s"}, set(), {"nginx"}),
    ({"proxy.limits.chat_burst": 21}, set(), {"nginx"}),
    ({"proxy.limits.read_rate": "60r/s"}, set(), {"nginx"}),
    ({"proxy.limits.read_burst": 501}, set(), {"nginx"}),
    ({"chat.port": 3009}, {"chat", "exporter"}, {"nginx", "gateway"}),
    ({"chat.sign_up": True}, {"chat"}, set()),
    ({"gateway.port": 8089}, {"gateway", "chat", "exporter"}, {"nginx", "prometheus", "gateway"}),
    ({"gateway.queue": 9}, set(), {"gateway"}),
    ({"gateway.truncation": "refuse"}, set(), {"gateway"}),
    ({"gateway.aliases": {"default": "demo"}}, set(), {"gateway"}),
    ({"gateway.fallbacks": {"a": "b"}}, set(), {"gateway"}),
    ({"gateway.audit.enabled": False}, set(), {"gateway"}),
    ({"gateway.audit.prompts": True}, set(), {"gateway"}),
    ({"gateway.audit.max_mb": 5}, set(), {"gateway"}),
    ({"gateway.audit.keep": 5}, set(), {"gateway"}),
    ({"gateway.database": "postgresql://aistack@db.example:5432/aistack"}, {"gateway"}, {"gateway"}),
    ({"gateway.redis": "redis://db.example:6379/0"}, {"gateway"}, {"gateway"}),
    ({"gateway.limits.roles": {"admin": {"tokens_per_day": 0}}}, set(), {"gateway"}),
    *(
        ({f"gateway.limits.{whose}.{limit}": 5}, set(), {"gateway"})
        for whose in ("keys", "people")
        for limit in ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "tokens_per_month")
    ),
    ({"engine.kind": "ollama"}, {"engine", "exporter"}, {"prometheus", "gateway"}),
    ({"engine.nodes": [{"name": "b", "kind": "ollama", "url": "http://10.0.0.6:11434"}]}, set(), {"gateway"}),
    ({"engine.port": 11435}, {"engine", "exporter"}, {"prometheus", "gateway"}),
    ({"engine.max_loaded_models": 2}, {"engine"}, set()),
    ({"engine.keep_alive": "10m"}, {"engine"}, set()),
    ({"engine.num_parallel": 2}, {"engine"}, {"gateway"}),
    ({"engine.context_length": 4096}, {"engine"}, set()),
    ({"engine.threads": 3}, {"engine"}, set()),
    ({"models.chat": "qwen3:4b"}, {"chat"}, {"gateway"}),
    ({"models.embedding": "nomic-embed-text"}, {"chat"}, {"gateway"}),
    ({"vectors.port": 8001}, {"chromadb", "chat", "exporter"}, set()),
    ({"monitoring.prometheus_port": 9099}, {"prometheus", "exporter"}, {"nginx", "prometheus"}),
    ({"monitoring.node_exporter_port": 9109}, {"node-exporter", "exporter"}, {"prometheus"}),
    ({"monitoring.nginx_exporter_port": 9114}, {"nginx-exporter", "exporter"}, {"prometheus"}),
    ({"monitoring.exporter_port": 9102}, {"exporter"}, {"prometheus"}),
    ({"monitoring.retention": "30d"}, {"prometheus"}, set()),
    ({"paths.programs": "/opt/programs"}, {"chat", "chromadb"}, set()),
    ({"paths.models": "/opt/models"}, {"engine", "exporter"}, set()),
)


@pytest.mark.parametrize(("values", "restarted", "reloaded"), EFFECTS, ids=lambda item: "+".join(sorted(item)))
def test_a_setting_touches_exactly_the_services_that_use_it(
    before: Services, values: Mapping[str, object], restarted: set[str], reloaded: set[str]
) -> None:
    after = rendered(parse(sample(values)))
    assert differing(before, after, "restart_hash") == restarted
    assert differing(before, after, "reload_hash") == reloaded


def test_no_setting_is_without_effect() -> None:
    """Left out is what matters to other runtimes."""
    shown = {key for values, restarted, reloaded in EFFECTS if restarted | reloaded for key in values}
    others = {"runtime", "paths.usual_places", "engine.gpu"}
    known = {key.path for section in sections() for key in section.keys if not key.path.startswith("images.")}
    assert shown == known - others


def test_the_same_wishes_give_the_same_hashes(before: Services) -> None:
    assert before == rendered(parse(sample({})))


def changed(ending: str) -> Callable[[str], str]:
    """A digest in whose eyes only the files that end in `ending` are not the same any more."""
    return lambda path: "new" if path.endswith(ending) else "same"


@pytest.mark.parametrize(("name", "readers"), [("server.pem", {"nginx", "exporter"}), ("server.key", {"nginx"})])
def test_a_new_certificate_only_reloads_those_who_read_it(before: Services, name: str, readers: set[str]) -> None:
    after = rendered(Config(), changed(name))
    assert differing(before, after, "restart_hash") == set()
    assert differing(before, after, "reload_hash") == readers


@pytest.mark.parametrize(
    ("secret", "users"),
    [
        ("gateway-internal-key", {"gateway", "chat"}),
        ("chat-session-key", {"chat"}),
        ("administrator-password", {"chat"}),
    ],
)
def test_a_new_secret_restarts_those_who_use_it(before: Services, secret: str, users: set[str]) -> None:
    after = rendered(Config(), changed(f"/secrets/{secret}"))
    assert differing(before, after, "restart_hash") == users
    assert differing(before, after, "reload_hash") == set()


@pytest.mark.parametrize("key", ["gateway.database", "gateway.redis"])
def test_another_address_of_what_the_gateway_keeps_open_restarts_it(key: str) -> None:
    scheme = "postgresql" if key == "gateway.database" else "redis"
    one, other = (rendered(parse(sample({key: f"{scheme}://aistack@{host}/0"}))) for host in ("a", "b"))
    assert differing(one, other, "restart_hash") == {"gateway"}


def test_more_cores_restart_the_engine_alone(before: Services) -> None:
    larger = replace(HOST, cpu=replace(HOST.cpu, cores=HOST.cpu.cores + 2))
    assert differing(before, rendered(Config(), host=larger), "restart_hash") == {"engine"}


def service(**wishes: object) -> Service:
    plain = Service("own", "Own", OwnModule("own"), (), (Port("http", 7000),), Health("/"))
    return replace(plain, **wishes)  # type: ignore[arg-type]


def own(**wishes: object) -> RenderedService:
    """A service of our own, which can see the engine."""
    return rendered(Config(), unchanging, HOST, (engine.services, lambda _: (service(**wishes),)))["own"]


@pytest.mark.parametrize(
    "wishes",
    [
        {"arguments": ("--fast",)},
        {"environment": {"A": "1"}},
        {"environment": {"A": SecretValue("key", "x {secret}")}},
        {"prepare": ("module",)},
        {"config_files": (ConfigFile("own/a.json", "{}"),)},
        {"secrets": ("key",)},
    ],
)
def test_whatever_a_program_reads_at_its_start_is_in_the_restart_hash(wishes: dict[str, object]) -> None:
    assert own().restart_hash != own(**wishes).restart_hash
    assert own().reload_hash == own(**wishes).reload_hash


def test_the_form_in_which_a_secret_is_given_is_in_the_restart_hash() -> None:
    one, other = (own(environment={"A": SecretValue("key", form)}) for form in ("{secret}", "x {secret}"))
    assert one.restart_hash != other.restart_hash


def test_what_it_reads_again_on_a_signal_is_in_the_reload_hash() -> None:
    for wishes in (
        {"config_files": (ConfigFile("own/a.conf", "x", reloadable=True),)},
        {"handed": ("certificate",)},
    ):
        assert own().reload_hash != own(**wishes).reload_hash
        assert own().restart_hash == own(**wishes).restart_hash


def test_what_has_been_loaded_is_told_by_the_proxys_health(before: Services) -> None:
    text = content(before, "nginx", "nginx/nginx.conf")
    assert f"ok, with {before['nginx'].reload_hash}" in text
    assert before["nginx"].health == f"/health#{before['nginx'].reload_hash}"
    assert before["chat"].health == "/health"


def test_templates_see_the_site_the_machine_and_the_place() -> None:
    found = own(
        arguments=("{{ config.chat.port }}", "{{ host.host_names[0] }}", "{{ public.origin }}"),
        environment={"URL": "{{ place.url('engine') }}", "KEY": SecretValue("key")},
        prepare=("own.prepare", "{{ place.state('own', 'data') }}"),
    )
    assert found.argv[-4:] == ("own", "3000", "lap", "https://lap:8443")
    assert found.environment == {"URL": "http://127.0.0.1:11434"}
    assert found.secret_environment == {"KEY": SecretValue("key")}
    assert found.prepare == ("own.prepare", "/srv/stack/data/state/own/data")


def test_a_misspelt_name_in_a_template_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="potr"):
        own(arguments=("{{ config.chat.potr }}",))


def test_no_secret_stands_in_what_is_rendered(before: Services) -> None:
    """Only names and places of secrets do: the digest is all that rendering learns of one."""
    for found in before.values():
        shown = " ".join((*found.argv, *found.environment.values(), *(file.content for file in found.files)))
        assert "{secret}" not in shown


def test_settings_files_are_json_that_says_what_the_site_said() -> None:
    services = rendered(parse('[engine]\nkeep_alive = "90s"\nthreads = 3\n[site]\nname = "A & B"'))
    engine = json.loads(content(services, "engine", "engine/settings.json"))
    assert (engine["keep_alive_s"], engine["threads"]) == (90.0, 3)
    exporter = json.loads(content(services, "exporter", "exporter/settings.json"))
    assert exporter["services"].keys() == services.keys() - {"exporter"}
    assert exporter["services"]["nginx"] == "http://127.0.0.1:8081/health"
    assert services["chat"].environment["WEBUI_NAME"] == "A & B"


def test_prometheus_scrapes_every_service_with_numbers(before: Services) -> None:
    text = content(before, "prometheus", "prometheus/prometheus.yml")
    for name, port in (("gateway", 8080), ("engine", 11434), ("prometheus", 9090), ("exporter", 9101),
                       ("node-exporter", 9100), ("nginx-exporter", 9113)):  # fmt: skip
        assert f"- job_name: {name}\n" in text
        assert f'"127.0.0.1:{port}"' in text


@pytest.mark.parametrize(
    ("duration", "expected"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("-1", -1), ("0", 0)],
)
def test_durations_are_told_in_seconds(duration: str, expected: float) -> None:
    assert seconds(duration) == pytest.approx(expected)


@pytest.mark.parametrize(("wish", "told"), [("1d", "86400s"), ("90m", "5400s"), ("500ms", "0.5s"), ("-1", "-1.0s")])
def test_ollama_is_told_durations_that_go_can_read(wish: str, told: str) -> None:
    engine = rendered(parse(sample({"engine.kind": "ollama", "engine.keep_alive": wish})))["engine"]
    assert engine.environment["OLLAMA_KEEP_ALIVE"] == told


@pytest.mark.parametrize(
    ("version", "listens", "says"), [((), " http2", False), ((1, 22, 1), " http2", False), ((1, 26, 3), "", True)]
)
def test_http2_is_said_in_the_words_of_the_nginx_that_is_there(
    version: tuple[int, ...], listens: str, says: bool
) -> None:
    plan = make_plan(Config(), HOST)
    services = render(plan, LocalPlacement(PATHS, Config(), plan.services, lambda _: version), unchanging)
    text = content({service.name: service for service in services}, "nginx", "nginx/nginx.conf")
    assert f"listen 0.0.0.0:8443 ssl{listens} default_server;" in text
    assert ("\n    http2 on;\n" in text) == says
