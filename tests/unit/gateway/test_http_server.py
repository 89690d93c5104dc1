"""The server byte for byte, over real sockets; what it does with whole requests the contract suite asks."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from aistack.gateway.http_request import Request
from aistack.gateway.http_server import Handler, Server

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
TEXT = ((b"content-type", b"text/plain"),)


class Site:
    """A server that runs: `port`, and `stop` to end it; `ended` is done when it has."""

    def __init__(self, port: int, stop: asyncio.Event, ended: "asyncio.Task[None]") -> None:
        self.port = port
        self.stop = stop
        self.ended = ended
        self._clients: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._clients.append(writer)
        return reader, writer

    def leave(self) -> None:
        """Drop all connections."""
        for writer in self._clients:
            writer.transport.abort()

    async def say(self, data: bytes) -> bytes:
        """All that comes back, until the server closes."""
        reader, writer = await self.connect()
        writer.write(data)
        return await reader.read()


@contextlib.asynccontextmanager
async def site(handler: Handler, idle_s: float = 60, grace_s: float = 5) -> AsyncIterator[Site]:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    running = asyncio.create_task(Server(handler, idle_s=idle_s).serve(listener, stop, grace_s))
    made = Site(listener.getsockname()[1], stop, running)
    try:
        yield made
    finally:
        made.leave()
        stop.set()
        await running


def run(handler: Handler, scenario: Callable[[Site], Awaitable[None]], **more: float) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), site(handler, **more) as made:
            await scenario(made)

    asyncio.run(whole())


async def echo(request: Request) -> None:
    """Says the method, the path and the body."""
    body = b""
    while piece := await request.piece():
        body += piece
    request.answer(200, TEXT, b"%s %s %s" % (request.method.encode(), request.raw_path, body))


async def three(request: Request) -> None:
    """A stream of three pieces."""
    request.begin(200, TEXT)
    for piece in (b"one", b"two"):
        await request.write(piece)
    await request.end(b"three")


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


CLOSE = b"Connection: close"


def test_a_whole_answer_has_its_length_and_the_date() -> None:
    async def scenario(made: Site) -> None:
        answer = await made.say(post(b"/a%20b", b"body", CLOSE))
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 200 OK"
        assert {b"content-length: 16", b"connection: close", b"content-type: text/plain"} <= set(lines)
        assert any(line.startswith(b"date: ") and line.endswith(b" GMT") for line in lines)
        assert body == b"POST /a%20b body"

    run(echo, scenario)


def test_a_stream_is_chunked_and_the_connection_goes_on() -> None:
    async def scenario(made: Site) -> None:
        answer = await made.say(GET + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert answer.count(b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n") == 2

    run(three, scenario)


def test_http_1_0_gets_no_chunks_and_its_connection_ends() -> None:
    async def scenario(made: Site) -> None:
        answer = await made.say(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert answer.endswith(b"\r\n\r\nonetwothree")
        assert b"chunked" not in answer

    run(three, scenario)


@pytest.mark.parametrize("handler", [echo, three])
def test_head_gets_no_body(handler: Handler) -> None:
    async def scenario(made: Site) -> None:
        answer = await made.say(b"HEAD /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"\r\n\r\n")
        assert answer.count(b"\r\n\r\n") == 1

    run(handler, scenario)


def test_requests_sent_at_once_are_answered_in_their_order_one_at_a_time() -> None:
    working = 0

    async def slow(request: Request) -> None:
        nonlocal working
        working += 1
        assert working == 1
        await asyncio.sleep(0.01)
        working -= 1
        await echo(request)

    async def scenario(made: Site) -> None:
        sent = [post(b"/%d" % number, b"%d" % number) for number in range(20)]
        answer = await made.say(b"".join(sent) + post(b"/last", b"", CLOSE))
        said = [part.split(b"\r\n\r\n")[1].split(b"HTTP/")[0] for part in answer.split(b"200 OK\r\n")[1:]]
        assert said == [b"POST /%d %d" % (number, number) for number in range(20)] + [b"POST /last "]

    run(slow, scenario)


def test_a_client_that_asks_whether_to_send_is_told_when_the_body_is_wanted() -> None:
    async def scenario(made: Site) -> None:
        reader, writer = await made.connect()
        writer.write(post(b"/x", b"", b"Expect: 100-continue", CLOSE).replace(b"Length: 0", b"Length: 2"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.read()).endswith(b"POST /x ok")

    run(echo, scenario)


def test_whoever_is_not_told_to_send_a_body_is_not_asked_for_more() -> None:
    async def refusing(request: Request) -> None:
        request.answer(413, TEXT, b"no")

    async def scenario(made: Site) -> None:
        answer = await made.say(post(b"/x", b"", b"Expect: 100-continue").replace(b"Length: 0", b"Length: 2"))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer

    run(refusing, scenario)


def test_a_body_that_breaks_ends_its_request() -> None:
    over = asyncio.Event()

    async def reading(request: Request) -> None:
        try:
            await echo(request)
        except ConnectionResetError:
            over.set()

    async def scenario(made: Site) -> None:
        _, writer = await made.connect()
        writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"nonsense\r\n")
        await over.wait()

    run(reading, scenario)


@pytest.mark.parametrize(
    "request_text",
    [
        b"nonsense\r\n\r\n",
        b"GET /x HTTP/9.9\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /x HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET /x HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(request_text: bytes) -> None:
    async def scenario(made: Site) -> None:
        answer = await made.say(request_text)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"connection: close" in answer

    run(echo, scenario)


@pytest.mark.parametrize(
    "rest", [b"A: " + b"b" * 100_000, b"".join(b"A%d: b\r\n" % (number // 2) for number in range(20_000))]
)
def test_a_head_without_end_is_refused(rest: bytes) -> None:
    async def scenario(made: Site) -> None:
        assert (await made.say(b"GET /x HTTP/1.1\r\n" + rest)).startswith(b"HTTP/1.1 431 ")

    run(echo, scenario)


def test_a_body_may_be_longer_than_a_head() -> None:
    async def scenario(made: Site) -> None:
        body = b"b" * 3_000_000
        answer = await made.say(post(b"/x", body) + post(b"/y", b"", CLOSE))
        assert body in answer
        assert answer.endswith(b"POST /y ")

    run(echo, scenario)


def test_nonsense_behind_a_request_does_not_break_its_answer() -> None:
    async def slow(request: Request) -> None:
        await asyncio.sleep(0.05)
        await echo(request)

    async def scenario(made: Site) -> None:
        answer = await made.say(post(b"/x", b"body") + b"nonsense\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.endswith(b"POST /x body")

    run(slow, scenario)


def test_a_wish_for_another_protocol_is_answered_in_this_one() -> None:
    async def scenario(made: Site) -> None:
        asked = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
        answer = await made.say(asked)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"GET /x ")

    run(echo, scenario)


def test_the_handler_learns_that_its_client_has_gone() -> None:
    seen: list[bool] = []
    over = asyncio.Event()

    async def waiting(request: Request) -> None:
        left = asyncio.Event()
        request.on_gone = left.set
        await left.wait()
        request.answer(200, TEXT, b"nobody reads this")
        seen.append(request.gone and not request.answered)
        over.set()

    async def scenario(made: Site) -> None:
        _, writer = await made.connect()
        writer.write(GET)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await over.wait()
        assert seen == [True]

    run(waiting, scenario)


def test_a_client_that_leaves_in_the_middle_of_its_body_breaks_the_reading_of_it() -> None:
    broken = asyncio.Event()

    async def reading(request: Request) -> None:
        try:
            await echo(request)
        except ConnectionResetError:
            broken.set()

    async def scenario(made: Site) -> None:
        _, writer = await made.connect()
        writer.write(post(b"/x", b"a").replace(b"Length: 1", b"Length: 9"))
        await asyncio.sleep(0.05)
        writer.close()
        await broken.wait()

    run(reading, scenario)


def test_a_stream_waits_for_a_client_that_reads_slowly() -> None:
    written = 0

    async def endless(request: Request) -> None:
        nonlocal written
        request.begin(200, TEXT)
        for _ in range(10_000):
            await request.write(b"x" * 10_000)
            written += 10_000
        await request.end()

    async def scenario(made: Site) -> None:
        reader, writer = await made.connect()
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.2)
        assert written < 50_000_000

    run(endless, scenario)


def test_whoever_reads_no_answers_gets_no_more_of_them() -> None:
    answered = 0

    async def large(request: Request) -> None:
        nonlocal answered
        answered += 1
        request.answer(200, TEXT, b"x" * 1_000_000)

    async def scenario(made: Site) -> None:
        _, writer = await made.connect()
        writer.write(GET * 200)
        before = -1
        while before != answered:
            before = answered
            await asyncio.sleep(0.2)
        assert 0 < answered < 50

    run(large, scenario)


def test_a_body_that_nobody_takes_is_not_read_into_memory() -> None:
    async def idle(request: Request) -> None:
        left = asyncio.Event()
        request.on_gone = left.set
        await left.wait()

    async def scenario(made: Site) -> None:
        _, writer = await made.connect()
        writer.write(post(b"/x", b"").replace(b"Length: 0", b"Length: 100000000"))

        async def send_all() -> None:
            for _ in range(100):
                writer.write(b"x" * 1_000_000)
                await writer.drain()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send_all(), 0.5)

    run(idle, scenario, grace_s=0.1)


@pytest.mark.parametrize("ends", [False, True])
def test_an_answer_that_is_not_whole_is_cut(ends: bool) -> None:
    async def failing(request: Request) -> None:
        request.begin(200, TEXT)
        await request.write(b"one")
        if not ends:
            raise ValueError

    async def scenario(made: Site) -> None:
        reader, writer = await made.connect()
        writer.write(GET)
        answer = await reader.readuntil(b"one\r\n")
        with contextlib.suppress(ConnectionResetError):
            answer += await reader.read()
        assert answer.endswith(b"one\r\n")

    run(failing, scenario)


def test_a_connection_on_which_nothing_happens_is_closed() -> None:
    async def scenario(made: Site) -> None:
        reader, writer = await made.connect()
        writer.write(GET)
        assert (await reader.read()).endswith(b"GET /x ")

    run(echo, scenario, idle_s=0.1)


def test_an_answer_that_takes_long_is_not_idleness() -> None:
    async def slow(request: Request) -> None:
        await asyncio.sleep(0.5)
        await echo(request)

    async def scenario(made: Site) -> None:
        assert (await made.say(GET)).endswith(b"GET /x ")

    run(slow, scenario, idle_s=0.1)


def test_at_the_end_idle_connections_close_and_answers_come_to_theirs() -> None:
    async def slow(request: Request) -> None:
        request.begin(200, TEXT)
        await asyncio.sleep(0.3)
        await request.end(b"done")

    async def scenario(made: Site) -> None:
        idle, _ = await made.connect()
        await asyncio.sleep(0.05)
        busy = asyncio.create_task(made.say(GET))
        await asyncio.sleep(0.1)
        made.stop.set()
        assert await idle.read() == b""
        assert (await busy).endswith(b"4\r\ndone\r\n0\r\n\r\n")
        await made.ended
        with pytest.raises(ConnectionRefusedError):
            await made.connect()

    run(slow, scenario)


def test_what_is_not_done_after_the_time_for_it_is_cut() -> None:
    async def endless(request: Request) -> None:
        request.begin(200, TEXT)
        await asyncio.Event().wait()

    async def scenario(made: Site) -> None:
        reader, writer = await made.connect()
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        made.stop.set()
        await made.ended

    run(endless, scenario, grace_s=0.1)


def test_a_header_that_comes_twice_is_told() -> None:
    seen: list[set[bytes]] = []

    async def looking(request: Request) -> None:
        seen.append(set(request.repeated))
        await echo(request)

    async def scenario(made: Site) -> None:
        await made.say(b"GET /x HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\nConnection: close\r\n\r\n")
        await made.say(b"GET /x HTTP/1.1\r\nA: 1\r\nConnection: close\r\n\r\n")
        assert seen == [{b"a"}, set()]

    run(looking, scenario)
