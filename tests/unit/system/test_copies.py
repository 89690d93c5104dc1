import os
import stat
import tempfile
from pathlib import Path

import pytest

from aistack.errors import UserError
from aistack.system.files import as_owner, copy_tree, tree_difference, tree_size


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with what services keep in theirs, and worse."""
    folder = tmp_path / "source"
    (folder / "inner").mkdir(parents=True, mode=0o750)
    (folder / "inner" / "data.db").write_bytes(b"x" * 1000)
    (folder / "program").write_text("#!/bin/sh")
    (folder / "program").chmod(0o4755)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    return folder


def test_a_copy_holds_the_same_but_for_what_only_lives_while_a_service_runs(tree: Path, tmp_path: Path) -> None:
    copy_tree(tree, tmp_path / "copy")
    assert tree_difference(tree, tmp_path / "copy") == ""
    assert tree_size(tmp_path / "copy") == tree_size(tree) == 1009
    assert (tmp_path / "copy" / "link").readlink() == Path("/etc/passwd")
    assert not (tmp_path / "copy" / "pipe").exists()
    assert stat.S_IMODE((tmp_path / "copy" / "inner").stat().st_mode) == 0o750


def test_nothing_becomes_a_program_of_whoever_copies(tree: Path, tmp_path: Path) -> None:
    copy_tree(tree, tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy" / "program").stat().st_mode) == 0o755


def test_a_copy_replaces_what_was_there_and_leaves_nothing_beside_it(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "old").touch()
    (tmp_path / ".copy.copying").mkdir()
    copy_tree(tree, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "copy"}
    assert not (tmp_path / "copy" / "old").exists()


def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("kept")
    with pytest.raises(UserError):
        copy_tree(tmp_path / "none", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}


def test_a_difference_is_told_by_its_file(tree: Path, tmp_path: Path) -> None:
    copy_tree(tree, tmp_path / "copy")
    (tmp_path / "copy" / "inner" / "data.db").write_bytes(b"y" * 1000)
    assert tree_difference(tree, tmp_path / "copy") == "inner/data.db differs"
    (tmp_path / "copy" / "new").touch()
    assert tree_difference(tree, tmp_path / "copy") == "new is in one of them only"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")
def test_root_acts_as_the_owner_of_a_folder_and_then_as_itself() -> None:
    # pytest's own folders let nobody else through.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, 65534, 65534)
        with as_owner(folder):
            (folder / "made").touch()
            with pytest.raises(PermissionError):
                Path("/etc/aistack-test").touch()
        assert (folder / "made").stat().st_uid == 65534
        assert os.geteuid() == 0
