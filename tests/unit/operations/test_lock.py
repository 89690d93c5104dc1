from pathlib import Path

import pytest

from aistack.errors import UserError
from aistack.operations.lock import changing


def test_two_changes_at_once_are_refused(tmp_path: Path) -> None:
    with (
        changing(tmp_path / "run"),
        pytest.raises(UserError, match="another aistack command"),
        changing(tmp_path / "run"),
    ):
        pass
    with changing(tmp_path / "run"):
        pass


def test_a_lock_that_cannot_be_opened_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "run" / "change.lock").mkdir(parents=True)
    with pytest.raises(UserError, match=r"run/change\.lock"), changing(tmp_path / "run"):
        pass
