"""The everyday commands on a stack that is up: what they change, and above all what they leave alone."""

import contextlib
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from stacks import RealStack

from databases import PASSWORD, running_postgres

_EVERYTHING = {
    "chromadb", "engine", "prometheus", "node-exporter", "exporter", "gateway", "nginx", "chat", "nginx-exporter",
}  # fmt: skip


def _pids(stack: RealStack) -> dict[str, int]:
    return {name: item["pid"] for name, item in stack.status().items()}


def _steps(stack: RealStack) -> dict[str, str]:
    """What `aistack diff` says that `up` would do: service -> step."""
    return {change["service"]: change["step"] for change in json.loads(stack.run("diff", "--json").stdout)["changes"]}


def _files(stack: RealStack) -> dict[str, int]:
    """Every file that aistack itself writes, with the time of its last change."""
    roots = (stack.home / "config", stack.home / "data" / "generated", stack.home / "data" / "run" / "services")
    return {str(path): path.stat().st_mtime_ns for root in roots for path in root.rglob("*") if path.is_file()}


def _models(stack: RealStack, key: str) -> list[str]:
    """The models that a client with `key` sees."""
    request = urllib.request.Request(f"{stack.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=stack.ca), timeout=20) as answer:
        return [item["id"] for item in json.load(answer)["data"]]


def _change(stack: RealStack, changed: Mapping[str, object]) -> None:
    stack.settings.update(changed)
    stack.write()


def _restore(stack: RealStack, settings: dict[str, object]) -> None:
    stack.settings = settings
    stack.write()


def test_everything_is_healthy_after_up(tended: RealStack) -> None:
    found = tended.status()
    assert set(found) == _EVERYTHING
    assert all(item["healthy"] and item["state"] == "running" and item["pid"] for item in found.values())
    assert tended.run("status").returncode == 0


def test_up_a_second_time_changes_nothing(tended: RealStack, record_property: Callable[[str, object], None]) -> None:
    pids, files = _pids(tended), _files(tended)
    start = time.monotonic()
    done = tended.run("up", "--yes")
    took = time.monotonic() - start
    record_property("second up, seconds", round(took, 2))
    print(f"second up: {took:.2f} s")
    assert "nothing had to change" in done.stdout
    assert _pids(tended) == pids
    assert _files(tended) == files


def test_diff_is_empty_after_up(tended: RealStack) -> None:
    assert json.loads(tended.run("diff", "--json").stdout) == {"programs": [], "changes": [], "files": []}
    done = tended.run("diff")
    assert done.stdout == ""
    assert "nothing to do" in done.stderr


_CHANGES = [
    ({"proxy.limits.api_rate": "900r/s"}, {"nginx": "reload"}),
    ({"monitoring.retention": "3d"}, {"prometheus": "restart"}),
    ({"engine.keep_alive": "7m"}, {"engine": "restart"}),
    ({"chat.sign_up": True}, {"chat": "restart"}),
]


@pytest.mark.parametrize(("changed", "steps"), _CHANGES, ids=lambda value: next(iter(value)))
def test_a_changed_setting_touches_only_the_services_that_read_it(
    tended: RealStack, changed: dict[str, object], steps: dict[str, str]
) -> None:
    pids, files = _pids(tended), _files(tended)
    workers = tended.descendants("nginx")
    _change(tended, changed)
    assert _steps(tended) == steps
    assert {item.split()[0] for item in tended.run("up", "--dry-run").stdout.splitlines()[1:2]} == set(steps)
    assert {path: time for path, time in _files(tended).items() if not path.endswith("stack.toml")} == {
        path: time for path, time in files.items() if not path.endswith("stack.toml")
    }
    tended.run("up", "--yes")
    found = tended.status()
    now = {name: item["pid"] for name, item in found.items()}
    assert {name for name in pids if now[name] != pids[name]} == {n for n, step in steps.items() if step == "restart"}
    if "reload" in steps.values():
        assert tended.descendants("nginx") != workers
    assert all(item["healthy"] for item in found.values())
    assert _steps(tended) == {}


def test_diff_names_everything_that_depends_on_a_port(tended: RealStack) -> None:
    before = dict(tended.settings)
    _change(tended, {"gateway.port": int(str(before["gateway.port"])) ^ 1})
    steps = _steps(tended)
    _restore(tended, before)
    assert steps["gateway"] == "restart"
    assert steps["chat"] == "restart"
    assert steps["nginx"] == "reload"
    assert steps["prometheus"] == "reload"
    assert set(steps) <= {"gateway", "chat", "nginx", "prometheus", "exporter"}
    assert _steps(tended) == {}


def test_a_configuration_that_its_program_refuses_changes_nothing(tended: RealStack) -> None:
    before, pids = dict(tended.settings), _pids(tended)
    broken = tended.put("broken.pem", "no certificate\n")
    _change(tended, {"proxy.certificate": broken, "proxy.certificate_key": broken})
    done = tended.run("up", "--yes", status=1)
    _restore(tended, before)
    assert "nginx" in done.stderr
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert _pids(tended) == pids
    assert _steps(tended) == {}


def test_a_setting_with_which_a_service_cannot_run_is_taken_back(tended: RealStack) -> None:
    before = tended.settings.get("monitoring.retention", "15d")
    tended.settings["monitoring.retention"] = "99999y"  # more than Prometheus can count
    tended.write()
    try:
        told = tended.run("up", status=1).stderr
        assert "prometheus" in told
        assert "it runs with its old settings again" in told
        assert not any(item["problem"] for item in tended.status().values())
        assert set(_steps(tended)) == {"prometheus"}
    finally:
        tended.settings["monitoring.retention"] = before
        tended.write()
    assert "nothing had to change" in tended.run("up").stdout


def test_what_changed_together_with_one_that_cannot_run_is_taken_back_with_it(tended: RealStack) -> None:
    before, key = dict(tended.settings), tended.key("cautious")
    # A gateway on another port is of no use to a Prometheus, a proxy and a chat that ask at the old one.
    changed = {"monitoring.retention": "99999y", "gateway.port": int(str(before["gateway.port"])) ^ 1}
    _change(tended, changed)
    steps = _steps(tended)
    told = tended.run("up", status=1).stderr
    assert "gateway: it changed together with these (it runs with its old settings again)" in told
    assert not any(item["problem"] for item in tended.status().values())
    assert _steps(tended) == steps
    assert "demo" in _models(tended, key)
    _restore(tended, before)
    assert "nothing had to change" in tended.run("up").stdout


def test_a_reload_that_the_program_refuses_is_told_and_taken_back(tended: RealStack) -> None:
    # `nginx -t` finds nothing wrong with it: only a running nginx knows that the zone counts something else by now.
    configuration = tended.home / "data" / "generated" / "nginx" / "nginx.conf"
    text = configuration.read_text()
    other = text.replace("limit_req_zone $api_client ", "limit_req_zone $chat_client ")
    assert other != text
    configuration.write_text(other)
    tended.run("restart", "nginx")
    before, pids = dict(tended.settings), _pids(tended)
    _change(tended, {"proxy.limits.read_burst": 999})
    told = tended.run("up", status=1).stderr
    assert "nginx: it has not loaded what it was last given" in told
    assert "it runs with its old settings again" in told
    assert _pids(tended) == pids
    assert _steps(tended) == {"nginx": "reload"}
    _restore(tended, before)
    configuration.write_text(text)
    tended.run("restart", "nginx")
    assert "nothing had to change" in tended.run("up").stdout


def test_restart_restarts_what_is_named_and_nothing_else(tended: RealStack) -> None:
    pids = _pids(tended)
    assert "would be restarted" in tended.run("restart", "node-exporter", "--dry-run").stdout
    assert _pids(tended) == pids
    tended.run("restart", "node-exporter", "engine")
    now = _pids(tended)
    assert {name for name in pids if now[name] != pids[name]} == {"node-exporter", "engine"}
    assert all(item["healthy"] for item in tended.status().values())


def test_restart_of_an_unknown_service_names_those_there_are(tended: RealStack) -> None:
    done = tended.run("restart", "ngnix", status=1)
    assert "ngnix" in done.stderr
    assert "nginx" in done.stderr.replace("ngnix", "")
    assert "Traceback" not in done.stderr


def test_status_exits_with_3_when_a_service_is_down(tended: RealStack) -> None:
    tended.signal("node-exporter", "STOP")
    try:
        done = tended.run("status", status=3)
        found = tended.status()
    finally:
        tended.signal("node-exporter", "CONT")
    assert re.search(r"node-exporter +not answering", done.stdout)
    assert not found["node-exporter"]["healthy"]
    assert found["node-exporter"]["problem"]
    assert tended.run("status").returncode == 0


def test_logs_shows_the_last_lines(tended: RealStack) -> None:
    key, shown, deadline = tended.key("logged"), [""], time.monotonic() + 20
    while "/v1/models" not in shown[-1]:
        assert time.monotonic() < deadline, shown
        _models(tended, key)
        shown = tended.run("logs", "gateway", "-n", "3").stdout.splitlines()
    assert len(shown) == 3
    assert "nginx" in tended.run("logs", "ngnix", status=1).stderr


def test_logs_follow_shows_what_is_written_from_now_on(tended: RealStack) -> None:
    key = tended.key("watched")
    command = ("logs", "gateway", "-f", "-n", "0")
    with tended.start(*command) as following:
        assert following.stdout is not None
        output = following.stdout.fileno()
        try:
            # The first lines may come before the command has opened the log.
            os.set_blocking(output, False)
            deadline, seen = time.monotonic() + 20, b""
            while b"/v1/models" not in seen and time.monotonic() < deadline:
                _models(tended, key)
                with contextlib.suppress(BlockingIOError):
                    seen += os.read(output, 65536)
        finally:
            tended.interrupt(following, *command)
            following.wait(20)
    assert b"/v1/models" in seen
    assert following.returncode == 130


def test_doctor_finds_nothing_wrong_with_a_stack_that_is_up(tended: RealStack) -> None:
    findings = json.loads(tended.run("doctor", "--json", status=None).stdout)
    problems = [item for item in findings if item["severity"] == "problem"]
    # How much memory or disk the machine has is not the stack's doing.
    assert [item for item in problems if item["check"] not in ("memory", "disk", "processor")] == []
    assert {"ports", "programs", "services", "certificate", "secrets"} <= {item["check"] for item in findings}
    told = tended.run("doctor", status=1 if problems else 0).stdout.splitlines()[-1]
    assert told.startswith(f"{len(problems)} problem" if problems else "no problems, ")


def test_doctor_finds_a_service_that_does_not_answer(tended: RealStack) -> None:
    tended.signal("node-exporter", "STOP")
    try:
        findings = json.loads(tended.run("doctor", "--json", status=1).stdout)
    finally:
        tended.signal("node-exporter", "CONT")
    found = [item for item in findings if item["severity"] == "problem" and item["check"] == "services"]
    assert "node-exporter" in found[0]["message"]
    assert found[0]["cure"]


def test_ca_prints_the_root_certificate_that_signs_for_the_site(tended: RealStack, tmp_path: Path) -> None:
    text = tended.run("ca").stdout
    root = x509.load_pem_x509_certificate(text.encode())
    assert root.subject == root.issuer
    file = tmp_path / "ca.pem"
    file.write_text(text)
    with urllib.request.urlopen(
        f"{tended.url}/health", context=ssl.create_default_context(cafile=file), timeout=20
    ) as answer:
        assert answer.status == 200


def test_a_key_works_from_its_creation_until_it_is_revoked(tended: RealStack) -> None:
    created = json.loads(tended.run("keys", "create", "short-lived", "--owner", "Uma", "--json").stdout)
    assert "demo" in _models(tended, created["key"])
    listed = json.loads(tended.run("keys", "ls", "--json").stdout)
    assert [item["owner"] for item in listed if item["name"] == "short-lived"] == ["Uma"]
    assert created["key"] not in json.dumps(listed)
    tended.run("keys", "revoke", "short-lived")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        _models(tended, created["key"])
    listed = json.loads(tended.run("keys", "ls", "--json").stdout)
    assert [bool(item["revoked"]) for item in listed if item["name"] == "short-lived"] == [True]
    assert "short-lived" in tended.run("keys", "revoke", "short-lived", status=1).stderr


def test_keys_are_managed_through_the_proxy_with_a_key_for_that(tended: RealStack) -> None:
    admin = json.loads(tended.run("keys", "create", "root", "--scope", "admin", "--json").stdout)["key"]
    trust = ssl.create_default_context(cafile=tended.ca)

    def ask(method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {admin}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{tended.url}/v1/admin/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
            return json.load(answer)

    made = ask("POST", "keys", {"name": "laptop"})
    assert "demo" in _models(tended, made["key"])
    assert ask("PATCH", f"keys/{made['id']}", {"models": ["all-minilm"]})["models"] == ["all-minilm"]
    assert _models(tended, made["key"]) == ["all-minilm"]
    assert ask("DELETE", "keys/laptop")["revoked"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        _models(tended, made["key"])
    tended.run("keys", "revoke", "root")


def test_a_node_is_drained_and_resumed(tended: RealStack) -> None:
    def state() -> str:
        (node,) = json.loads(tended.run("nodes", "ls", "--json").stdout)
        assert "demo" in node["models"]
        return str(node["state"])

    key = tended.key("nodes")
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    assert state() == "ready"
    assert "demo" in tended.run("nodes", "drain", "local", "--wait", "--timeout", "60").stderr
    assert state() == "draining"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        tended.ask("/v1/chat/completions", key, body)
    tended.run("nodes", "resume", "local")
    assert tended.ask("/v1/chat/completions", key, body)["choices"]
    tended.run("keys", "revoke", "nodes")


def test_an_imported_model_is_served_until_it_is_removed(tended: RealStack) -> None:
    key = tended.key("models")
    demo = next(item for item in json.loads(tended.run("models", "ls", "--json").stdout) if item["name"] == "demo")
    tended.run("models", "import", demo["path"], "house/parrot:tiny")
    assert "house/parrot:tiny" in tended.run("models", "ls").stdout
    _until_listed(tended, key, "house/parrot:tiny", True)
    tended.run("models", "rm", "house/parrot:tiny")
    assert "house/parrot:tiny" not in tended.run("models", "ls").stdout
    _until_listed(tended, key, "house/parrot:tiny", False)
    assert "house/parrot:tiny" in tended.run("models", "rm", "house/parrot:tiny", status=1).stderr


def _until_listed(stack: RealStack, key: str, model: str, there: bool) -> None:
    deadline = time.monotonic() + 20
    while (model in _models(stack, key)) is not there:
        assert time.monotonic() < deadline, f"{model} listed: {not there}"


def test_what_is_no_model_is_not_imported(tended: RealStack) -> None:
    file = tended.put("letter.gguf", "Dear Sir or Madam\n" * 100)
    done = tended.run("models", "import", file, status=1)
    assert "GGUF" in done.stderr
    assert "Traceback" not in done.stderr
    assert "letter" not in tended.run("models", "ls").stdout


def test_keys_and_usage_live_in_a_postgresql_elsewhere_and_in_a_file_again(tended: RealStack, outside: str) -> None:
    before = dict(tended.settings)
    in_file = tended.key("in the file")
    secret = tended.home / "config" / "secrets" / "gateway-database-password"
    secret.touch(0o600)
    secret.write_text(f"{PASSWORD}\n")
    with running_postgres(outside) as server:
        _change(tended, {"gateway.database": server.new("aistack")})
        assert _steps(tended) == {"gateway": "restart"}
        tended.run("up", "--yes")
        assert tended.status()["gateway"]["healthy"]
        elsewhere = tended.key("elsewhere")
        counts = _until_let_in(tended, elsewhere)
        assert not _let_in(tended, in_file)
        wanted = ("elsewhere", 1, counts["prompt_tokens"], counts["completion_tokens"])
        _until(lambda: wanted in _used(tended), "the usage")
        server.stop()
        assert _let_in(tended, elsewhere)
        assert "cannot use the gateway's database" in tended.run("keys", "ls", status=1).stderr
        server.start()
        _restore(tended, before)
        tended.run("up", "--yes")
    _until_let_in(tended, in_file)
    assert not _let_in(tended, elsewhere)
    tended.run("keys", "revoke", "in the file")
    assert _steps(tended) == {}


def _let_in(stack: RealStack, key: str) -> dict[str, int] | None:
    """The counts of a chat with that key; None when it is no key."""
    question = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    try:
        counts: dict[str, int] = stack.ask("/v1/chat/completions", key, question)["usage"]
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        return None
    return counts


def _until_let_in(stack: RealStack, key: str) -> dict[str, int]:
    found: list[dict[str, int]] = []

    def there() -> bool:
        try:
            found[:] = filter(None, [_let_in(stack, key)])
        except urllib.error.HTTPError as error:
            if error.code != 503:  # the gateway was replaced, and the proxy has not found the new one yet
                raise
        return bool(found)

    _until(there, "the key")
    return found[0]


def _used(stack: RealStack) -> set[tuple[object, ...]]:
    """What `aistack usage` tells by key: name, requests, tokens read and written."""
    lines = json.loads(stack.run("usage", "--by", "key", "--json").stdout)
    return {tuple(line[name] for name in ("name", "requests", "prompt_tokens", "completion_tokens")) for line in lines}


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(tended: RealStack, shell: str) -> None:
    assert "aistack" in tended.run("completion", shell).stdout


def test_the_shell_is_offered_the_services(tended: RealStack) -> None:
    typed = ("_AISTACK_COMPLETE=bash_complete", "COMP_WORDS=aistack restart ", "COMP_CWORD=2")
    offered = tended.there("env", *typed, tended.aistack, status=None).stdout
    assert {line.partition(",")[2] for line in offered.splitlines()} >= _EVERYTHING


def test_down_dry_run_stops_nothing(tended: RealStack) -> None:
    pids = _pids(tended)
    done = tended.run("down", "--dry-run")
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} == _EVERYTHING
    assert _pids(tended) == pids
