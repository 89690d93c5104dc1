"""The clients: one program that sends what it is told to and says what came back, as JSON lines.

    python -m benchmarks.gateway.load < ORDER

A single thread, so that everything it measures is what one core sees; it also tells how much of that core it used.
"""

import asyncio
import itertools
import re
import sys
import time
from dataclasses import asdict
from typing import cast

import httptools
import orjson
import uvloop

from benchmarks.gateway.orders import Counts, Order, Result

_NUMBER = re.compile(rb" t(\d{6})")
_PATIENCE_S = 120.0


class Client(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self) -> None:
        self.status = 0
        self.numbers: list[int] = []
        self.arrivals: list[float] = []
        self.first_at = 0.0
        self.body_start = b""
        self._tail = b""
        self._clock = time.perf_counter
        self._waiting: asyncio.Future[None] | None = None
        self._streamed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _: Exception | None) -> None:
        """The other side has closed: the request under way has failed."""
        self._done(broken=True)

    def ask(self, request: bytes, *, streamed: bool) -> "asyncio.Future[None]":
        """Send a request; the future is done with its answer, `status` is then 0 when that was cut off."""
        self.status = 0
        self.first_at = 0.0
        self.body_start = self._tail = b""
        self._streamed = streamed
        self._waiting = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self.sent_at = self._clock()
        if self.transport.is_closing():
            self._done(broken=True)
        else:
            self.transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Some of an answer's body."""
        if not self._streamed:
            return
        if not self.body_start:
            self.body_start = body
        text = self._tail + body if self._tail else body
        now = self._clock()
        end = 0
        for found in _NUMBER.finditer(text):
            if not self.first_at:
                self.first_at = now
            self.numbers.append(int(found[1]))
            self.arrivals.append(now)
            end = found.end()
        # A number may have been cut in two.
        self._tail = text[max(end, len(text) - 7) :]

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._done(broken=False)

    def _done(self, *, broken: bool) -> None:
        self.status = 0 if broken else self._parser.get_status_code()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


async def _connected(port: int) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


def _request(port: int, path: str, body: str, authorization: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    if authorization:
        head += f"Authorization: {authorization}\r\n"
    payload = body.encode()
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


async def _whole(order: Order) -> Counts:
    """Closed loop: every client always has one request under way."""
    result = Counts()
    request = _request(order.port, order.path, order.body, order.authorization)
    began = time.perf_counter()
    left = order.requests or sys.maxsize

    async def client_loop() -> None:
        nonlocal left
        client = await _connected(order.port)
        while left > 0 and (not order.seconds or time.perf_counter() - began < order.seconds):
            left -= 1
            await client.ask(request, streamed=False)
            result.requests += 1
            if client.status != 200:
                result.failed += 1
                result.example = f"status {client.status}"
                if client.transport.is_closing():
                    client = await _connected(order.port)
            if len(result.times_ms) < 200_000:
                result.times_ms.append((time.perf_counter() - client.sent_at) * 1000)
        client.transport.close()

    await asyncio.gather(*(client_loop() for _ in range(order.clients)))
    result.seconds = time.perf_counter() - began
    return result


async def _streams(order: Order) -> Counts:
    """One stream a client, begun one after the other over the time between two pieces."""
    result = Counts()
    request = _request(order.port, order.path, order.body, order.authorization)
    clients = [await _connected(order.port) for _ in range(order.clients)]
    began = time.perf_counter()

    async def stream(number: int, client: Client) -> None:
        await asyncio.sleep(number / order.clients / max(order.rate, 1))
        await client.ask(request, streamed=True)

    await asyncio.wait_for(
        asyncio.gather(*(stream(number, client) for number, client in enumerate(clients))),
        _PATIENCE_S + order.chunks / max(order.rate, 1),
    )
    result.seconds = time.perf_counter() - began
    for client in clients:
        _judge(client, order.chunks, result)
        client.transport.close()
    return result


def _judge(client: Client, chunks: int, result: Counts) -> None:
    result.requests += 1
    if client.status != 200:
        result.failed += 1
        result.example = f"status {client.status}: {client.body_start[:200]!r}"
    # A surface may tell the whole text once more at the end.
    numbers, arrivals = client.numbers[:chunks], client.arrivals[:chunks]
    result.chunks += len(numbers)
    result.lost += chunks - len(set(numbers) & set(range(chunks)))
    result.reordered += sum(later <= earlier for earlier, later in itertools.pairwise(numbers))
    result.gaps_ms += [(later - earlier) * 1000 for earlier, later in itertools.pairwise(arrivals)]
    if arrivals:
        result.times_ms.append((arrivals[0] - client.sent_at) * 1000)


async def _first(order: Order) -> Counts:
    """Alternately to both, so that both see the same machine."""
    result = Counts()
    ways = [
        (await _connected(order.port), _request(order.port, order.path, order.body, order.authorization),
         result.times_ms),
        (await _connected(order.other_port), _request(order.other_port, order.other_path, order.other_body, ""),
         result.other_times_ms),
    ]  # fmt: skip
    began = time.perf_counter()
    for _ in range(order.requests):
        for client, request, times in ways:
            await client.ask(request, streamed=True)
            result.requests += 1
            if client.status != 200 or not client.first_at:
                result.failed += 1
                result.example = f"status {client.status}: {client.body_start[:200]!r}"
            times.append((client.first_at - client.sent_at) * 1000)
    result.seconds = time.perf_counter() - began
    for client, _, _ in ways:
        client.transport.close()
    return result


_KINDS = {"whole": _whole, "streams": _streams, "first": _first}


async def carried_out(order: Order) -> Result:
    """Do what the order says. Raises OSError when nobody listens, TimeoutError when streams do not end."""
    cpu = time.process_time()
    counts = await _KINDS[order.kind](order)
    return counts.result(time.process_time() - cpu)


def main() -> None:
    """Carry out the one order on standard input."""
    result = uvloop.run(carried_out(Order(**orjson.loads(sys.stdin.buffer.read()))))
    print(orjson.dumps(asdict(result)).decode())


if __name__ == "__main__":
    main()
