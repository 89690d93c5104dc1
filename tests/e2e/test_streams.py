"""What people have under way while the stack is changed: no stream is cut, and nobody waits for long."""

import asyncio
import json
import ssl
import time
from dataclasses import dataclass

import aiohttp
from stacks import RealStack

STREAMS = 200
TOKENS = 400


@dataclass
class Stream:
    """One streamed answer, as far as it has come."""

    pieces: int = 0
    whole: bool = False


async def _read(session: aiohttp.ClientSession, url: str, stream: Stream, begun: asyncio.Event) -> None:
    wish = {
        "model": "demo", "stream": True, "max_tokens": TOKENS, "ignore_eos": True,
        "messages": [{"role": "user", "content": "Tell me a long story."}],
    }  # fmt: skip
    async with session.post(f"{url}/v1/chat/completions", json=wish) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if line.startswith(b"data: {"):
                stream.pieces += bool(json.loads(line[6:])["choices"][0]["delta"].get("content"))
            begun.set()
            stream.whole = stream.whole or line.startswith(b"data: [DONE]")


def _session(stack: RealStack, key: str) -> aiohttp.ClientSession:
    """A connection a request: what nginx closes at a reload is an idle one, and a client that had just written to it
    cannot know whether it was read. Clients that keep connections ask again, which would hide a cut stream here."""
    tls = ssl.create_default_context(cafile=stack.ca)
    connector = aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls)
    return aiohttp.ClientSession(
        connector=connector, headers={"Authorization": f"Bearer {key}"}, timeout=aiohttp.ClientTimeout(total=280)
    )


def test_streams_that_run_while_the_proxy_is_changed_all_come_to_their_end(stack: RealStack) -> None:
    key, streams, changed = stack.key("streams"), list[Stream](), asyncio.Event()

    async def change(begun: asyncio.Event) -> int:
        """Returns how many streams were under way when the change was done."""
        await begun.wait()
        stack.settings["proxy.limits.api_burst"] = 1001
        stack.write()
        try:
            done = await asyncio.to_thread(stack.run, "up")
        finally:
            changed.set()
        assert "nginx: reloading" in done.stderr
        return sum(not stream.whole for stream in streams)

    async def listen(session: aiohttp.ClientSession, begun: asyncio.Event) -> None:
        """One stream after the other, so that all are under way for as long as the change takes."""
        while not changed.is_set():
            streams.append(Stream())
            await _read(session, stack.url, streams[-1], begun)

    async def all_together() -> int:
        begun = asyncio.Event()
        async with _session(stack, key) as session:
            changing = asyncio.ensure_future(change(begun))
            await asyncio.gather(*(listen(session, begun) for _ in range(STREAMS)))
            return await changing

    under_way = asyncio.run(all_together())
    assert under_way > STREAMS / 2, "they were not there when the proxy changed"
    assert all(stream.whole and stream.pieces == TOKENS for stream in streams)


def test_while_the_gateway_is_replaced_requests_are_told_to_come_again(stack: RealStack) -> None:
    key = stack.key("patient")
    seen: list[tuple[float, int, str | None]] = []

    async def ask_all_the_time() -> None:
        async with _session(stack, key) as session:
            replacing = asyncio.ensure_future(asyncio.to_thread(stack.run, "restart", "gateway"))
            # In containers it may have another address, which nginx asks for every two seconds.
            patience = 5.0
            while not replacing.done() or (seen[-1][1] != 200 and patience > 0):
                start = time.monotonic()
                async with session.get(f"{stack.url}/v1/models") as answer:
                    await answer.read()
                    seen.append((time.monotonic() - start, answer.status, answer.headers.get("Retry-After")))
                await asyncio.sleep(0.01)
                patience -= time.monotonic() - start if replacing.done() else 0
            await replacing

    asyncio.run(ask_all_the_time())
    statuses = [status for _, status, _ in seen]
    assert set(statuses) <= {200, 503}
    assert all(retry_after for _, status, retry_after in seen if status == 503)
    assert max(took for took, _, _ in seen) < 5
    assert statuses[-1] == 200
    print(f"\n{statuses.count(503)} of {len(statuses)} requests were told to come again")
