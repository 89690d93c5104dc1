"""What goes wrong on real machines: killed processes, taken ports, full disks, no network, mistakes in stack.toml."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from stacks import RealStack, make_stack

from aistack.config.paths import find_paths
from aistack.operations.stack import open_stack
from aistack.operations.status import status

# The aim is 15 s, and the tests print what they saw; speed itself is not asserted on a machine that does other things.
PATIENCE_S = 60
_SERVICES = (
    "chromadb", "engine", "prometheus", "node-exporter", "exporter", "gateway", "nginx-exporter", "nginx", "chat",
)  # fmt: skip
_HUB_MODEL = "hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0"
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def fragile() -> Iterator[RealStack]:
    """A stack that wants a model from a hub which cannot be reached from here; what it said is in `said`."""
    made = make_stack(models__chat=_HUB_MODEL)
    try:
        (made.home / "said").write_text(made.run("up", "--yes").stderr)
        yield made
    finally:
        made.end()
        shutil.rmtree(made.home, ignore_errors=True)


def _health(stack: RealStack) -> Callable[[], dict[str, tuple[int, bool]]]:
    """Asks for every service's pid (0: none) and health, without the cost of starting a command."""
    opened = open_stack(find_paths(stack.environment, os.geteuid()))
    return lambda: {item.service: (item.pid, item.healthy) for item in status(opened)}


def _pids(stack: RealStack) -> dict[str, int]:
    return {name: item["pid"] for name, item in stack.status().items()}


def _kill(pid: int) -> None:
    assert pid > 1, "0 would be ourselves, with all our group"
    os.kill(pid, signal.SIGKILL)


def _until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for `condition`; returns how many seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - start


def _healed(stack: RealStack, name: str, killed: int, seconds: float) -> float:
    """Wait until `name` runs anew and everything is healthy; returns the seconds since the call."""
    health = _health(stack)

    def well() -> bool:
        now = health()
        return now[name][0] not in (0, killed) and all(healthy for _, healthy in now.values())

    return _until(well, seconds, f"{name} is back")


