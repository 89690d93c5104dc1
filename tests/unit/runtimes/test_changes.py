import pytest

from aistack.components.base import Health, InstalledProgram, Port, Service
from aistack.render import RenderedService
from aistack.runtimes.base import Change, Observed, State, Step, changes


def wanted(name: str) -> RenderedService:
    service = Service(name, name, InstalledProgram(name, ""), (), (Port("http", 1),), Health("/"))
    return RenderedService(service, (name,), {}, {}, (), (), restart_hash="R", reload_hash="L")


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (None, "start"),
        (Observed("missing"), "start"),
        (Observed("stopped", restart_hash="R", reload_hash="L"), "start"),
        (Observed("stopped", 7, 1.0, "R", "L", "unsupervised"), "start"),
        (Observed("stopped", 7, 1.0, "R", "old", "unsupervised"), "reload"),
        (Observed("stopped", 7, 1.0, "old", "L", "unsupervised"), "restart"),
        (Observed("failed", note="exited too quickly"), "restart"),
        (Observed("running", 7, 1.0, "R", "L"), "keep"),
        (Observed("starting", 7, 1.0, "R", "L"), "keep"),
        (Observed("running", 7, 1.0, "R", "old"), "reload"),
        (Observed("running", 7, 1.0, "old", "L"), "restart"),
        (Observed("running", 7, 1.0, "old", "old"), "restart"),
    ],
)
def test_the_gentlest_step_that_will_do_is_chosen(seen: Observed | None, step: Step) -> None:
    (change,) = changes([wanted("chat")], {} if seen is None else {"chat": seen})
    assert (change.service, change.step) == ("chat", step)
    assert change.why


def test_a_failure_is_told_in_the_supervisors_words() -> None:
    (change,) = changes([wanted("chat")], {"chat": Observed("failed", note="exited too quickly")})
    assert change.why == "exited too quickly"


@pytest.mark.parametrize("state", ["running", "starting", "stopped", "failed"])
def test_what_is_no_longer_wanted_goes_first(state: State) -> None:
    found = changes([wanted("chat"), wanted("nginx")], {"old": Observed(state)})
    assert [(change.service, change.step) for change in found] == [
        ("old", "stop"), ("chat", "start"), ("nginx", "start"),
    ]  # fmt: skip


def test_what_is_gone_already_needs_no_stop() -> None:
    assert changes([], {"old": Observed("missing")}) == ()


def test_steps_keep_the_order_of_the_plan() -> None:
    found = changes([wanted(name) for name in ("c", "a", "b")], {"a": Observed("running", 1, 1.0, "R", "L")})
    assert found == (
        Change("c", "start", "not running"),
        Change("a", "keep", "nothing to do"),
        Change("b", "start", "not running"),
    )
