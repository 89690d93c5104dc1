import subprocess
import sys
from pathlib import Path

from aistack.runtimes.rotate import rotate

EVENT = "ver:3.0 server:supervisor serial:1 pool:rotate poolserial:1 eventname:TICK_60 len:15\nwhen:1700000000"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_log_above_its_size_is_copied_aside_and_cut(tmp_path: Path) -> None:
    (tmp_path / "chat.log").write_text("x" * 101)
    (tmp_path / "chat.log").chmod(0o600)
    assert rotate(tmp_path, max_bytes=100) == ["chat.log"]
    assert (tmp_path / "chat.log").read_text() == ""
    assert (tmp_path / "chat.log.1").read_text() == "x" * 101


def test_a_log_within_its_size_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "chat.log").write_text("x" * 100)
    (tmp_path / "notes.txt").write_text("x" * 500)
    assert rotate(tmp_path, max_bytes=100) == []
    assert names(tmp_path) == {"chat.log", "notes.txt"}


def test_the_log_that_supervisord_rotates_itself_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "supervisord.log").write_text("x" * 500)
    assert rotate(tmp_path, max_bytes=100) == []
    assert names(tmp_path) == {"supervisord.log"}


def test_a_copy_is_as_closed_to_others_as_its_log(tmp_path: Path) -> None:
    (tmp_path / "chat.log").write_text("x" * 101)
    (tmp_path / "chat.log").chmod(0o600)
    rotate(tmp_path, max_bytes=100)
    assert (tmp_path / "chat.log.1").stat().st_mode & 0o777 == 0o600


def test_the_service_goes_on_writing_to_the_same_file(tmp_path: Path) -> None:
    log = tmp_path / "chat.log"
    with log.open("a") as service:
        service.write("x" * 101)
        service.flush()
        rotate(tmp_path, max_bytes=100)
        service.write("next\n")
    assert log.read_text() == "next\n"


def test_only_the_newest_copies_are_kept_newest_first(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "chat.log").write_text(f"{number}" * 10)
        rotate(tmp_path, max_bytes=5, keep=3)
    assert names(tmp_path) == {"chat.log", "chat.log.1", "chat.log.2", "chat.log.3"}
    assert [(tmp_path / f"chat.log.{copy}").read_text()[0] for copy in (1, 2, 3)] == ["4", "3", "2"]


def test_it_speaks_supervisords_protocol_and_ends_with_it(tmp_path: Path) -> None:
    with (tmp_path / "chat.log").open("wb") as log:
        log.truncate(10_000_001)
    done = subprocess.run(
        [sys.executable, "-m", "aistack.runtimes.rotate", str(tmp_path)],
        input=EVENT * 2, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == "READY\nRESULT 2\nOKREADY\nRESULT 2\nOKREADY\n"
    assert (tmp_path / "chat.log").stat().st_size == 0
    assert (tmp_path / "chat.log.1").stat().st_size == 10_000_001
