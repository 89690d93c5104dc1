from pathlib import Path

from aistack.config.secrets import Secrets
from aistack.system.files import digest


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    secrets.ensure(("one",))
    first = secrets.path("one").read_text()
    secrets.ensure(("one", "two"))
    assert secrets.path("one").read_text() == first
    assert secrets.path("two").read_text() != first
    assert len(first.strip()) == 43


def test_only_the_owner_may_read_what_is_made(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    secrets.ensure(("one",))
    assert secrets.folder.stat().st_mode & 0o777 == 0o700
    assert secrets.path("one").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_can_enter_is_closed_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Secrets(tmp_path).ensure(())
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_fingerprint_changes_with_the_secret_and_does_not_hold_it(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    assert digest(secrets.path("one")) == ""
    secrets.ensure(("one",))
    before = digest(secrets.path("one"))
    assert before == digest(secrets.path("one"))
    assert before not in secrets.path("one").read_text()
    secrets.path("one").write_text("another\n")
    assert digest(secrets.path("one")) not in ("", before)
