from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aistack.errors import UserError
from aistack.runtimes import journal
from aistack.system import probe


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "chat.log"
    path.write_text("one\ntwo\nthree\n")
    return path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_the_last_lines_are_read(log: Path) -> None:
    assert list(journal.read(log, 2, follow=False)) == ["two", "three"]
    assert list(journal.read(log, 100, follow=False)) == ["one", "two", "three"]
    assert list(journal.read(log, 0, follow=False)) == []


def test_an_unfinished_line_is_shown_when_nothing_is_waited_for(log: Path) -> None:
    append(log, "fou")
    assert list(journal.read(log, 1, follow=False)) == ["fou"]


def test_what_is_written_later_follows(log: Path) -> None:
    lines = journal.read(log, 1, follow=True)
    assert next(lines) == "three"
    append(log, "four\nfive\n")
    assert [next(lines), next(lines)] == ["four", "five"]


def readers_position(path: Path) -> int:
    """How far this process has read in `path`, by the kernel's account."""
    for entry in Path("/proc/self/fd").iterdir():
        if entry.exists() and entry.samefile(path):
            return int(Path(f"/proc/self/fdinfo/{entry.name}").read_text().split()[1])
    raise AssertionError(f"{path} is not open")


def test_a_line_that_is_still_being_written_is_told_when_it_is_whole(log: Path) -> None:
    append(log, "fou")
    lines = journal.read(log, 2, follow=True)
    assert next(lines) == "three"
    append(log, "r\nfi")
    assert next(lines) == "four"
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, lines)
        size = log.stat().st_size
        assert probe.wait(lambda: None if readers_position(log) == size else "not read yet", 10) is None
        assert not coming.done()
        append(log, "ve\n")
        assert coming.result(10) == "five"


def test_a_log_that_was_cut_back_is_read_from_its_start(log: Path) -> None:
    lines = journal.read(log, 1, follow=True)
    assert next(lines) == "three"
    log.write_text("new\n")
    assert next(lines) == "new"


def test_bytes_that_are_not_text_do_not_stop_it(log: Path) -> None:
    log.write_bytes(b"a\xffb\nend\n")
    assert list(journal.read(log, 2, follow=False)) == ["a\ufffdb", "end"]


def test_a_service_without_a_log_was_not_started(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        next(journal.read(tmp_path / "chat.log", 1, follow=False))
    assert "aistack up" in caught.value.hint
