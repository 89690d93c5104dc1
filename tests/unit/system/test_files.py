"""What is given to another user: a whole folder when it is another's, and nothing more."""

import os
from pathlib import Path

import pytest

from aistack.system import files


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_is_given_with_all_in_it_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").write_text("x")
    (folder / "link").symlink_to("/etc/hostname")
    hostname = Path("/etc/hostname").stat().st_uid
    files.give(folder, 10001, 10002)
    found = [path.lstat() for path in (folder, folder / "deep", folder / "deep/file", folder / "link")]
    assert {(one.st_uid, one.st_gid) for one in found} == {(10001, 10002)}
    assert Path("/etc/hostname").stat().st_uid == hostname
    (folder / "new").write_text("x")
    files.give(folder, 10001, 10002)
    assert (folder / "new").stat().st_uid == 0


def test_what_is_not_there_is_given_to_nobody(tmp_path: Path) -> None:
    files.give(tmp_path / "nothing", 10001, 10001)
    assert not (tmp_path / "nothing").exists()
