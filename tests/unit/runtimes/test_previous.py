from pathlib import Path

from aistack.runtimes.previous import Previous


def test_files_that_were_changed_removed_or_added_are_put_back(tmp_path: Path) -> None:
    changed, added = tmp_path / "a.conf", tmp_path / "b.conf"
    changed.write_text("old")
    changed.chmod(0o640)
    previous = Previous(tmp_path / "previous")
    previous.keep("chat", [changed, added], "http://127.0.0.1:1/health")
    changed.write_text("new")
    changed.chmod(0o600)
    added.write_text("new")
    assert previous.put_back("chat") == "http://127.0.0.1:1/health"
    assert (changed.read_text(), changed.stat().st_mode & 0o777) == ("old", 0o640)
    assert not added.exists()
    assert previous.put_back("chat") is None


def test_what_a_killed_change_kept_is_not_overwritten_by_what_never_worked(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    previous = Previous(tmp_path / "previous")
    for content in ("worked", "never proved"):
        path.write_text(content)
        previous.keep("chat", [path], "url")
    previous.put_back("chat")
    assert path.read_text() == "worked"


def test_a_change_that_proved_well_leaves_nothing_to_go_back_to(tmp_path: Path) -> None:
    previous = Previous(tmp_path)
    previous.keep("chat", [], "url")
    previous.forget("chat")
    assert previous.put_back("chat") is None
