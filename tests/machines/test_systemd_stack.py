"""The whole stack on systemd, installed in a machine from this checkout as an administrator would."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine, wait_for
from machine import Machine
from sites import PlaceTaken, systemd_site
from stack_images import stack_images
from stacks import PROGRAMS, REPOSITORY, RealStack

# What must hold on every runtime is asked here too: all of it, of the fixtures `tended` and `stack`.
from test_lifecycle import *  # noqa: F403
from test_streams import *  # noqa: F403

UNITS = (
    "chat", "chromadb", "engine", "exporter", "gateway", "nginx", "nginx-exporter", "node-exporter", "prometheus",
)  # fmt: skip
CHAT = {"model": "demo", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def site(engine: Engine) -> Iterator[RealStack]:
    """The stack, in a machine that has the network of this one."""
    try:
        with systemd_site(engine) as made:
            yield made
    except PlaceTaken as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def machine(engine: Engine, site: RealStack) -> Machine:
    """The machine that it is on."""
    return Machine(engine, "aistack-site")


def pids(site: RealStack) -> dict[str, int]:
    """The main process of each service."""
    return {name: item["pid"] for name, item in site.status().items()}


def well(site: RealStack) -> bool:
    """Whether every service answers."""
    return all(item["healthy"] and not item["problem"] for item in site.status().values())


def units(machine: Machine) -> list[str]:
    """Every file of ours where systemd looks for them."""
    return machine.run(
        "sh", "-c", "ls -d /etc/systemd/system/ai-stack* /etc/sysusers.d/ai-stack*", status=None
    ).stdout.split()


def test_every_service_runs_as_a_unit_under_a_user_of_its_own(site: RealStack, machine: Machine) -> None:
    assert well(site), site.status()
    for name in UNITS:
        user = machine.run("ps", "-o", "user:32=", "-p", str(pids(site)[name])).stdout.strip()
        assert user == f"ai-stack-{name}"
    assert machine.run("systemctl", "is-active", "ai-stack.target").stdout.strip() == "active"
    assert machine.run("systemctl", "is-enabled", "ai-stack.target").stdout.strip() == "enabled"


def test_nothing_of_the_packages_own_services_runs(site: RealStack, machine: Machine) -> None:
    for unit in ("nginx", "prometheus", "prometheus-node-exporter", "prometheus-nginx-exporter"):
        assert machine.run("systemctl", "is-active", unit, status=None).stdout.strip() in ("inactive", "failed")
        assert machine.run("systemctl", "is-enabled", unit, status=None).stdout.strip() != "enabled"


def test_a_chat_and_an_embedding_through_nginx(site: RealStack, key: str) -> None:
    assert site.ask("/v1/chat/completions", key, CHAT)["usage"]["completion_tokens"] == 5
    answer = site.ask("/v1/embeddings", key, {"model": "all-minilm", "input": "Hello"})
    assert len(answer["data"][0]["embedding"]) == 384


def test_the_units_are_clean_and_hardened(site: RealStack, machine: Machine) -> None:
    verified = machine.run("sh", "-c", "systemd-analyze verify /etc/systemd/system/ai-stack*")
    assert verified.stdout + verified.stderr == ""
    print()
    for name in UNITS:
        told = machine.run("systemd-analyze", "security", "--no-pager", f"ai-stack-{name}.service").stdout
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
        assert exposure
        print(f"{name:<15} {exposure[1]}")
        assert float(exposure[1]) <= 2.0


def test_secrets_stand_in_no_unit_no_command_line_and_no_log(site: RealStack, machine: Machine) -> None:
    secrets = machine.run("sh", "-c", "cat /etc/ai-stack/secrets/*").stdout.split()
    assert len(secrets) >= 3
    seen = machine.run("sh", "-c", "cat /etc/systemd/system/ai-stack*; ps -ef; journalctl --no-pager").stdout
    assert not [secret for secret in secrets if secret in seen]
    modes = machine.run("sh", "-c", "stat -c %a /etc/ai-stack/secrets /etc/ai-stack/secrets/*").stdout.split()
    assert set(modes) == {"700", "600"}


def test_data_lie_where_people_look_for_them(site: RealStack, machine: Machine) -> None:
    for folder, user in (("open-webui", "chat"), ("chromadb", "chromadb")):
        told = machine.run("stat", "-c", "%U %a", f"/var/lib/{folder}").stdout.strip()
        assert told == f"ai-stack-{user} 700"


def test_a_drop_in_of_the_administrator_is_kept_and_shown(site: RealStack, machine: Machine) -> None:
    folder = "/etc/systemd/system/ai-stack-gateway.service.d"
    machine.run("mkdir", "--parents", folder)
    machine.write(f"{folder}/more.conf", "[Service]\nMemoryMax=2G\n")
    machine.run("systemctl", "daemon-reload")
    assert f"gateway: {folder}/more.conf adds to its unit" in site.run("diff").stdout
    site.run("restart", "gateway")
    told = machine.run("systemctl", "show", "--property=MemoryMax", "ai-stack-gateway").stdout
    assert told.strip() == f"MemoryMax={2 << 30}"
    machine.run("rm", "-r", folder)
    machine.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("name", UNITS)
def test_a_killed_service_comes_back(site: RealStack, machine: Machine, name: str) -> None:
    pid = pids(site)[name]
    machine.run("kill", "-KILL", str(pid))
    start = time.monotonic()

    def back() -> bool:
        now = site.status()
        return now[name]["pid"] not in (0, pid) and now[name]["healthy"]

    assert wait_for(back, 60)
    print(f"\n{name}: back after {time.monotonic() - start:.1f} s")


def test_a_reboot_is_survived(site: RealStack, machine: Machine, key: str) -> None:
    before = site.run("models", "ls").stdout
    machine.reboot()
    assert wait_for(lambda: well(site), 120), site.status()
    assert site.ask("/v1/chat/completions", key, CHAT)["choices"]
    assert site.run("models", "ls").stdout == before
    assert "nothing had to change" in site.run("up").stdout


def test_a_start_of_the_target_returns_when_the_stack_answers(site: RealStack, machine: Machine, key: str) -> None:
    site.run("down")
    assert not any(pids(site).values())
    machine.run("systemctl", "start", "ai-stack.target", timeout=240)
    assert site.ask("/v1/models", key)["data"]
    assert machine.run("curl", "--silent", "--fail", f"http://127.0.0.1:{site.settings['chat.port']}/health").stdout
    site.run("up")


def test_data_of_somebody_elses_ollama_are_not_touched(site: RealStack, machine: Machine) -> None:
    machine.run("mkdir", "--parents", "/var/lib/ollama/blobs")
    before = pids(site)
    site.settings["engine.kind"] = "ollama"
    site.write()
    told = site.run("up", status=1).stderr
    del site.settings["engine.kind"]
    site.write()
    assert "/var/lib/ollama holds data of another" in told
    assert "paths.usual_places = false" in told
    assert pids(site) == before


def test_down_leaves_no_process_and_no_start_at_boot(site: RealStack, machine: Machine) -> None:
    site.run("down")
    assert not any(pids(site).values())
    assert machine.run("sh", "-c", "ps -eo user:32= | grep -c ^ai-stack", status=1).stdout.strip() == "0"
    assert machine.run("systemctl", "is-enabled", "ai-stack.target", status=None).stdout.strip() == "disabled"
    site.run("up")


@pytest.mark.timeout(900)
def test_a_move_to_each_other_runtime_and_back_takes_everything_along(
    site: RealStack, machine: Machine, engine: Engine, key: str
) -> None:
    stack_images(engine, PROGRAMS)
    bring_docker(machine)
    drop_in = "/etc/systemd/system/ai-stack-gateway.service.d"
    machine.write(f"{drop_in}/more.conf", "[Service]\nMemoryMax=2G\n")
    chat = {"chat": {"title": "before the move", "models": ["demo:latest"], "messages": []}}
    assert site.ask("/api/v1/chats/new", site.sign_in(), chat)["title"] == "before the move"
    generated = site.home / "data" / "generated"
    for runtime, end in (("process", "--back"), ("compose", "--confirm"), ("systemd", "--confirm")):
        move_while_others_wait(site, runtime)
        assert well(site), site.status()
        assert site.ask("/v1/chat/completions", key, CHAT)["choices"]
        assert "before the move" in {found["title"] for found in site.ask("/api/v1/chats/", site.sign_in())}
        other = "compose" if runtime == "process" else "process"
        assert "is not confirmed yet" in site.run("move", "--to", other, "--yes", status=1).stderr
        site.run("move", end, "--yes")
        assert well(site), site.status()
        on_systemd = runtime == "systemd" or end == "--back"
        assert (units(machine) == [drop_in]) != on_systemd
        assert (generated / "compose.yaml").exists() == (generated / "handed").exists() == (not on_systemd)
        assert not (generated / "services").exists()
    assert "before the move" in {found["title"] for found in site.ask("/api/v1/chats/", site.sign_in())}
    assert not (site.home / "data" / "before-move").exists()
    machine.run("rm", "-r", drop_in)


def bring_docker(machine: Machine) -> None:
    """Docker's and Compose's command lines for the machine; its engine is the one out here."""
    machine.run("systemctl", "mask", "docker.service", "docker.socket", "containerd.service")
    machine.run("apt-get", "update", "-q", timeout=120)
    machine.run("apt-get", "install", "-q", "-y", "--no-install-recommends", "docker.io", "docker-compose", timeout=300)


def move_while_others_wait(site: RealStack, runtime: str) -> None:
    """Move, and see that nobody else can change anything before it is done."""
    with site.start("move", "--to", runtime, "--yes") as moving:
        assert wait_for(lambda: (site.home / "data" / "moved.json").exists() or moving.poll() is not None, 300)
        refused = site.run("down", status=None)
        told, _ = moving.communicate(timeout=280)
    assert moving.returncode == 0, told
    assert f"The stack runs on {runtime} now" in told
    assert "another aistack command is changing this stack" in refused.stderr, refused.stdout


@pytest.mark.timeout(900)
def test_a_users_stack_becomes_roots_and_his_again(site: RealStack, machine: Machine, tmp_path: Path) -> None:
    site.run("down")
    machine.run("sh", "-c", "rm -rf /etc/ai-stack/* /var/lib/ai-stack/* /var/lib/open-webui /var/lib/chromadb")
    ada = users_stack(site, machine, tmp_path)
    chat = {"chat": {"title": "ada's", "models": ["demo:latest"], "messages": []}}
    assert ada.ask("/api/v1/chats/new", ada.sign_in(), chat)["title"] == "ada's"
    key = ada.key("hers")
    refused = ada.run("move", "--to", "systemd", "--dry-run", status=1).stderr
    assert "needs root" in refused
    assert "Traceback" not in refused
    move = ("move", "--to", "systemd", "--of", "ada", "--yes")
    assert "let its user stop it first" in site.run(*move, status=1).stderr
    ada.run("down")
    site.run(*move)
    assert well(site), site.status()
    assert machine.run("ps", "-o", "user:32=", "-p", str(pids(site)["chat"])).stdout.strip() == "ai-stack-chat"
    assert site.ask("/v1/chat/completions", key, CHAT)["choices"]
    assert "ada's" in {found["title"] for found in site.ask("/api/v1/chats/", site.sign_in())}
    site.run("move", "--back", "--yes")
    assert units(machine) == []
    assert (
        machine.run("sh", "-c", "ls /etc/ai-stack; ls -d /var/lib/open-webui /var/lib/chromadb", status=2).stdout == ""
    )
    ada.run("up")
    assert "ada's" in {found["title"] for found in ada.ask("/api/v1/chats/", ada.sign_in())}
    ada.run("down")


def users_stack(site: RealStack, machine: Machine, folder: Path) -> RealStack:
    """A stack on processes that an ordinary user of the machine has brought up; `folder` gets what its clients need."""
    settings = {**site.settings, "runtime": "process", "paths.programs": "/opt/ai-stack"}
    inside = ("docker", "exec", "--interactive", "--user=ada", machine.name)
    ada = RealStack(folder, settings, inside=inside, aistack="/home/ada/aistack/.venv/bin/aistack")
    ada.write()
    machine.run("useradd", "--create-home", "ada")
    machine.copy_checkout(REPOSITORY, "/home/ada/aistack")
    machine.write("/home/ada/.config/aistack/stack.toml", (folder / "config" / "stack.toml").read_text())
    machine.run("chown", "--recursive", "ada:", "/home/ada")
    machine.run("make", "-C", "/home/ada/aistack", "up", user="ada", timeout=600)
    for name in ("tls/root.pem", "secrets/administrator-password"):
        (folder / "config" / name).parent.mkdir(exist_ok=True)
        (folder / "config" / name).write_text(machine.run("cat", f"/home/ada/.config/aistack/{name}").stdout)
    return ada
