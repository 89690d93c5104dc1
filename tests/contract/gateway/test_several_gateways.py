"""Gateways that share a PostgreSQL and a Redis act as one, and go on when these go away."""

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aistack.gateway.keys import KeyStore
from aistack.gateway.state.database import Database
from aistack.gateway.usage_report import report
from databases import PASSWORD, Postgres, RedisServer, running_postgres, running_redis

from .processes import Gateway, StartGateway, wait_for
from .scripted import ScriptedUpstream, response

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
ANSWER = {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}}

Start = Callable[..., Gateway]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder) as server:
        yield server


@pytest.fixture
def start(start_gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path) -> Start:
    """Starts a gateway that finds the password of everything in a file."""
    upstream.answers[PATH] = [response(200, json.dumps(ANSWER).encode())]
    secret = tmp_path / "gateway-redis-password"
    secret.write_text(PASSWORD + "\n")
    node = {"name": "only", "kind": "openai", "url": upstream.url}

    def start_it(**settings: Any) -> Gateway:
        files = {f"{name}_password_file": str(secret) for name in ("database", "redis")}
        return start_gateway([node], **{**files, **settings})

    return start_it


def bearer(plain: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {plain}"}


def status(gateway: Gateway, plain: str) -> int:
    return gateway.ask("POST", PATH, CHAT, bearer(plain))[0]


def metric(gateway: Gateway, name: str) -> float:
    lines = gateway.ask("GET", "/metrics")[2].decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"aistack_gateway_{name} "))
    return float(value)


def test_two_gateways_are_one_to_keys_limits_and_usage(start: Start, postgres: Postgres, redis: RedisServer) -> None:
    database = Database(postgres.new("shared"), PASSWORD)
    store = KeyStore(database)
    plain, key = store.create("laptop", terms={"requests_per_minute": 20, "tokens_per_day": 10_000})
    gateways = [start(database=postgres.url("shared"), redis=redis.url) for _ in range(2)]
    with ThreadPoolExecutor(10) as threads:
        answers = [*threads.map(lambda number: status(gateways[number % 2], plain), range(60))]
    assert (answers.count(200), answers.count(429)) == (20, 40)
    for gateway in gateways:
        assert metric(gateway, 'requests_total{model="m",route="chat/completions",status="200",surface="openai"}') > 0
        assert metric(gateway, "redis_up") == 1
    with redis.client() as client:
        (tokens,) = client.keys("*tokens_per_day*")
        wait_for(lambda: client.get(tokens) == str(20 * 42), "all tokens to be counted")
    wait_for(lambda: [line.requests for line in report(database, "key")] == [20], "all usage to be written")
    store.revoke(key.id)
    for gateway in gateways:
        wait_for(lambda gateway=gateway: status(gateway, plain) == 401, "the end of the key")
    database.close()


def test_requests_go_on_without_redis_and_the_log_says_so_once(start: Start, redis: RedisServer) -> None:
    gateway = start(redis=redis.url, limits={"keys": {"requests_per_minute": 50}})
    assert status(gateway, gateway.key) == 200
    redis.kill()
    assert [status(gateway, gateway.key) for _ in range(10)] == [200] * 10
    assert metric(gateway, "redis_up") == 0
    redis.start()
    wait_for(lambda: metric(gateway, "redis_up") == 1, "Redis to be used again")
    _, headers, _ = gateway.ask("POST", PATH, CHAT)
    assert headers["x-ratelimit-remaining-requests"] == "38"
    lines = [line for line in gateway.log.read_text().splitlines() if "aistack.gateway.limits" in line]
    assert [line.split()[2] for line in lines] == ["ERROR", "WARNING"]
    assert PASSWORD not in gateway.log.read_text()


def test_requests_go_on_while_redis_stalls(start: Start, redis: RedisServer) -> None:
    gateway = start(redis=redis.url, limits={"keys": {"requests_per_minute": 50}})
    assert status(gateway, gateway.key) == 200
    redis.send(signal.SIGSTOP)
    with ThreadPoolExecutor(10) as threads:
        assert [*threads.map(lambda _: status(gateway, gateway.key), range(20))] == [200] * 20
    assert metric(gateway, "redis_up") == 0
    redis.send(signal.SIGCONT)
    wait_for(lambda: metric(gateway, "redis_up") == 1, "Redis to be used again")


def test_another_redis_is_said_to_need_a_restart(start: Start, redis: RedisServer) -> None:
    gateway = start(redis=redis.url)
    gateway.change(redis="redis://127.0.0.1:1/0")
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "redis has changed, which only a restart can take over" in gateway.log.read_text(), "the log line")
    assert metric(gateway, "redis_up") == 1


def test_a_wrong_password_of_redis_ends_the_start_with_what_to_do(
    start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong-password"
    wrong.write_text("not-the-password\n")
    with pytest.raises(AssertionError) as caught:
        start(redis=redis.url, redis_password_file=str(wrong))
    said = str(caught.value)
    assert f"cannot use the Redis of the limits {redis.url}" in said
    assert "secrets/wrong-password beside stack.toml must hold the password" in said
    assert "Traceback" not in said
    assert "not-the-password" not in said


def test_keys_known_before_go_on_without_postgres_and_changes_are_seen_when_it_is_back(
    start: Start, postgres: Postgres
) -> None:
    database = Database(postgres.new("away"), PASSWORD)
    store = KeyStore(database)
    known, key = store.create("known")
    gateway = start(database=postgres.url("away"))
    assert status(gateway, known) == 200
    postgres.stop()
    wait_for(lambda: metric(gateway, "database_up") == 0, "PostgreSQL to be missed")
    assert [status(gateway, known) for _ in range(10)] == [200] * 10
    assert status(gateway, "ask_nobody") == 401
    postgres.start()
    # While the gateway still waits to look again, or not: it has to see both.
    fresh, _ = store.create("fresh")
    store.revoke(key.id)
    wait_for(lambda: status(gateway, fresh) == 200, "the new key")
    wait_for(lambda: status(gateway, known) == 401, "the end of the key")
    wait_for(lambda: metric(gateway, "database_up") == 1, "PostgreSQL to be used again")
    wait_for(lambda: {line.name: line.requests for line in report(database, "key")}.get("known", 0) >= 11, "its usage")
    log = gateway.log.read_text()
    assert log.count("cannot read the keys") == log.count("the keys can be read again") == 1
    database.close()
