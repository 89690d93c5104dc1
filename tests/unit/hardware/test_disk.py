import shutil
from pathlib import Path

from aistack.hardware.disk import disk


def test_a_folder_that_is_not_there_yet_is_measured_where_it_would_lie(tmp_path: Path) -> None:
    found = disk(tmp_path / "not" / "yet")
    assert found.device == tmp_path.stat().st_dev
    assert found.total_bytes == shutil.disk_usage(tmp_path).total
    assert abs(found.free_bytes - shutil.disk_usage(tmp_path).free) < found.total_bytes / 10
    assert not found.read_only


def test_a_file_system_that_makes_files_as_it_goes_has_no_count_of_them() -> None:
    found = disk(Path("/proc"))
    assert (found.free_files, found.free_bytes) == (None, 0)