def _ask(stack: RealStack, key: str) -> int:
    """The status of a request for the list of models."""
    request = urllib.request.Request(f"{stack.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    try:
        context = ssl.create_default_context(cafile=stack.ca)
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _supervisor(stack: RealStack) -> int:
    return int((stack.home / "data" / "run" / "supervisord.pid").read_text())


def _tree(stack: RealStack) -> dict[str, bytes]:
    """Every file below the stack's folder with its content, except the lock."""
    files = (path for path in stack.home.rglob("*") if path.is_file() and path.name != "change.lock")
    return {str(path.relative_to(stack.home)): path.read_bytes() for path in files}


def test_without_a_network_the_stack_comes_up_and_says_what_is_missing(fragile: RealStack) -> None:
    said = (fragile.home / "said").read_text()
    if "was not fetched" not in said:
        pytest.skip("the hub can be reached from here")
    assert _HUB_MODEL in said
    assert f"aistack models pull {_HUB_MODEL}" in said.replace("\n", " ")
    assert all(item["healthy"] for item in fragile.status().values())
    assert "demo" in fragile.run("models", "ls").stdout
    assert _ask(fragile, fragile.key("offline")) == 200


@pytest.mark.parametrize("name", _SERVICES)
def test_a_killed_service_comes_back_by_itself(fragile: RealStack, name: str, record_property: Record) -> None:
    pid = _health(fragile)()[name][0]
    left = [child.pid for child in psutil.Process(pid).children(recursive=True)]
    _kill(pid)
    took = _healed(fragile, name, pid, PATIENCE_S)
    record_property(f"{name} back, seconds", round(took, 2))
    print(f"\n{name}: back after {took:.2f} s")
    # What it left behind has gone, too: nginx's workers, the engine's models.
    _until(lambda: not any(map(_runs, left)), 10, f"children of the killed {name} are gone: {left}")


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_killed_twice_in_a_row_a_service_comes_back_too(fragile: RealStack) -> None:
    for _ in range(2):
        pid = _health(fragile)()["gateway"][0]
        _kill(pid)
        _healed(fragile, "gateway", pid, PATIENCE_S)


def test_the_death_of_the_supervisor_interrupts_nobody(fragile: RealStack, record_property: Record) -> None:
    key, pids, supervisor = fragile.key("steady"), _pids(fragile), _supervisor(fragile)
    _kill(supervisor)
    _until(lambda: not _runs(supervisor), 5, "supervisord is gone")
    assert _ask(fragile, key) == 200
    assert _pids(fragile) == pids
    told = fragile.run("status", status=3).stdout
    assert "unsupervised" in told
    assert "its supervisor is gone" in told
    assert "its supervisor is gone" in fragile.run("doctor", status=1).stdout
    start = time.monotonic()
    fragile.run("up", "--yes")
    took = time.monotonic() - start
    record_property("up after the supervisor's death, seconds", round(took, 2))
    print(f"\nup after the supervisor's death: {took:.2f} s")
    assert took < PATIENCE_S
    assert _supervisor(fragile) != supervisor
    assert _pids(fragile) == pids
    assert _ask(fragile, key) == 200
    assert not any(json.loads(fragile.run("diff", "--json").stdout).values())


@pytest.mark.parametrize("name", ["gateway", "nginx", "engine"])
def test_a_service_that_was_taken_over_comes_back_too(fragile: RealStack, name: str) -> None:
    pid = _health(fragile)()[name][0]
    _kill(pid)
    _healed(fragile, name, pid, PATIENCE_S)


def test_a_service_that_was_taken_over_can_be_reloaded(fragile: RealStack) -> None:
    _kill(_supervisor(fragile))
    fragile.run("up", "--yes")
    pids = _pids(fragile)
    workers = {child.pid for child in psutil.Process(pids["nginx"]).children()}
    fragile.settings["proxy.limits.api_burst"] = 900
    fragile.write()
    fragile.run("up", "--yes")
    assert _pids(fragile) == pids
    master = psutil.Process(pids["nginx"])
    _until(lambda: not workers & {child.pid for child in master.children()}, 10, "nginx has new workers")


def test_settings_that_changed_while_there_was_no_supervisor_are_all_applied(fragile: RealStack) -> None:
    pids = _pids(fragile)
    _kill(_supervisor(fragile))
    fragile.settings["proxy.max_upload_mb"] = 70
    fragile.write()
    fragile.run("up", "--yes")
    assert not any(json.loads(fragile.run("diff", "--json").stdout).values())
    now = _pids(fragile)
    assert {name for name, pid in pids.items() if now[name] != pid} == {"engine"}
    generated = (fragile.home / "data" / "generated" / "nginx" / "nginx.conf").read_text()
    assert "client_max_body_size 70m" in generated


def test_what_was_taken_over_is_restarted_when_asked_even_with_a_lasting_connection(fragile: RealStack) -> None:
    _kill(_supervisor(fragile))
    assert "nothing looks after it" in fragile.run("restart", "nginx", status=1).stderr
    fragile.run("up", "--yes")
    before = _pids(fragile)
    context = ssl.create_default_context(cafile=fragile.ca)
    port = int(str(fragile.settings["proxy.https_port"]))
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as lasting:
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
        lasting.sendall(
            f"GET /ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n"
            f"Origin: {fragile.url}\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
        )
        assert lasting.recv(12) == b"HTTP/1.1 101"
        start = time.monotonic()
        fragile.run("restart", "nginx")
        print(f"\nrestart with an open WebSocket: {time.monotonic() - start:.2f} s")
    now = _pids(fragile)
    assert {name for name, pid in before.items() if now[name] != pid} == {"nginx"}
    assert _ask(fragile, "ask_none") == 401


def test_restart_of_a_stack_that_is_down_touches_nothing(own_stack: RealStack) -> None:
    assert "`aistack up` starts it" in own_stack.run("restart", "node-exporter", status=1).stderr
    assert own_stack.processes() == {}


def test_a_supervisor_that_hangs_is_told_and_not_doubled(fragile: RealStack) -> None:
    supervisor = _supervisor(fragile)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        for command in ("status", "up"):
            done = fragile.run(command, status=1, timeout=60)
            assert "supervisord does not answer" in done.stderr
            assert "kill -9" in done.stderr
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert _supervisor(fragile) == supervisor
    assert "nothing had to change" in fragile.run("up", "--yes").stdout


def test_the_proxy_listens_where_it_was_moved_to_and_nowhere_else(fragile: RealStack) -> None:
    def listening() -> set[str]:
        port = fragile.settings["proxy.https_port"]
        return {
            one.laddr.ip for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == "LISTEN"
        }

    assert listening() == {"0.0.0.0"}
    for address in ("127.0.0.1", "::"):
        fragile.settings["proxy.address"] = address
        fragile.write()
        fragile.run("up", "--yes")
        assert listening() == {address}
        assert _ask(fragile, "ask_none") == 401
    fragile.settings["proxy.address"] = "0.0.0.0"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = fragile.settings["proxy.https_port"]
        fragile.settings["proxy.https_port"] = taken.getsockname()[1]
        fragile.write()
        assert f"pid {os.getpid()}" in fragile.run("up", "--yes", status=1).stderr
    fragile.settings["proxy.https_port"] = usual
    fragile.write()
    fragile.run("up", "--yes")


def test_a_supervisor_that_dies_with_a_service_is_replaced_with_it(fragile: RealStack) -> None:
    pids = _pids(fragile)
    _kill(_supervisor(fragile))
    _kill(pids["gateway"])
    _until(lambda: not _runs(pids["gateway"]), 5, "the gateway is gone")
    fragile.run("status", status=3)
    fragile.run("up", "--yes")
    now = fragile.status()
    assert all(item["healthy"] for item in now.values())
    assert {name for name, pid in pids.items() if now[name]["pid"] != pid} == {"gateway"}


def test_a_port_that_is_taken_while_the_stack_runs_changes_nothing(fragile: RealStack) -> None:
    pids, before = _pids(fragile), dict(fragile.settings)
    generated = {path: path.read_bytes() for path in (fragile.home / "data" / "generated").rglob("*") if path.is_file()}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fragile.settings["gateway.port"] = taken.getsockname()[1]
        fragile.write()
        done = fragile.run("up", "--yes", status=1)
        fragile.settings.update(before)
        fragile.write()
    assert f"pid {os.getpid()}" in done.stderr
    assert _pids(fragile) == pids
    assert {path: path.read_bytes() for path in generated} == generated
    assert not any(json.loads(fragile.run("diff", "--json").stdout).values())


def test_down_leaves_no_process_and_up_finds_all_data_again(fragile: RealStack) -> None:
    key = fragile.key("lasting")
    before = {path for path in (fragile.home / "data" / "state").rglob("*.db")}
    models = fragile.run("models", "ls").stdout
    # One of them without a supervisor over it, as after a crash.
    start = time.monotonic()
    fragile.run("down")
    print(f"\ndown: {time.monotonic() - start:.2f} s")
    assert fragile.processes() == {}
    fragile.run("status", status=3)
    fragile.run("down")
    assert {path for path in before if path.exists()} == before
    start = time.monotonic()
    fragile.run("up", "--yes")
    print(f"up again: {time.monotonic() - start:.2f} s")
    assert _ask(fragile, key) == 200
    assert fragile.run("models", "ls").stdout == models


def test_down_also_ends_what_a_killed_supervisor_left_behind(fragile: RealStack) -> None:
    _kill(_supervisor(fragile))
    fragile.run("down")
    assert fragile.processes() == {}


def test_up_that_was_killed_at_any_moment_is_finished_by_the_next(fragile: RealStack) -> None:
    """On a stack that is down: the moments span the writing of files and the starting of every service."""
    for moment in (0.3, 1, 2, 4, 8):
        with fragile.start("up", "--yes") as up:
            try:
                up.wait(moment)
            except subprocess.TimeoutExpired:
                up.kill()
            up.communicate()
        _assert_nothing_half_written(fragile)
    fragile.run("up", "--yes")
    now = fragile.status()
    assert set(now) == set(_SERVICES)
    assert all(item["healthy"] for item in now.values())
    _assert_one_of_each(fragile)
    assert not any(json.loads(fragile.run("diff", "--json").stdout).values())


def test_a_first_up_that_was_killed_is_finished_by_the_next(own_stack: RealStack, fragile: RealStack) -> None:
    fragile.run("down")  # one stack at a time is enough for a small machine
    for moment in (0.5, 1.5, 3):
        with own_stack.start("up", "--yes") as up:
            try:
                up.wait(moment)
            except subprocess.TimeoutExpired:
                up.kill()
            up.communicate()
        _assert_nothing_half_written(own_stack)
    own_stack.run("up", "--yes")
    assert all(item["healthy"] for item in own_stack.status().values())
    _assert_one_of_each(own_stack)
    assert _ask(own_stack, own_stack.key("first")) == 200


def _assert_nothing_half_written(stack: RealStack) -> None:
    for path in (stack.home / "data" / "generated").rglob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())


