from dataclasses import replace
from pathlib import Path

import pytest

from aistack.components.base import Component, Health, InstalledProgram, Port, SecretValue, Service
from aistack.config.load import parse
from aistack.config.schema import Config
from aistack.errors import ConfigError
from aistack.hardware.facts import gather
from aistack.hardware.host import Host
from aistack.plan import make_plan, public_names
from aistack.system.run import run

LAPTOP = Path(__file__).parents[1] / "fixtures/hosts/laptop"


@pytest.fixture(scope="module")
def host() -> Host:
    return replace(gather(run, LAPTOP), host_names=("lap", "lap.local"), addresses=("10.0.0.7", "fd00::7"))


def service(name: str, *after: str) -> Service:
    return Service(name, name.title(), InstalledProgram(name, ""), (), (Port("http", 1),), Health("/"), after=after)


def component(*services: Service) -> Component:
    return lambda _config: services


def test_the_default_stack_holds_every_program(host: Host) -> None:
    assert {service.name for service in make_plan(Config(), host).services} == {
        "nginx", "chat", "gateway", "engine", "chromadb", "prometheus", "node-exporter", "nginx-exporter", "exporter",
    }  # fmt: skip


def test_a_service_stands_behind_all_that_it_waits_for(host: Host) -> None:
    plan = make_plan(Config(), host)
    before: set[str] = set()
    for service in plan.services:
        assert before.issuperset(service.after), service.name
        before.add(service.name)


def test_the_order_does_not_depend_on_the_order_of_components(host: Host) -> None:
    last, middle, first = service("last", "middle"), service("middle", "first"), service("first")
    plan = make_plan(Config(), host, (component(last), component(first, middle)))
    assert [service.name for service in plan.services] == ["first", "middle", "last"]


def test_services_that_wait_for_each_other_are_refused(host: Host) -> None:
    with pytest.raises(ConfigError, match="wait for each other"):
        make_plan(Config(), host, (component(service("a", "b"), service("b", "a")),))


def test_waiting_for_a_service_that_is_not_there_is_refused(host: Host) -> None:
    with pytest.raises(ConfigError, match="a waits for b"):
        make_plan(Config(), host, (component(service("a", "b")),))


def test_two_services_of_one_name_are_refused(host: Host) -> None:
    with pytest.raises(ConfigError, match="two components"):
        make_plan(Config(), host, (component(service("a")), component(service("a"))))


def test_a_component_may_have_nothing_to_run(host: Host) -> None:
    assert make_plan(Config(), host, (component(), component(service("a")))).services == (service("a"),)


def test_an_unknown_service_is_answered_with_those_there_are(host: Host) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(Config(), host).service("webui")
    assert "chat, chromadb, engine" in caught.value.hint


def test_every_port_of_the_default_stack_is_used_once(host: Host) -> None:
    ports = [port.number for service in make_plan(Config(), host).services for port in service.ports]
    assert len(set(ports)) == len(ports)


def test_only_the_proxy_is_public(host: Host) -> None:
    plan = make_plan(parse("[proxy]\nhttp_port = 8088"), host)
    public = [(service.name, port.number) for service in plan.services for port in service.ports if port.public]
    assert public == [("nginx", 8443), ("nginx", 8088)]


def test_secrets_of_files_and_environments_are_named_once(host: Host) -> None:
    one = replace(service("a"), secrets=("x",), environment={"Y": SecretValue("y"), "X": SecretValue("x")})
    plan = make_plan(Config(), host, (component(one, replace(service("b"), secrets=("y",))),))
    assert plan.secret_names == ("x", "y")


def test_without_names_of_the_site_those_of_the_machine_serve(host: Host) -> None:
    public = public_names(Config(), host)
    assert public.names == ("lap", "lap.local", "localhost")
    assert public.addresses == ("10.0.0.7", "fd00::7", "127.0.0.1", "::1")
    assert public.origin == "https://lap:8443"
    assert "https://[fd00::7]:8443" in public.origins
    assert "[fd00::7]" in public.server_names


def test_the_sites_names_replace_the_machines_and_localhost_stays(host: Host) -> None:
    public = public_names(parse('[site]\nhost_names = ["ai.example", "192.0.2.1"]'), host)
    assert public.names == ("ai.example", "localhost")
    assert public.addresses == ("192.0.2.1", "127.0.0.1", "::1")
    assert public.origin == "https://ai.example:8443"


def test_an_address_may_be_the_sites_first_name(host: Host) -> None:
    assert public_names(parse('[site]\nhost_names = ["fd00::1"]'), host).origin == "https://[fd00::1]:8443"


def test_the_standard_port_is_not_written(host: Host) -> None:
    public = public_names(parse("[proxy]\nhttps_port = 443"), host)
    assert (public.origin, public.port_suffix) == ("https://lap", "")


def test_a_machine_without_a_name_is_localhost(host: Host) -> None:
    assert public_names(Config(), replace(host, host_names=(), addresses=())).origin == "https://localhost:8443"


@pytest.mark.parametrize(
    ("settings", "origin", "local"),
    [
        ("", "https://lap:8443", "https://localhost:8443"),
        ('[proxy]\naddress = "::"', "https://lap:8443", "https://localhost:8443"),
        ('[proxy]\naddress = "127.0.0.1"', "https://localhost:8443", "https://localhost:8443"),
        ('[proxy]\naddress = "10.0.0.8"', "https://10.0.0.8:8443", "https://10.0.0.8:8443"),
        ('[proxy]\naddress = "fd00::8"', "https://[fd00::8]:8443", "https://[fd00::8]:8443"),
        ('[proxy]\naddress = "10.0.0.8"\n[site]\nhost_names = ["ai.example"]',
         "https://ai.example:8443", "https://10.0.0.8:8443"),
    ],
)  # fmt: skip
def test_the_printed_addresses_lead_to_where_the_proxy_listens(
    host: Host, settings: str, origin: str, local: str
) -> None:
    public = public_names(parse(settings), host)
    assert (public.origin, public.local) == (origin, local)
    assert public.local in public.origins
