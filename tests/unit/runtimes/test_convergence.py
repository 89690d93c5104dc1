import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aistack.components.base import Health, InstalledProgram, Port, Service
from aistack.errors import ServiceError
from aistack.render import RenderedService
from aistack.runtimes.base import Change, Progress, Step
from aistack.runtimes.convergence import converge
from aistack.system import probe


@dataclass
class Site:
    """Real health paths on one loopback port: `/name` answers 503 `slow[name]` times after its start, then 200."""

    port: int = 0
    slow: dict[str, int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    old: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    begun: list[str] = field(default_factory=list)
    healthy: list[str] = field(default_factory=list)

    def status(self, name: str) -> int:
        if name not in self.begun or name in self.dead:
            return 503
        if self.slow.get(name, 0) > 0:
            self.slow[name] -= 1
            return 503
        self.healthy.append(name)
        return 200


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(site.status(self.path.strip("/")))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


class SmallActor:
    """Begins services by noting them; keeps what was asked of it, in order."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.asked: list[str] = []
        self.settled_ones: list[str] = []
        self.healthy_at_begin: dict[str, set[str]] = {}

    def health(self, rendered: RenderedService) -> str | None:
        return probe.ask(f"http://127.0.0.1:{self.site.port}{rendered.service.health.path}")

    def awaited(self, name: str) -> str | None:
        return "the old one still answers" if name in self.site.old else None

    def begin(self, rendered: RenderedService, change: Change) -> None:
        if rendered.name in self.site.refused:
            raise ServiceError(f"{rendered.name} ended while it was to be reloaded")
        self.asked.append(f"{change.step} {rendered.name}")
        self.healthy_at_begin[rendered.name] = set(self.site.healthy)
        self.site.begun.append(rendered.name)

    def forget(self, name: str) -> None:
        self.asked.append(f"forget {name}")

    def failure(self, name: str) -> str | None:
        return None

    def settled(self, name: str) -> None:
        self.settled_ones.append(name)

    def revert(self, rendered: RenderedService, change: Change, *, begun: bool) -> str:
        self.asked.append(f"revert {rendered.name}, {'begun' if begun else 'not begun'}")
        return "as before" if begun else ""


def wanted(
    site: Site, name: str, *after: str, talks_to: tuple[str, ...] = (), start_seconds: float = 30.0
) -> RenderedService:
    health = Health(f"/{name}", start_seconds=start_seconds)
    ports = (Port("http", site.port),)
    service = Service(name, name, InstalledProgram(name, ""), (), ports, health, after=after, talks_to=talks_to)
    return RenderedService(service, (name,), {}, {}, (), (), "", "")


def steps(services: list[RenderedService], step: Step = "start") -> list[Change]:
    return [Change(rendered.name, step, "because") for rendered in services]


def test_each_service_is_begun_when_what_it_needs_is_healthy(site: Site) -> None:
    services = [wanted(site, "engine"), wanted(site, "gateway", "engine"), wanted(site, "nginx", "gateway")]
    site.slow = {"engine": 2, "gateway": 1}
    actor = SmallActor(site)
    news: list[Progress] = []
    converge(actor, services, steps(services), news.append)
    assert actor.asked == ["start engine", "start gateway", "start nginx"]
    assert actor.healthy_at_begin["gateway"] == {"engine"}
    assert actor.healthy_at_begin["nginx"] == {"engine", "gateway"}
    assert [(item.service, item.state) for item in news] == [
        ("engine", "starting"), ("engine", "healthy"),
        ("gateway", "starting"), ("gateway", "healthy"),
        ("nginx", "starting"), ("nginx", "healthy"),
    ]  # fmt: skip


def test_services_that_need_nothing_of_each_other_start_together(site: Site) -> None:
    services = [wanted(site, "engine"), wanted(site, "chromadb")]
    site.slow = {"engine": 3, "chromadb": 3}
    actor = SmallActor(site)
    converge(actor, services, steps(services), lambda _: None)
    assert actor.healthy_at_begin == {"engine": set(), "chromadb": set()}


def test_what_must_go_goes_first(site: Site) -> None:
    services = [wanted(site, "chat")]
    actor = SmallActor(site)
    news: list[Progress] = []
    converge(actor, services, [*steps(services), Change("old", "stop", "gone")], news.append)
    assert actor.asked == ["forget old", "start chat"]
    assert news[0] == Progress("old", "stopped", "gone")


def test_a_service_that_is_kept_is_watched_but_not_announced(site: Site) -> None:
    services = [wanted(site, "engine"), wanted(site, "gateway", "engine")]
    site.slow = {"engine": 2}
    actor = SmallActor(site)
    news: list[Progress] = []
    converge(actor, services, steps(services, "keep"), news.append)
    assert {item.state for item in news} == {"healthy"}
    assert actor.healthy_at_begin["gateway"] == {"engine"}


def test_a_reload_is_announced_as_one(site: Site) -> None:
    services = [wanted(site, "nginx")]
    news: list[Progress] = []
    converge(SmallActor(site), services, steps(services, "reload"), news.append)
    assert news[0] == Progress("nginx", "reloading", "because")


def test_one_that_fails_stops_only_those_that_need_it(site: Site) -> None:
    services = [
        wanted(site, "engine", start_seconds=0.3),
        wanted(site, "gateway", "engine"),
        wanted(site, "nginx", "gateway"),
        wanted(site, "chromadb"),
    ]
    site.dead = {"engine"}
    actor = SmallActor(site)
    news: list[Progress] = []
    with pytest.raises(ServiceError) as caught:
        converge(actor, services, steps(services), news.append)
    assert "engine: it answers 503 after 0 s" in caught.value.message
    assert "gateway: it needs engine" in caught.value.message
    assert "nginx: it needs gateway" in caught.value.message
    assert "chromadb" not in caught.value.message
    assert "aistack logs engine" in caught.value.hint
    assert actor.asked == ["start engine", "start chromadb"]
    assert Progress("chromadb", "healthy") in news


@pytest.mark.parametrize("step", ["restart", "reload"])
def test_a_change_that_fails_is_taken_back_with_all_that_waited_for_it(site: Site, step: Step) -> None:
    services = [wanted(site, "gateway", start_seconds=0.3), wanted(site, "nginx", "gateway"), wanted(site, "chromadb")]
    site.dead = {"gateway"}
    actor = SmallActor(site)
    with pytest.raises(ServiceError, match=r"gateway: it answers 503 after 0 s \(as before\); nginx: it needs gateway"):
        converge(actor, services, steps(services, step), lambda _: None)
    assert actor.asked[-2:] == ["revert gateway, begun", "revert nginx, not begun"]


def test_a_first_start_that_fails_has_nothing_to_go_back_to(site: Site) -> None:
    services = [wanted(site, "engine", start_seconds=0.3)]
    site.dead = {"engine"}
    actor = SmallActor(site)
    with pytest.raises(ServiceError):
        converge(actor, services, steps(services), lambda _: None)
    assert actor.asked == ["start engine"]


def test_the_health_of_what_ran_before_is_not_taken_for_that_of_what_was_begun(site: Site) -> None:
    services = [wanted(site, "gateway", start_seconds=0.3)]
    site.old = {"gateway"}
    with pytest.raises(ServiceError, match="the old one still answers"):
        converge(SmallActor(site), services, steps(services), lambda _: None)


def test_what_is_not_among_the_wanted_is_not_waited_for(site: Site) -> None:
    services = [wanted(site, "nginx", "gateway")]
    converge(SmallActor(site), services, steps(services, "restart"), lambda _: None)


def test_a_step_that_cannot_be_begun_fails_that_service_and_reverts_it(site: Site) -> None:
    services = [wanted(site, "chat"), wanted(site, "nginx")]
    site.refused = {"nginx"}
    actor = SmallActor(site)
    with pytest.raises(ServiceError, match="nginx: nginx ended while it was to be reloaded"):
        converge(actor, services, steps(services, "reload"), lambda _: None)
    assert actor.settled_ones == ["chat"]
    assert "revert nginx, begun" in actor.asked
    assert "revert chat, begun" not in actor.asked


@pytest.mark.parametrize("failing", ["gateway", "chat"])
def test_what_changed_together_with_one_that_fails_is_taken_back_too(site: Site, failing: str) -> None:
    services = [
        wanted(site, "gateway", start_seconds=0.3),
        wanted(site, "chat", talks_to=("gateway",), start_seconds=0.3),
        wanted(site, "nginx", talks_to=("chat",)),
        wanted(site, "chromadb"),
    ]
    site.dead = {failing}
    actor = SmallActor(site)
    with pytest.raises(ServiceError, match=r"nginx: it changed together with these \(as before\)"):
        converge(actor, services, steps(services, "restart"), lambda _: None)
    assert actor.asked[-3:] == ["revert gateway, begun", "revert chat, begun", "revert nginx, begun"]
    assert actor.settled_ones == ["chromadb"]


def test_one_that_did_not_change_and_fails_takes_nothing_back(site: Site) -> None:
    services = [wanted(site, "exporter", start_seconds=0.3), wanted(site, "prometheus", talks_to=("exporter",))]
    site.dead = {"exporter"}
    actor = SmallActor(site)
    with pytest.raises(ServiceError, match=r"^not everything came up: exporter: it answers 503 after 0 s$"):
        converge(actor, services, [*steps(services[:1], "keep"), *steps(services[1:], "restart")], lambda _: None)
    assert "prometheus" in actor.settled_ones
