import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from aistack.gateway.http_client import Answer, HttpClient

HEAD = b"POST /x HTTP/1.1\r\nhost: x\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers every request on a connection with the next of `answers`; None hangs up instead.

    `connections` counts those taken; `requests` are the bytes of each request as they came.
    """

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.requests: list[bytes] = []

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.answers and (request := await reader.read(65536)):
            while b"chunked" in request and not request.endswith(b"0\r\n\r\n"):
                request += await reader.read(65536)
            self.requests.append(request)
            answer = self.answers.pop(0)
            if answer is None:
                break
            writer.write(answer)
            await writer.drain()
        writer.close()


def client(server: Server, **more: float) -> HttpClient:
    return HttpClient(server.url, **{"connect_s": 5.0, "silence_s": 5.0, "idle_s": 4.0, **more})


async def asked(to: HttpClient, body: bytes | AsyncIterator[bytes] | None = b"{}", **more: bool) -> tuple[int, bytes]:
    answer = await to.send(HEAD, body, **more)
    try:
        return answer.status, await answer.read()
    finally:
        answer.close()


def served(*answers: bytes | None) -> Callable[[Callable[[Server], Awaitable[None]]], None]:
    """Runs a scenario with a server that gives these answers."""

    def run(scenario: Callable[[Server], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with Server(*answers) as server:
                await asyncio.wait_for(scenario(server), 20)

        asyncio.run(whole())

    return run


def test_one_connection_serves_one_request_after_the_other() -> None:
    @served(OK, OK)
    async def _(server: Server) -> None:
        to = client(server)
        assert [await asked(to), await asked(to)] == [(200, b"ok")] * 2
        assert server.connections == 1
        assert server.requests[0] == HEAD + b"content-length: 2\r\n\r\n{}"


def test_a_kept_connection_that_the_peer_closed_is_replaced_without_a_word() -> None:
    @served(OK, None, OK)
    async def _(server: Server) -> None:
        to = client(server)
        assert await asked(to) == (200, b"ok")
        assert await asked(to) == (200, b"ok")
        assert server.connections == 2


def test_a_fresh_connection_that_the_peer_closes_is_a_failure() -> None:
    @served(None, OK)
    async def _(server: Server) -> None:
        with pytest.raises(OSError, match="closed"):
            await asked(client(server))
        assert len(server.requests) == 1


def test_a_connection_that_lay_idle_for_too_long_is_not_used_again() -> None:
    @served(OK, OK)
    async def _(server: Server) -> None:
        to = client(server, idle_s=0.0)
        assert [await asked(to), await asked(to)] == [(200, b"ok")] * 2
        assert server.connections == 2


def test_chunks_come_as_they_are_sent_and_headers_in_lower_case() -> None:
    @served(CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    async def _(server: Server) -> None:
        answer = await client(server).send(HEAD, b"")
        assert answer.content_type == "text/event-stream"
        assert answer.headers["transfer-encoding"] == "chunked"
        assert b"".join([piece async for piece in answer.pieces()]) == b"onetwo"


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"3\r\nonly\r\n",
        CHUNKED + b"3\r\none\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
    ],
)
def test_a_body_that_breaks_off_is_a_failure(answer: bytes) -> None:
    @served(answer)
    async def _(server: Server) -> None:
        with pytest.raises(OSError, match=r"closed|HTTP"):
            await asked(client(server))


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    @served(b"HTTP/1.1 200 OK\r\n\r\nall there is")
    async def _(server: Server) -> None:
        assert await asked(client(server)) == (200, b"all there is")


def test_an_answer_to_continue_is_not_the_answer() -> None:
    @served(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    async def _(server: Server) -> None:
        assert await asked(client(server)) == (200, b"ok")


def test_an_answer_to_head_has_no_body() -> None:
    @served(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", OK)
    async def _(server: Server) -> None:
        to = client(server)
        assert await asked(to, None, has_body=False) == (200, b"")
        assert await asked(to) == (200, b"ok")


def test_a_body_may_be_sent_in_pieces() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b""
        yield b"two"

    @served(OK)
    async def _(server: Server) -> None:
        assert await asked(client(server), parts()) == (200, b"ok")
        assert server.requests[0].endswith(b"chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize("hangs_up", [False, True])
def test_an_answer_before_all_was_sent_ends_the_sending(*, hangs_up: bool) -> None:
    sent = 0
    over = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 100_000
            await asyncio.sleep(0)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno")
        if hangs_up:
            writer.write_eof()
        await over.wait()
        writer.transport.abort()

    async def whole() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        to = HttpClient(url, connect_s=5, silence_s=5, idle_s=4)
        assert await asyncio.wait_for(asked(to, endless()), 4) == (400, b"no")
        over.set()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(whole())
    assert sent < 1000


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, b"\0" * 100])
def test_a_peer_that_speaks_no_http_is_a_failure(nonsense: bytes) -> None:
    @served(nonsense)
    async def _(server: Server) -> None:
        with pytest.raises(OSError, match=r"HTTP|no end"):
            await asked(client(server))


@pytest.mark.parametrize("more", [OK, b"HTTP", b"\r\nmore"])
def test_what_a_peer_sends_out_of_turn_is_nobodys_answer(more: bytes) -> None:
    @served(OK + more, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nmine!")
    async def _(server: Server) -> None:
        to = client(server)
        assert (await asked(to))[1] == b"ok"
        assert (await asked(to))[1] == b"mine!"
        assert server.connections == 2


def test_a_silent_peer_is_given_up() -> None:
    @served(b"", CHUNKED + b"3\r\none\r\n")
    async def _(server: Server) -> None:
        with pytest.raises(TimeoutError):
            await asked(client(server, silence_s=0.1))


def test_nobody_there_is_a_failure() -> None:
    @served()
    async def _(server: Server) -> None:
        to = client(server)
        await server.__aexit__()
        with pytest.raises(OSError, match=r"refused|failed"):
            await asked(to)


def test_a_peer_is_made_to_wait_while_nobody_takes_what_it_sends() -> None:
    size = 20_000_000

    @served(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    async def _(server: Server) -> None:
        answer: Answer = await client(server).send(HEAD, b"")
        held = answer._connection
        for _ in range(200):
            await asyncio.sleep(0.01)
            if held._paused:
                break
        assert held._paused
        assert held._size < 2_000_000
        assert len(await answer.read()) == size
