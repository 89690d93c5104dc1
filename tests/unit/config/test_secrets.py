from pathlib import Path

import pytest

from aistack.config.secrets import Secrets
from aistack.errors import UserError
from aistack.system.files import digest


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    secrets.ensure(("one",))
    first = secrets.read("one")
    secrets.ensure(("one", "two"))
    assert secrets.read("one") == first
    assert secrets.read("two") != first
    assert len(first) == 43


def test_only_the_owner_may_read_what_is_made(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    secrets.ensure(("one",))
    assert secrets.folder.stat().st_mode & 0o777 == 0o700
    assert secrets.path("one").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_can_enter_is_closed_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Secrets(tmp_path).ensure(())
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    secrets.ensure(("one",))
    secrets.path("one").chmod(0o640)
    with pytest.raises(UserError) as caught:
        secrets.read("one")
    assert caught.value.hint == f"chmod 600 {secrets.path('one')}"


def test_a_missing_and_an_empty_secret_are_told_apart(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        secrets.read("none")
    secrets.path("void").touch(0o600)
    with pytest.raises(UserError, match="is empty"):
        secrets.read("void")


def test_a_fingerprint_changes_with_the_secret_and_does_not_hold_it(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    assert digest(secrets.path("one")) == ""
    secrets.ensure(("one",))
    before = digest(secrets.path("one"))
    assert before == digest(secrets.path("one"))
    assert before not in secrets.read("one")
    secrets.path("one").write_text("another\n")
    assert digest(secrets.path("one")) not in ("", before)
