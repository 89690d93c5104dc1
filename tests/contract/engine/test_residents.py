"""Loading and unloading: once for all who wait, in turn when memory is full, after keep_alive; deaths."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from .conftest import Engine, Starter, is_running, until

LONG = {"prompt": "x", "max_tokens": 100_000, "stream": True, "ignore_eos": True}


@contextmanager
def long_stream(engine: Engine, model: str = "demo") -> Iterator[Iterator[bytes]]:
    """The bytes of a response that goes on as long as its reader likes; the first are there."""
    url = f"{engine.url}/v1/completions"
    with httpx.stream("POST", url, json={"model": model, **LONG}, timeout=60) as answer:
        stream = answer.iter_bytes()
        next(stream)
        yield stream


def test_concurrent_first_requests_share_one_load(start: Starter) -> None:
    engine = start(num_parallel=4)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: engine.complete(), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert engine.logged("loaded demo") == 1


def test_the_least_recently_used_model_makes_room(start: Starter) -> None:
    engine = start("a", "b", "c", max_loaded_models=2)
    for model in ("a", "b", "a", "c"):
        assert engine.complete(model).status_code == 200
    assert set(engine.loaded()) == {"a", "c"}
    assert len(engine.children()) == 2


def test_models_that_do_not_fit_together_take_turns_under_load(start: Starter) -> None:
    engine = start("a", "b", max_loaded_models=1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(engine.complete, "abababab"))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(engine.children()) == 1


def test_a_request_waits_for_a_busy_models_end_and_is_then_served(start: Starter) -> None:
    engine = start("a", "b", max_loaded_models=1, context_length=4096)
    body = {"model": "a", "prompt": "x", "max_tokens": 600, "ignore_eos": True}
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(engine.post, "/v1/completions", body)
        until(lambda: engine.loaded().get("a", {}).get("busy"))
        short = pool.submit(engine.complete, "b")
        assert long.result().json()["usage"]["completion_tokens"] == 600
        assert short.result().status_code == 200


def test_a_waiter_that_gives_up_leaves_the_busy_model_open_to_others(start: Starter) -> None:
    engine = start("a", "b", max_loaded_models=1, context_length=4096)
    with long_stream(engine, "a"):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{engine.url}/v1/completions", json={"model": "b", "prompt": "x"}, timeout=0.3)
        assert engine.complete("a").status_code == 200


def test_an_idle_model_is_unloaded_after_keep_alive_and_its_process_gone(start: Starter) -> None:
    engine = start(keep_alive_s=1)
    engine.complete()
    [child] = engine.children()
    expires = engine.loaded()["demo"]["expires_at"]
    assert 0 < expires - time.time() <= 1
    until(lambda: not is_running(child))
    assert engine.loaded() == {}
    assert not list(engine.run_dir.glob("*.sock"))


def test_keep_alive_in_a_request_overrides_the_setting(start: Starter) -> None:
    engine = start()
    engine.complete(keep_alive=-1)
    assert engine.loaded()["demo"]["expires_at"] is None
    engine.complete(keep_alive="1h")
    assert 3500 < engine.loaded()["demo"]["expires_at"] - time.time() <= 3600
    engine.complete(keep_alive=0)
    until(lambda: engine.children() == [])


def test_unload_gives_the_memory_back_before_it_answers(start: Starter) -> None:
    engine = start()
    engine.complete()
    [child] = engine.children()
    assert engine.post("/engine/unload", {"model": "demo"}).json() == {"model": "demo", "unloaded": True}
    assert not is_running(child)
    assert engine.complete().status_code == 200


def test_a_replaced_file_is_loaded_anew(start: Starter) -> None:
    engine = start()
    engine.complete()
    [child] = engine.children()
    file = engine.models / "demo.gguf"
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.replace(file)
    assert engine.complete().status_code == 200
    assert child not in engine.children()


def test_a_client_that_leaves_frees_its_slot_at_once(start: Starter) -> None:
    engine = start(num_parallel=1, context_length=4096)
    with long_stream(engine):
        assert engine.loaded()["demo"]["busy"] == 1
    began = time.monotonic()
    assert engine.complete().status_code == 200
    assert time.monotonic() - began < 5
    until(lambda: engine.loaded()["demo"]["busy"] == 0)


def test_a_dead_child_cuts_its_streams_is_noticed_and_loaded_again(start: Starter) -> None:
    engine = start(context_length=4096)
    with long_stream(engine) as stream:
        os.kill(engine.children()[0], signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in stream:
                pass
    assert engine.complete().status_code == 200
    until(lambda: engine.logged("died: demo") == 1)
    assert engine.logged("loaded demo") == 2


def test_a_child_that_dies_before_it_answers_is_a_502(start: Starter) -> None:
    engine = start(context_length=4096)
    engine.complete()
    body = {"model": "demo", "prompt": "x", "max_tokens": 3900, "ignore_eos": True}
    os.kill(engine.children()[0], signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.post, "/v1/completions", body)
        until(lambda: engine.loaded()["demo"]["busy"] == 1)
        os.kill(engine.children()[0], signal.SIGKILL)
        answer = asked.result()
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "server_error"


def test_a_model_that_llamacpp_refuses_is_told_with_its_reason_and_not_tried_for_ever(start: Starter) -> None:
    engine = start()
    file = engine.models / "broken.gguf"
    file.write_bytes((engine.models / "demo.gguf").read_bytes().replace(b"output_norm.weight", b"output_mron.weight"))
    first = engine.complete("broken")
    assert first.status_code == 500
    assert "output_norm" in first.json()["error"]["message"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: engine.complete("broken"), range(20)))
    assert {answer.status_code for answer in answers} == {500}
    assert engine.logged("cannot load broken") == 1
    assert engine.complete().status_code == 200


@pytest.mark.parametrize("lived_s", [0.0, 0.05])
def test_a_model_killed_while_it_loads_is_told_as_out_of_memory(start: Starter, lived_s: float) -> None:
    """At once, before it could read what to load, or a little later."""
    engine = start()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.complete)
        while not engine.children() and not asked.done():
            pass
        time.sleep(lived_s)
        os.kill(engine.children()[0], signal.SIGKILL)
        answer = asked.result()
    assert answer.status_code == 500
    assert "memory" in answer.json()["error"]["message"]


def test_a_truncated_file_is_told_by_name(start: Starter) -> None:
    engine = start()
    (engine.models / "short.gguf").write_bytes((engine.models / "demo.gguf").read_bytes()[:90_000])
    answer = engine.complete("short")
    assert answer.status_code == 404
    assert "cut short" in answer.json()["error"]["message"]


def test_no_prompt_reaches_the_log(start: Starter) -> None:
    engine = start()
    engine.complete(prompt="the secret word is xyzzy")
    engine.complete("nobody", prompt="xyzzy")
    engine.process.send_signal(signal.SIGTERM)
    assert engine.process.wait(20) == 0
    assert "xyzzy" not in json.dumps(engine.lines)
