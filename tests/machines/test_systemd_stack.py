"""The whole stack on systemd, installed in a machine from this checkout as an administrator would."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import Engine, wait_for
from images import local_package_folders, systemd_image
from machine import Machine, booted

REPOSITORY = Path(__file__).parents[2]
AISTACK = "/root/aistack/.venv/bin/aistack"
TOML = "/etc/ai-stack/stack.toml"
UNITS = (
    "chat", "chromadb", "engine", "exporter", "gateway", "nginx", "nginx-exporter", "node-exporter", "prometheus",
)  # fmt: skip
SETTINGS = 'runtime = "systemd"\n[models]\nchat = "demo"\n[proxy.limits]\napi_rate = "1000r/s"\napi_burst = 1000\n'


class Site:
    """The stack on a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def aistack(self, *arguments: str, status: int | None = 0, timeout: int = 300) -> str:
        """What `aistack` prints, on both streams."""
        done = self.machine.run(AISTACK, *arguments, status=status, timeout=timeout)
        return done.stdout + done.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        """`aistack status --json`, by service."""
        found = json.loads(self.machine.run(AISTACK, "status", "--json", status=None).stdout)
        return {item["service"]: item for item in found}

    def pids(self) -> dict[str, int]:
        """The main process of each service."""
        return {name: item["pid"] for name, item in self.status().items()}

    def well(self) -> bool:
        """Whether every service answers."""
        return all(item["healthy"] and not item["problem"] for item in self.status().values())

    def set(self, old: str, new: str) -> None:
        """Change stack.toml."""
        text = self.machine.run("cat", TOML).stdout
        assert old in text
        self.machine.write(TOML, text.replace(old, new))

    def ask(self, path: str, key: str, body: object = None) -> tuple[int, str]:
        """A request through nginx over TLS, as curl in the machine makes it: status and body."""
        send = ["--json", json.dumps(body)] if body is not None else []
        done = self.machine.run(
            "curl", "--silent", "--cacert", "/etc/ai-stack/tls/root.pem", "--write-out", "\n%{http_code}", *send,
            "--header", f"Authorization: Bearer {key}", f"https://localhost:8443{path}", status=None,
        )  # fmt: skip
        answer, _, code = done.stdout.rpartition("\n")
        return int(code), answer


@pytest.fixture(scope="module")
def site(engine: Engine) -> Iterator[Site]:
    """The stack, brought up by `make up` with `runtime = "systemd"`."""
    with booted(engine, systemd_image(engine), "aistack-site", folders=local_package_folders()) as machine:
        machine.copy_checkout(REPOSITORY, "/root/aistack")
        machine.run("mkdir", "--parents", "/etc/ai-stack")
        machine.write(TOML, SETTINGS)
        machine.run("make", "-C", "/root/aistack", "up", timeout=900)
        yield Site(machine)


@pytest.fixture(scope="module")
def key(site: Site) -> str:
    """An API key."""
    return site.machine.run(AISTACK, "keys", "create", "tests").stdout.strip()


CHAT = {"model": "demo", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}


def test_every_service_runs_as_a_unit_under_a_user_of_its_own(site: Site) -> None:
    assert site.well(), site.status()
    for name in UNITS:
        user = site.machine.run("ps", "-o", "user:32=", "-p", str(site.pids()[name])).stdout.strip()
        assert user == f"ai-stack-{name}"
    assert site.machine.run("systemctl", "is-active", "ai-stack.target").stdout.strip() == "active"
    assert site.machine.run("systemctl", "is-enabled", "ai-stack.target").stdout.strip() == "enabled"


def test_nothing_of_the_packages_own_services_runs(site: Site) -> None:
    for unit in ("nginx", "prometheus", "prometheus-node-exporter", "prometheus-nginx-exporter"):
        assert site.machine.run("systemctl", "is-active", unit, status=None).stdout.strip() in ("inactive", "failed")
        assert site.machine.run("systemctl", "is-enabled", unit, status=None).stdout.strip() != "enabled"


def test_a_chat_and_an_embedding_through_nginx(site: Site, key: str) -> None:
    status, answer = site.ask("/v1/chat/completions", key, CHAT)
    assert status == 200, answer
    assert json.loads(answer)["usage"]["completion_tokens"] == 5
    status, answer = site.ask("/v1/embeddings", key, {"model": "all-minilm", "input": "Hello"})
    assert len(json.loads(answer)["data"][0]["embedding"]) == 384


