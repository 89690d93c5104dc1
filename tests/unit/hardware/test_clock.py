import os
from pathlib import Path

from aistack.hardware.clock import hardware_clock, newest_change, synchronised


def test_the_real_kernel_is_asked_without_an_error() -> None:
    assert synchronised() in (True, False, None)


def test_the_hardware_clock_is_read_below_the_root(tmp_path: Path) -> None:
    clock = tmp_path / "sys/class/rtc/rtc0/since_epoch"
    clock.parent.mkdir(parents=True)
    clock.write_text("1790000000\n")
    assert hardware_clock(tmp_path) == 1790000000


def test_a_machine_without_a_hardware_clock_has_none(tmp_path: Path) -> None:
    assert hardware_clock(tmp_path) is None


def test_the_newest_of_the_files_that_exist_is_named(tmp_path: Path) -> None:
    for name, changed in (("old", 1000), ("new", 2000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (changed, changed))
    paths = (tmp_path / "new", tmp_path / "missing", tmp_path / "old")
    assert newest_change(paths) == (2000, tmp_path / "new")
    assert newest_change((tmp_path / "missing",)) is None
