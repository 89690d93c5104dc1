"""What administrators change counts in this gateway when they are answered, and soon in others: in every database."""

import asyncio
from functools import partial

import pytest

from aistack.gateway.administration import Administration
from aistack.gateway.draining import draining
from aistack.gateway.key_ring import KeyRing
from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes
from aistack.gateway.refusals import Refusal
from aistack.gateway.settings import Node
from aistack.gateway.state import drained
from aistack.gateway.upstream import Peer

from .conftest import OpenDatabase


def test_a_change_of_a_key_counts_when_it_is_answered(open_database: OpenDatabase) -> None:
    async def scenario() -> None:
        database = open_database()
        ring = KeyRing(database)
        administration = Administration(database, ring)
        store = administration.store
        for number in range(20):
            plain, key = await administration.change(partial(store.create, f"key{number}"))
            assert ring.find(plain)
            await administration.change(partial(store.update, key.id, {"models": ["demo"]}))
            changed = ring.find(plain)
            assert changed is not None
            assert changed.models == {"demo"}
            second, _ = await administration.change(partial(store.rotate, key.id))
            assert (ring.find(plain), ring.find(second)) == (None, changed)
            await administration.change(partial(store.revoke, key.id))
            assert ring.find(second) is None
        ring.close()

    asyncio.run(scenario())


def nodes_called(*names: str) -> Nodes:
    return Nodes([NodeState(Peer(Node(name, "openai", "http://127.0.0.1:9"))) for name in names])


def draining_in(nodes: Nodes) -> list[str]:
    return [state.name for state in nodes.states if state.draining]


async def until(nodes: Nodes, names: list[str]) -> None:
    """Return when the nodes with these names are drained."""
    changed = asyncio.Event()
    nodes.notify(changed.set)
    async with asyncio.timeout(10):
        while draining_in(nodes) != names:
            changed.clear()
            await changed.wait()


def test_a_drained_node_is_so_at_once_here_soon_elsewhere_and_after_a_restart(open_database: OpenDatabase) -> None:
    async def scenario() -> None:
        here, there = nodes_called("a", "b"), nodes_called("b", "c")
        database, another = open_database(), open_database()
        ring, distant = KeyRing(database, also=draining(here)), KeyRing(another, also=draining(there))
        looking = asyncio.ensure_future(distant.keep_looking())
        administration = Administration(database, ring)
        await administration.drain("b")
        assert draining_in(here) == ["b"]
        await until(there, ["b"])
        await administration.drain("b")
        later = nodes_called("b")
        KeyRing(open_database(), also=draining(later)).close()
        assert draining_in(later) == ["b"]
        await administration.resume("b")
        assert draining_in(here) == []
        await until(there, [])
        looking.cancel()
        ring.close()
        distant.close()

    asyncio.run(scenario())


def test_draining_twice_and_resuming_twice_is_no_news(open_database: OpenDatabase) -> None:
    database = open_database()
    assert [drained.drain(database, "a"), drained.drain(database, "a")] == [True, False]
    assert [drained.resume(database, "a"), drained.resume(database, "a")] == [True, False]


def test_without_the_database_an_administrator_is_told_to_come_back(open_database: OpenDatabase) -> None:
    async def scenario() -> None:
        database = open_database()
        ring = KeyRing(open_database())
        administration = Administration(database, ring)
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE keys RENAME TO gone")
        for work in (administration.store.list, partial(administration.store.create, "laptop")):
            with pytest.raises(Refusal) as refused:
                await administration.change(work)
            assert (refused.value.status, refused.value.code) == (503, "database_unavailable")
            assert (b"retry-after", b"5") in refused.value.headers
        ring.close()

    asyncio.run(scenario())