def test_the_units_are_clean_and_hardened(site: Site) -> None:
    verified = site.machine.run("sh", "-c", "systemd-analyze verify /etc/systemd/system/ai-stack*")
    assert verified.stdout + verified.stderr == ""
    print()
    for name in UNITS:
        told = site.machine.run("systemd-analyze", "security", "--no-pager", f"ai-stack-{name}.service").stdout
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
        assert exposure
        print(f"{name:<15} {exposure[1]}")
        assert float(exposure[1]) <= 2.0


def test_secrets_stand_in_no_unit_no_command_line_and_no_log(site: Site) -> None:
    secrets = site.machine.run("sh", "-c", "cat /etc/ai-stack/secrets/*").stdout.split()
    assert len(secrets) >= 3
    seen = site.machine.run("sh", "-c", "cat /etc/systemd/system/ai-stack*; ps -ef; journalctl --no-pager").stdout
    assert not [secret for secret in secrets if secret in seen]
    modes = site.machine.run("sh", "-c", "stat -c %a /etc/ai-stack/secrets /etc/ai-stack/secrets/*").stdout.split()
    assert set(modes) == {"700", "600"}


def test_data_lie_where_people_look_for_them(site: Site) -> None:
    for folder, user in (("open-webui", "chat"), ("chromadb", "chromadb")):
        told = site.machine.run("stat", "-c", "%U %a", f"/var/lib/{folder}").stdout.strip()
        assert told == f"ai-stack-{user} 700"


def test_up_again_changes_nothing_and_diff_is_empty(site: Site) -> None:
    pids = site.pids()
    assert "nothing had to change" in site.aistack("up")
    assert site.pids() == pids
    assert json.loads(site.machine.run(AISTACK, "diff", "--json").stdout)["changes"] == []


def test_a_changed_limit_reloads_nginx_and_cuts_no_stream(site: Site, key: str) -> None:
    pids = site.pids()
    body = json.dumps({**CHAT, "max_tokens": 400, "stream": True, "ignore_eos": True})
    site.machine.write("/tmp/body", body)
    # Slowed down by the reader, so that the streams last longer than the change.
    stream = (
        f"for i in $(seq 20); do curl -sN --limit-rate 4k --cacert /etc/ai-stack/tls/root.pem --json @/tmp/body "
        f"-H 'Authorization: Bearer {key}' https://localhost:8443/v1/chat/completions > /tmp/stream.$i & done; wait"
    )
    site.machine.run("sh", "-c", f"({stream}) > /dev/null 2>&1 &")
    assert wait_for(lambda: site.machine.run("sh", "-c", "cat /tmp/stream.*", status=None).stdout != "", 30)
    site.set("api_burst = 1000", "api_burst = 999")
    told = site.aistack("up")
    assert "reloading" in told
    assert site.pids() == pids

    def ended() -> bool:
        return site.machine.run("sh", "-c", "grep -l 'data: .DONE.' /tmp/stream.* | wc -l").stdout.strip() == "20"

    assert wait_for(ended, 120)


def test_a_configuration_that_nginx_refuses_changes_nothing(site: Site) -> None:
    pids, before = site.pids(), site.machine.run("cat", "/var/lib/ai-stack/generated/nginx/nginx.conf").stdout
    site.machine.write("/etc/ai-stack/broken.pem", "no certificate")
    text = site.machine.run("cat", TOML).stdout
    broken = '\n[proxy]\ncertificate = "/etc/ai-stack/broken.pem"\ncertificate_key = "/etc/ai-stack/broken.pem"\n'
    site.machine.write(TOML, text + broken)
    assert "was refused; the old one stays in use" in site.aistack("up", status=1)
    site.machine.write(TOML, text)
    assert site.pids() == pids
    assert site.machine.run("cat", "/var/lib/ai-stack/generated/nginx/nginx.conf").stdout == before


def test_a_setting_with_which_a_service_cannot_run_is_taken_back(site: Site) -> None:
    text = site.machine.run("cat", TOML).stdout
    site.machine.write(TOML, f'{text}\n[monitoring]\nretention = "99999y"\n')
    told = site.aistack("up", status=1)
    assert "prometheus" in told
    assert "it runs with its old settings again" in told
    assert site.well()
    site.machine.write(TOML, text)
    assert "nothing had to change" in site.aistack("up")


