"""`aistack nodes` beside a running gateway: what it shows, and a node that is spared for maintenance."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from aistack.config.paths import find_paths
from aistack.errors import ServiceError, UserError
from aistack.gateway.keys import KeyStore
from aistack.operations.nodes import wait_until_idle
from aistack.operations.stack import open_stack

from .processes import Gateway, StartGateway, free_port, stop, wait_for
from .scripted import ScriptedUpstream, response

PATH = "/v1/chat/completions"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
_AISTACK = "from aistack.cli.main import main; main()"


class Site:
    """A stack whose gateway alone runs, with the nodes `local`, which is down, and `gpu2`."""

    def __init__(self, folder: Path, start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
        self.port = free_port()
        self.folder = folder
        self._start = start_gateway
        self.upstream = upstream
        self.database = folder / "data/state/gateway/data/gateway.db"
        (folder / "config").mkdir()
        (folder / "config/stack.toml").write_text(
            f"[gateway]\nport = {self.port}\n[engine]\nport = 9\n"
            f'[[engine.nodes]]\nname = "gpu2"\nkind = "openai"\nurl = "{upstream.url}"\n'
            '[[engine.nodes]]\nname = "gpu3"\nkind = "openai"\nurl = "http://127.0.0.1:9"\n'
        )
        self.gateway = self.start()

    def start(self) -> Gateway:
        nodes = [
            {"name": "local", "kind": "llamacpp", "url": "http://127.0.0.1:9"},
            {"name": "gpu2", "kind": "openai", "url": self.upstream.url, "slots": 4},
        ]
        return self._start(nodes, port=self.port, database=str(self.database))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", _AISTACK, "nodes", *command]
        environment = {**os.environ, "AISTACK_HOME": str(self.folder)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    def told(self, name: str) -> Any:
        return {node["name"]: node for node in json.loads(self.run("ls", "--json").stdout)}[name]


@pytest.fixture
def site(tmp_path: Path, start_gateway: StartGateway, upstream: ScriptedUpstream) -> Site:
    return Site(tmp_path, start_gateway, upstream)


@pytest.fixture
def headers(site: Site) -> dict[str, str]:
    store = KeyStore(site.database)
    plain, _ = store.create("laptop")
    store.close()
    return {"Authorization": f"Bearer {plain}"}


def test_the_nodes_are_listed_as_the_gateway_sees_them(site: Site) -> None:
    assert site.told("gpu2") == {
        "name": "gpu2", "kind": "openai", "url": site.upstream.url, "state": "ready", "problem": "", "slots": 4,
        "in_flight": 0, "models": ["m"], "only_here": ["m"],
    }  # fmt: skip
    down, untold = site.told("local"), site.told("gpu3")
    assert (down["state"], down["url"]) == ("down", "http://127.0.0.1:9")
    assert "does not answer" in down["problem"]
    assert (untold["state"], untold["problem"]) == ("unknown", "the gateway is told of it by `aistack up`")
    head, _, row, _ = site.run("ls").stdout.splitlines()
    assert head.split() == ["NAME", "KIND", "URL", "STATE", "SLOTS", "IN-FLIGHT", "MODELS"]
    assert row.split() == ["gpu2", "openai", site.upstream.url, "ready", "4", "0", "m"]


def test_a_node_is_drained_to_its_last_request_stays_so_over_a_restart_and_is_resumed(
    site: Site, headers: dict[str, str]
) -> None:
    release = threading.Event()
    answer = response(200, b'{"choices":[]}')
    site.upstream.answers[PATH] = [release, answer]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(site.gateway.ask, "POST", PATH, CHAT, headers)
        wait_for(lambda: bool(site.told("gpu2")["in_flight"]), "the request to reach its node")
        impatient = site.run("drain", "gpu2", "--wait", "--timeout", "0.5")
        assert impatient.returncode == 1
        assert "no other node answers for m" in impatient.stderr
        assert "gpu2 still works on 1 requests after 0.5 s" in impatient.stderr
        assert (site.told("gpu2")["state"], site.told("gpu2")["in_flight"]) == ("draining", 1)
        status, answered, body = site.gateway.ask("POST", PATH, CHAT, headers)
        assert (status, json.loads(body)["error"]["code"]) == (503, "engine_unavailable")
        assert int(answered["retry-after"]) > 0
        assert site.run("drain", "gpu2", "--timeout", "0.1").returncode == 1  # which says to wait
        patient = pool.submit(site.run, "drain", "gpu2", "--wait")
        release.set()
        assert running.result()[0] == 200
    assert patient.result().stdout.splitlines() == ["gpu2: was drained already", "gpu2: has nothing to do any more"]
    stop(site.gateway.process)
    gateway = site.start()
    assert gateway.ask("POST", PATH, CHAT, headers)[0] == 503
    assert site.run("resume", "gpu2").stdout == "gpu2: resumed\n"
    assert site.run("resume", "gpu2").stdout == "gpu2: was not drained\n"
    assert gateway.ask("POST", PATH, CHAT, headers)[0] == 200


def test_a_dry_run_changes_nothing_and_warns(site: Site) -> None:
    done = site.run("drain", "gpu2", "--dry-run")
    assert done.stdout == "gpu2: would be drained\n"
    assert "no other node answers for m" in done.stderr
    assert site.told("gpu2")["state"] == "ready"


class Waiting:
    """Somebody who waits for `gpu2`, which is drained and works on a request until `release` is set."""

    def __init__(self, site: Site, headers: dict[str, str], pool: ThreadPoolExecutor) -> None:
        self.release = threading.Event()
        site.upstream.answers[PATH] = [self.release, response(200, b'{"choices":[]}')]
        self.request = pool.submit(site.gateway.ask, "POST", PATH, CHAT, headers)
        wait_for(lambda: bool(site.told("gpu2")["in_flight"]), "the request to reach its node")
        site.run("drain", "gpu2")
        self.stack = open_stack(find_paths({"AISTACK_HOME": str(site.folder)}, os.geteuid()))
        self._pool = pool

    def begin(self, patience_s: float = 60) -> Future[None]:
        return self._pool.submit(wait_until_idle, self.stack, "gpu2", None, patience_s)


@pytest.fixture
def waiting(site: Site, headers: dict[str, str]) -> Iterator[Waiting]:
    with ThreadPoolExecutor(2) as pool:
        found = Waiting(site, headers, pool)
        yield found
        found.release.set()


def test_who_waits_for_a_node_that_somebody_resumes_is_told_so(site: Site, waiting: Waiting) -> None:
    patient = waiting.begin()
    site.run("resume", "gpu2")
    with pytest.raises(UserError, match="gpu2 is not drained any more: somebody resumed it"):
        patient.result(30)


def test_who_waits_bears_a_gateway_that_starts_anew(site: Site, waiting: Waiting) -> None:
    waiting.release.set()
    stop(site.gateway.process)
    patient = waiting.begin()
    assert not wait([patient], 0.5).done
    site.start()
    patient.result(30)


def test_who_waits_for_a_gateway_that_stays_away_is_told_so(site: Site, waiting: Waiting) -> None:
    waiting.release.set()
    stop(site.gateway.process)
    with pytest.raises(ServiceError, match="nothing listens there"):
        waiting.begin(patience_s=0.5).result(30)


def test_who_waits_for_a_gateway_that_does_not_heed_it_is_told_so(site: Site, tmp_path: Path) -> None:
    stop(site.gateway.process)
    site.database = tmp_path / "other.db"
    site.start()
    assert site.run("drain", "gpu2").stdout == "gpu2: drained\n"
    impatient = site.run("drain", "gpu2", "--timeout", "0.1")
    assert impatient.returncode == 1
    assert "gpu2 is drained, and the gateway still sends it requests" in impatient.stderr


def test_a_drained_node_that_is_not_in_stack_toml_any_more_can_be_resumed(site: Site) -> None:
    site.run("drain", "gpu3")
    file = site.folder / "config/stack.toml"
    assert site.told("gpu3")["state"] == "unknown"  # the gateway has not been told of it
    file.write_text(file.read_text().rpartition("[[engine.nodes]]")[0])
    assert site.told("gpu3")["state"] == "removed"
    assert site.run("ls").stdout.splitlines()[-1].split()[:4] == ["gpu3", "-", "-", "removed"]
    assert "there is no node 'gpu3'" in site.run("drain", "gpu3").stderr
    assert site.run("resume", "gpu3", "--dry-run").stdout == "gpu3: would be resumed\n"
    assert site.run("resume", "gpu3").stdout == "gpu3: resumed\n"
    wait_for(lambda: "gpu3" not in site.run("ls").stdout, "the gateway to forget it")
    assert "there is no node 'gpu3'" in site.run("resume", "gpu3").stderr


@pytest.mark.parametrize("command", ["drain", "resume"])
def test_a_node_that_is_none_is_refused_and_the_known_are_named(site: Site, command: str) -> None:
    done = site.run(command, "gpu9")
    assert done.returncode == 1
    assert "there is no node 'gpu9'" in done.stderr
    assert "there are: local, gpu2, gpu3" in done.stderr


def test_without_a_gateway_a_node_is_drained_all_the_same_and_the_list_says_why_it_is_none(site: Site) -> None:
    stop(site.gateway.process)
    done = site.run("drain", "gpu2")
    assert (done.returncode, done.stdout) == (0, "gpu2: drained\n")
    assert "does not answer" in done.stderr
    listed = site.run("ls")
    assert listed.returncode == 1
    assert "nothing listens there" in listed.stderr
    site.start()
    assert site.told("gpu2")["state"] == "draining"


def test_what_the_nodes_do_is_not_for_the_outside(site: Site) -> None:
    assert site.gateway.ask("GET", "/internal/nodes", headers={"X-Aistack-Edge": "1"})[0] == 403
