"""From start to end: signals, kill -9, a taken port, who may reach a model's socket."""

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .conftest import Engine, Starter, is_running, until


def test_sigterm_lets_a_running_request_finish_and_exits_0(start: Starter) -> None:
    engine = start(context_length=4096, shutdown_grace_s=60)
    body = {"model": "demo", "prompt": "x", "max_tokens": 600, "ignore_eos": True}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.post, "/v1/completions", body)
        until(lambda: engine.loaded().get("demo", {}).get("busy"))
        child = engine.children()[0]
        engine.process.send_signal(signal.SIGTERM)
        assert asked.result().json()["usage"]["completion_tokens"] == 600
    assert engine.process.wait(20) == 0
    assert not is_running(child)


def test_sigterm_while_a_model_loads_ends_everything(start: Starter) -> None:
    engine = start(shutdown_grace_s=0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.complete)
        until(lambda: engine.children())
        child = engine.children()[0]
        engine.process.send_signal(signal.SIGTERM)
        assert engine.process.wait(20) == 0
        assert asked.exception() is None or isinstance(asked.exception(), httpx.TransportError)
    assert not is_running(child)


def test_children_die_with_a_killed_front(start: Starter) -> None:
    engine = start()
    engine.complete()
    [child] = engine.children()
    os.kill(engine.process.pid, signal.SIGKILL)
    until(lambda: not is_running(child))


def test_a_restart_after_kill_9_clears_old_sockets_and_serves(start: Starter) -> None:
    engine = start()
    engine.complete()
    os.kill(engine.process.pid, signal.SIGKILL)
    engine.process.wait()
    assert list(engine.run_dir.glob("*.sock"))
    again = start()
    assert not list(again.run_dir.glob("*.sock"))
    assert again.complete().status_code == 200


def test_a_models_socket_is_closed_to_other_users(start: Starter) -> None:
    engine = start()
    engine.complete()
    [socket_file] = engine.run_dir.glob("*.sock")
    assert stat.S_IMODE(engine.run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket_file.stat().st_mode) & 0o077 == 0


def test_a_models_process_is_first_in_line_when_memory_runs_out(start: Starter) -> None:
    engine = start()
    engine.complete()
    assert int(Path(f"/proc/{engine.children()[0]}/oom_score_adj").read_text()) == 500


def test_a_run_dir_with_a_long_path_serves(start: Starter, tmp_path: Path) -> None:
    engine = start(run_dir=str(tmp_path / ("long" * 40) / "run"))
    assert engine.complete().status_code == 200


@pytest.mark.parametrize("settings", ["", "[]", '{"host": "127.0.0.1"}', '{"prot": 1}'])
def test_bad_settings_end_in_two_lines_and_status_1(tmp_path: Path, settings: str) -> None:
    file = tmp_path / "engine.json"
    file.write_text(settings)
    ended = _run(file)
    assert ended.returncode == 1
    assert str(file) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_a_clear_error(start: Starter, tmp_path: Path) -> None:
    engine: Engine = start()
    settings = json.loads((tmp_path / "engine.json").read_text())
    file = tmp_path / "second.json"
    file.write_text(json.dumps({**settings, "port": engine.port, "run_dir": str(tmp_path / "run2")}))
    ended = _run(file)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{engine.port}" in ended.stderr


def _run(settings: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "aistack.engine", "--settings", str(settings)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
