"""The benchmark's clients notice what a proxy may do to a stream, so that `none lost` means something."""

import asyncio

import pytest
from benchmarks.gateway.load import carried_out
from benchmarks.gateway.orders import Order, Result


def served(pieces: list[bytes], kind: str = "streams", head: bytes = b"200 OK", **more: int) -> Result:
    """What a client of one request says of a server that writes `pieces`, each on its own, as chunks."""

    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n" % head)
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def talk() -> Result:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            result = await carried_out(Order(kind, port, "/", "", **more))
            await closed.wait()
            return result

    return asyncio.run(talk())


def texts(*numbers: int) -> list[bytes]:
    return [b'data: {"text":" t%06d"}\n\n' % number for number in numbers]


@pytest.mark.parametrize(
    ("numbers", "lost", "reordered"),
    [
        ((0, 1, 2, 3), 0, 0),
        ((0, 1, 3), 1, 0),
        ((0, 2, 1, 3), 0, 1),
        ((0, 1, 1, 2, 3), 1, 1),
        ((), 4, 0),
        # Once more at the end, as some surfaces tell it: no fault of anybody's.
        ((0, 1, 2, 3, 0, 1, 2, 3), 0, 0),
        ((0, 1, 3, 0, 1, 3), 1, 1),
    ],
)
def test_pieces_that_are_missing_or_in_the_wrong_place_are_counted(
    numbers: tuple[int, ...], lost: int, reordered: int
) -> None:
    result = served(texts(*numbers), chunks=4)
    assert (result.lost, result.reordered, result.failed) == (lost, reordered, 0)


@pytest.mark.parametrize("at", range(1, 30))
def test_a_piece_that_is_cut_anywhere_counts_once(at: int) -> None:
    text = b"".join(texts(0, 1))
    result = served([text[:at], text[at:]], chunks=2)
    assert (result.chunks, result.lost, result.reordered) == (2, 0, 0)


def test_an_answer_with_another_status_is_a_failure() -> None:
    result = served([b"no"], head=b"429 Too Many Requests", chunks=1)
    assert result.failed == 1
    assert "429" in result.example


def test_whole_answers_are_counted_by_their_status() -> None:
    assert served([b"fine"], "whole", requests=1).failed == 0
    assert served([b"no"], "whole", b"500 Oh", requests=1).failed == 1