def test_a_drop_in_of_the_administrator_is_kept_and_shown(site: Site) -> None:
    folder = "/etc/systemd/system/ai-stack-gateway.service.d"
    site.machine.run("mkdir", "--parents", folder)
    site.machine.write(f"{folder}/more.conf", "[Service]\nMemoryMax=2G\n")
    site.machine.run("systemctl", "daemon-reload")
    assert f"gateway: {folder}/more.conf adds to its unit" in site.aistack("diff")
    site.aistack("restart", "gateway")
    told = site.machine.run("systemctl", "show", "--property=MemoryMax", "ai-stack-gateway").stdout
    assert told.strip() == f"MemoryMax={2 << 30}"
    site.machine.run("rm", "-r", folder)
    site.machine.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("name", UNITS)
def test_a_killed_service_comes_back(site: Site, name: str) -> None:
    pid = site.pids()[name]
    site.machine.run("kill", "-KILL", str(pid))
    start = time.monotonic()

    def back() -> bool:
        now = site.status()
        return now[name]["pid"] not in (0, pid) and now[name]["healthy"]

    assert wait_for(back, 60)
    print(f"\n{name}: back after {time.monotonic() - start:.1f} s")


def test_logs_come_from_the_journal(site: Site, key: str) -> None:
    site.ask("/v1/models", key)
    assert wait_for(lambda: '"GET /v1/models" 200' in site.aistack("logs", "nginx", "-n", "50"), 10)


def test_doctor_finds_nothing_wrong(site: Site) -> None:
    told = site.aistack("doctor")
    assert "no problems" in told


def test_a_reboot_is_survived(site: Site, key: str) -> None:
    before = site.machine.run(AISTACK, "models", "ls").stdout
    site.machine.reboot()
    assert wait_for(site.well, 120), site.status()
    assert site.ask("/v1/chat/completions", key, CHAT)[0] == 200
    assert site.machine.run(AISTACK, "models", "ls").stdout == before
    assert "nothing had to change" in site.aistack("up")


def test_a_start_of_the_target_returns_when_the_stack_answers(site: Site, key: str) -> None:
    site.aistack("down")
    assert not any(site.pids().values())
    site.machine.run("systemctl", "start", "ai-stack.target", timeout=240)
    assert site.ask("/v1/models", key)[0] == 200
    assert site.machine.run("curl", "--silent", "--fail", "http://127.0.0.1:3000/health").stdout
    site.aistack("up")


def test_data_of_somebody_elses_ollama_are_not_touched(site: Site) -> None:
    site.machine.run("mkdir", "--parents", "/var/lib/ollama/blobs")
    site.set('runtime = "systemd"', 'runtime = "systemd"\n[engine]\nkind = "ollama"')
    pids = site.pids()
    told = site.aistack("up", status=1)
    assert "/var/lib/ollama holds data of another" in told
    assert "paths.usual_places = false" in told
    assert site.pids() == pids
    site.set('\n[engine]\nkind = "ollama"', "")


def test_down_leaves_no_process_and_no_start_at_boot(site: Site) -> None:
    site.aistack("down")
    assert not any(site.pids().values())
    assert site.machine.run("sh", "-c", "ps -eo user:32= | grep -c ^ai-stack", status=1).stdout.strip() == "0"
    assert site.machine.run("systemctl", "is-enabled", "ai-stack.target", status=None).stdout.strip() == "disabled"
    site.aistack("up")


def test_a_move_to_processes_and_back_takes_everything_along(site: Site, key: str) -> None:
    token = _sign_in(site)
    chat = {"chat": {"title": "before the move", "models": ["demo:latest"], "messages": []}}
    status, answer = site.ask("/api/v1/chats/new", token, chat)
    assert status == 200, answer
    for runtime, confirmed in (("process", "--back"), ("process", "--confirm"), ("systemd", "--confirm")):
        told = site.aistack("move", "--to", runtime, "--yes", timeout=600)
        assert f"The stack runs on {runtime} now" in told
        assert site.well()
        assert site.ask("/v1/chat/completions", key, CHAT)[0] == 200
        assert "before the move" in site.ask("/api/v1/chats/", _sign_in(site))[1]
        assert (
            "is not confirmed yet" in site.aistack("move", "--to", "systemd", "--yes", status=1) or runtime == "systemd"
        )
        site.aistack("move", confirmed, "--yes", timeout=600)
        assert site.well()
        assert site.ask("/v1/models", key)[0] == 200
    assert "before the move" in site.ask("/api/v1/chats/", _sign_in(site))[1]
    assert site.machine.run("ls", "/var/lib/ai-stack/before-move", status=None).stdout == ""


def _sign_in(site: Site) -> str:
    password = site.machine.run("cat", "/etc/ai-stack/secrets/administrator-password").stdout.strip()
    _, answer = site.ask("/api/v1/auths/signin", "none", {"email": "admin@localhost", "password": password})
    return str(json.loads(answer)["token"])
