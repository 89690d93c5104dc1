import asyncio
from typing import Any

import pytest

from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes
from aistack.gateway.refusals import Refusal, node_down
from aistack.gateway.settings import Node, NodeKind


class ScriptedPeer:
    """Answers `/v1/models` with what it is told, or fails with it."""

    def __init__(self, name: str, *models: str, kind: NodeKind = "llamacpp") -> None:
        self.node = Node(name, kind, f"http://{name}")
        self.answer: Any = {"data": [{"id": model} for model in models]}
        self.asked = 0
        self.turns = 1

    async def json(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Any:
        self.asked += 1
        answer = self.answer
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def nodes_of(*peers: ScriptedPeer, default_models: tuple[str, ...] = ()) -> Nodes:
    nodes = Nodes([NodeState(peer) for peer in peers], default_models)  # type: ignore[arg-type]
    for state in nodes.states:
        await state.check()
    return nodes


def test_the_lists_are_merged_the_default_models_first_and_the_first_node_wins() -> None:
    async def scenario() -> None:
        nodes = await nodes_of(ScriptedPeer("a", "x", "y"), ScriptedPeer("b", "y:latest", "z"), default_models=("z",))
        found = [(state.name, model.id) for state, model in await nodes.models()]
        assert found == [("b", "z"), ("a", "x"), ("a", "y")]
        state, model = await nodes.find("y:latest")
        assert (state.name, model.id) == ("a", "y")

    asyncio.run(scenario())


def test_a_node_that_went_down_passes_its_models_to_the_next() -> None:
    async def scenario() -> None:
        first, second = ScriptedPeer("a", "x", "y"), ScriptedPeer("b", "x")
        nodes = await nodes_of(first, second)
        first.answer = node_down("a")
        await nodes.states[0].check()
        state, _ = await nodes.find("x")
        assert state.name == "b"
        with pytest.raises(Refusal) as refused:
            await nodes.find("y")
        assert (refused.value.status, refused.value.node) == (503, "a")
        with pytest.raises(Refusal) as refused:
            await nodes.find("w")
        assert refused.value.status == 404

    asyncio.run(scenario())


def test_models_that_only_a_drained_node_has_are_not_listed() -> None:
    async def scenario() -> None:
        nodes = await nodes_of(ScriptedPeer("a", "x", "y"), ScriptedPeer("b", "x"))
        nodes.drain({"a"})
        assert [(state.name, model.id) for state, model in await nodes.models()] == [("b", "x")]
        nodes.drain(())
        assert [model.id for _, model in await nodes.models()] == ["x", "y"]

    asyncio.run(scenario())


def test_before_any_node_answered_a_model_is_not_unknown_but_unavailable() -> None:
    async def scenario() -> None:
        peer = ScriptedPeer("a")
        peer.answer = node_down("a")
        nodes = await nodes_of(peer)
        assert not nodes.any_up
        with pytest.raises(Refusal) as refused:
            await nodes.find("x")
        assert refused.value.status == 503

    asyncio.run(scenario())


def test_a_node_that_is_slow_to_answer_is_down_only_after_three_checks() -> None:
    async def scenario() -> None:
        peer = ScriptedPeer("a", "x")
        nodes = await nodes_of(peer)
        state = nodes.states[0]
        peer.answer = Refusal(504, "too slow")
        seen = []
        for _ in range(3):
            await state.check()
            seen.append(state.up)
        assert seen == [True, True, False]

    asyncio.run(scenario())


OF_MILLISECONDS = {"data": [{"id": "x", "created": 1_700_000_000_000}]}
WITHOUT_NAMES = {"models": [{"model": 5}]}


@pytest.mark.parametrize("answer", [{}, [], {"data": [{}]}, {"data": ["x"]}, None, "x", OF_MILLISECONDS, WITHOUT_NAMES])
def test_a_node_that_answers_nonsense_is_down(answer: Any) -> None:
    async def scenario() -> None:
        peer = ScriptedPeer("a", kind="ollama" if answer is WITHOUT_NAMES else "llamacpp")
        peer.answer = {"data": [], "models": []}
        nodes = await nodes_of(peer)
        peer.answer = answer
        await nodes.states[0].check()
        assert not nodes.any_up
        assert nodes.states[0].problem.startswith("its list of models cannot be read: ")

    asyncio.run(scenario())


def test_a_node_is_checked_on_whatever_goes_wrong() -> None:
    async def scenario() -> None:
        peer = ScriptedPeer("a", "x")
        nodes = Nodes([NodeState(peer)])  # type: ignore[arg-type]
        failing = True

        def changed() -> None:
            if failing:
                raise ZeroDivisionError

        nodes.notify(changed)
        await nodes.watch()
        assert nodes.any_up
        failing = False
        peer.answer = node_down("a")
        async with asyncio.timeout(20):
            while nodes.any_up:  # noqa: ASYNC110 - the watcher tells nobody
                await asyncio.sleep(0.05)
        for watcher in nodes._watchers.values():
            watcher.cancel()

    asyncio.run(scenario())


def test_a_model_that_is_missing_is_looked_for_again_but_not_by_every_request() -> None:
    async def scenario() -> None:
        peer = ScriptedPeer("a", "x")
        nodes = await nodes_of(peer)
        nodes.states[0].checked_at -= 5
        peer.answer = {"data": [{"id": "new"}]}
        state, _ = await nodes.find("new")
        assert state.name == "a"
        asked = peer.asked
        for _ in range(5):
            with pytest.raises(Refusal):
                await nodes.find("nobody")
        assert peer.asked == asked

    asyncio.run(scenario())


def test_checks_wanted_at_the_same_time_are_one() -> None:
    async def scenario() -> None:
        peer = ScriptedPeer("a", "x")
        nodes = await nodes_of(peer)
        before = peer.asked
        await asyncio.gather(*(nodes.states[0].check() for _ in range(10)))
        assert peer.asked == before + 1

    asyncio.run(scenario())


def test_a_change_outdates_the_check_that_runs_while_it_is_made() -> None:
    async def scenario() -> None:
        peer = ScriptedPeer("a", "x")
        nodes = await nodes_of(peer)
        peer.turns = 100
        early = asyncio.ensure_future(nodes.states[0].check())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert peer.asked == 2
        nodes.states[0].outdate()
        peer.turns, peer.answer = 1, {"data": [{"id": "new"}]}
        await nodes.find("new")
        await early
        assert nodes.states[0].has("new")

    asyncio.run(scenario())