def _assert_one_of_each(stack: RealStack) -> None:
    running = list(stack.processes().values())
    for program in ("supervisor.supervisord", "aistack.gateway", "aistack.engine --settings", "nginx: master",
                    "open-webui serve", "chroma run", "/prometheus --config", "aistack.exporter"):  # fmt: skip
        assert sum(program in command for command in running) == 1, (program, running)


def test_two_commands_cannot_change_the_stack_at_the_same_time(own_stack: RealStack) -> None:
    import fcntl

    run = own_stack.home / "data" / "run"
    run.mkdir(parents=True)
    with (run / "change.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (("up", "--yes"), ("down",)):
            assert "another aistack command" in own_stack.run(*command, status=1).stderr


def test_taken_ports_are_refused_all_at_once_and_before_anything_is_written(own_stack: RealStack) -> None:
    settings = ("gateway.port", "proxy.https_port", "chat.port", "monitoring.exporter_port")
    ports = [int(str(own_stack.settings[setting])) for setting in settings]
    with contextlib.ExitStack() as taken:
        for port in ports:
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        before = _tree(own_stack)
        done = own_stack.run("up", "--yes", status=1)
        assert _tree(own_stack) == before
    owner = f"is taken by {psutil.Process().name()} (pid {os.getpid()})"
    told = [line for line in done.stderr.splitlines() if line.endswith(owner)]
    assert all(any(f"port {port}," in line for line in told) for port in ports), done.stderr
    assert "Traceback" not in done.stderr
    assert own_stack.processes() == {}


def test_every_mistake_in_stack_toml_is_told_at_once(own_stack: RealStack) -> None:
    (own_stack.home / "config" / "stack.toml").write_text(
        '[site]\nadministrator = "nobody"\nhost_names = ["bad name"]\n[proxy]\nhttps_prot = 8443\nmax_upload_mb = 0\n'
        '[proxy.limits]\napi_rate = "often"\n[chat]\nport = "3000"\nsign_up = 1\n[engine]\nkind = "magic"\n'
        "[nothing]\na = 1\n"
    )
    before = _tree(own_stack)
    for command in (("up", "--yes"), ("check",), ("diff",)):
        done = own_stack.run(*command, status=1)
        for key in ("site.administrator", "site.host_names.0", "proxy.https_prot", "proxy.max_upload_mb",
                    "proxy.limits.api_rate", "chat.port", "chat.sign_up", "engine.kind", "nothing"):  # fmt: skip
            assert f"{key}:" in done.stderr
        assert "did you mean https_port" in done.stderr
        assert "9 mistakes" in done.stderr
        assert "Traceback" not in done.stderr
    assert _tree(own_stack) == before


@pytest.mark.parametrize("text", ["[site\n", "\xff\xfe".encode("latin-1").decode("latin-1"), '[site]\nname = "a'])
def test_a_stack_toml_that_is_no_toml_is_told_so(own_stack: RealStack, text: str) -> None:
    (own_stack.home / "config" / "stack.toml").write_bytes(text.encode("latin-1"))
    done = own_stack.run("up", "--yes", status=1)
    assert "stack.toml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk() -> Iterator[RealStack]:
    """A stack whose folder lies on a file system of 3 MB."""
    made = make_stack()
    mounted = shutil.which("mount") is not None and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0711", "tmpfs", str(made.home)], capture_output=True, check=False
    )  # fmt: skip
    try:
        if not mounted or mounted.returncode:
            pytest.skip("mounting a small file system needs root")
        made.write()
        yield made
    finally:
        made.end()
        if mounted and not mounted.returncode:
            subprocess.run(["umount", str(made.home)], check=True)
        shutil.rmtree(made.home, ignore_errors=True)


def test_a_full_disk_is_told_and_nothing_is_left_half_written(small_disk: RealStack) -> None:
    for ballast_bytes in (0, 2_990_000):
        if ballast_bytes:
            _fill(small_disk.home)
        done = small_disk.run("up", "--yes", status=1)
        assert re.search(r"no space left|not enough|free", done.stderr), done.stderr
        assert "Traceback" not in done.stderr
        _assert_nothing_half_written(small_disk)
        for path in (small_disk.home / "config").rglob("*"):
            assert not path.is_file() or path.stat().st_size, f"{path} is empty"
        assert not list((small_disk.home / "data" / "models").glob("[!.]*.gguf"))
    refused = small_disk.run("keys", "create", "too much", status=1)
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr


def _fill(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return
