"""What no client of ours sends: each gets a clean answer or a closed connection, and the engine serves on."""

import json
import socket
from collections.abc import Iterator

import pytest

from .conftest import Engine, until

GOOD = json.dumps({"model": "demo", "prompt": "x", "max_tokens": 2}).encode()


@pytest.fixture(autouse=True)
def still_serving(engine: Engine) -> Iterator[None]:
    yield
    assert engine.complete().status_code == 200
    assert "Traceback" not in "\n".join(engine.lines)


def exchange(engine: Engine, *pieces: bytes) -> bytes:
    """Everything the engine answers until it hangs up; fails when it neither answers nor hangs up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=20) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
            while data := client.recv(65536):
                answer += data
        except (BrokenPipeError, ConnectionResetError):
            pass
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/completions") -> bytes:
    length = b"Content-Length: %d" % len(body)
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", length, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CLOSE = b"Connection: close"


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (post(GOOD, b"Transfer-Encoding: chunked"), 400),  # two lengths: smuggling
        (post(GOOD, b"Content-Length: 1"), 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n", 413),
        (post(GOOD, b"X-Long: " + b"a" * 70_000), 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
        (post(GOOD, *(b"X-%d: y" % number for number in range(9000))), 431),
        (post(GOOD, b"Connection: Upgrade", b"Upgrade: websocket"), 400),
        (post(GOOD, CLOSE, b"Origin: https://evil.example"), 403),
        (post(GOOD, CLOSE).replace(b"localhost", b"evil.example"), 403),
        (post(GOOD, CLOSE).replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (post(b"", CLOSE), 400),
        (post(b"{", CLOSE), 400),
        (post(b"[" * 100_000, CLOSE), 400),
        (post(b"\xff\xfe\x00", CLOSE), 400),
        (post(b'"demo"', CLOSE), 400),
        (post(GOOD, CLOSE, path=b"//v1/completions"), 404),
        (post(GOOD, CLOSE, path=b"/v1/../props"), 404),
        (post(GOOD, CLOSE, path=b"/v1/%63ompletions"), 404),
        (b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"GET /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"GET /engine/models/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET /engine/models/..%2f..%2fetc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_gets_a_clean_refusal(engine: Engine, sent: bytes, wanted: int) -> None:
    answer = exchange(engine, sent)
    assert status(answer) == wanted
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == wanted


def test_a_body_beyond_the_limit_is_refused_while_it_is_sent(engine: Engine) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    assert status(exchange(engine, head, *[chunk] * 17)) == 413


def test_an_endless_head_is_refused(engine: Engine) -> None:
    assert status(exchange(engine, b"GET /health HTTP/1.1\r\nX: ", *[b"a" * 65536] * 8)) == 431


def test_a_chunked_body_in_single_bytes_is_read(engine: Engine) -> None:
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = [b"1\r\n%c\r\n" % byte for byte in GOOD]
    assert status(exchange(engine, head, *chunks, b"0\r\n\r\n")) == 200


def test_pipelined_requests_are_answered_in_their_order(engine: Engine) -> None:
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = exchange(engine, health + post(GOOD) + health + last)
    found = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert found == [200, 200, 200, 404]


def test_a_bad_request_behind_a_good_one_does_not_spoil_its_answer(engine: Engine) -> None:
    answer = exchange(engine, post(GOOD) + b"rubbish\r\n\r\n")
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 400]


def test_a_flood_of_pipelined_requests_is_cut_off(engine: Engine) -> None:
    answer = exchange(engine, post(GOOD) * 200)
    found = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert found[-1] == 429
    assert len(found) < 200


def test_expect_100_continue_is_answered_before_the_body(engine: Engine) -> None:
    head, _, body = post(GOOD, CLOSE, b"Expect: 100-continue").partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", engine.port), timeout=20) as client:
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_head_has_no_body(engine: Engine) -> None:
    answer = exchange(engine, b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(answer) == 200
    assert answer.endswith(b"\r\n\r\n")


def test_clients_that_leave_at_any_moment_leave_nothing_behind(engine: Engine) -> None:
    """Each hangs up after another number of bytes, sent or received; then no slot, no descriptor is held."""
    engine.complete()
    held = engine.descriptors()
    body = json.dumps({"model": "demo", "prompt": "x", "max_tokens": 400, "stream": True, "ignore_eos": True}).encode()
    request = post(body)
    for number in range(60):
        with socket.create_connection(("127.0.0.1", engine.port), timeout=20) as client:
            if number % 2:
                client.sendall(request[: number * len(request) // 60])
            else:
                client.sendall(request)
                client.recv(number * 97 + 1)
    until(lambda: engine.loaded()["demo"]["busy"] == 0)
    until(lambda: engine.descriptors() <= held)
