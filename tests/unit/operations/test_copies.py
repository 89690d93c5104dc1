"""What is looked at before another user's stack is copied to root's places."""

import os
from pathlib import Path

import pytest

from aistack.config.paths import Paths
from aistack.errors import UserError
from aistack.operations.copies import plan_copies, refuse_foreign
from aistack.operations.stack import Stack, open_stack


@pytest.fixture
def two(tmp_path: Path) -> tuple[Stack, Stack]:
    """A user's stack with some data, and the place that it is to be moved to."""
    old = Paths(tmp_path / "hers/config", tmp_path / "hers/data")
    old.config.mkdir(parents=True)
    old.stack_toml.write_text(f'[paths]\nprograms = "{tmp_path}/programs"\n')
    stack = open_stack(old)
    stack.runtime.state("gateway", "data").mkdir(parents=True)
    (stack.runtime.state("gateway", "data") / "gateway.db").write_text("keys")
    return stack, open_stack(Paths(tmp_path / "roots/config", tmp_path / "roots/data"), like=stack)


def refused(old: Stack, new: Stack) -> str:
    with pytest.raises(UserError) as caught:
        refuse_foreign(old, new, plan_copies(old, new))
    return caught.value.message


def test_a_stack_that_needs_nothing_else_of_its_user_is_taken(two: tuple[Stack, Stack]) -> None:
    old, new = two
    refuse_foreign(old, new, plan_copies(old, new))


def test_a_stack_that_is_there_already_is_not_replaced(two: tuple[Stack, Stack]) -> None:
    old, new = two
    new.paths.config.mkdir(parents=True)
    new.paths.stack_toml.write_text("")
    assert f"there is a {new.paths.stack_toml} already" in refused(old, new)


def test_data_that_are_there_already_are_not_replaced(two: tuple[Stack, Stack]) -> None:
    old, new = two
    there = new.runtime.state("gateway", "data")
    there.mkdir(parents=True)
    refuse_foreign(old, new, plan_copies(old, new))
    (there / "gateway.db").write_text("others")
    assert f"{there} holds data already" in refused(old, new)


def test_a_link_to_what_is_not_the_users_is_not_followed(two: tuple[Stack, Stack], tmp_path: Path) -> None:
    old, new = two
    (tmp_path / "private").mkdir()
    planned = old.runtime.state("gateway", "data")
    (planned / "gateway.db").unlink()
    planned.rmdir()
    planned.symlink_to(tmp_path / "private")
    assert f"{planned} leads out of {old.paths.data}" in refused(old, new)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_programs_that_the_user_could_change_are_not_run_for_root(two: tuple[Stack, Stack], tmp_path: Path) -> None:
    old, new = two
    (tmp_path / "programs").mkdir()
    os.chown(tmp_path / "programs", 1000, 1000)
    assert f"is {tmp_path}/programs, which is not root's" in refused(old, new)
