import hashlib
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from aistack.errors import ModelError
from aistack.models.partials import Partials, digest_of

Usage = namedtuple("Usage", ["free"])


def test_what_an_earlier_run_left_is_counted_in(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    with partials.grow("k") as partial:
        partial.append(b"hello ")
    with partials.grow("k") as partial:
        assert partial.size == 6
        partial.append(b"world")
        assert partial.digest == f"sha256:{hashlib.sha256(b'hello world').hexdigest()}"
        partial.finish(partials.ready("k"))
    assert partials.ready("k").read_bytes() == b"hello world"
    assert digest_of(partials.ready("k")) == f"sha256:{hashlib.sha256(b'hello world').hexdigest()}"
    assert not partials.part("k").exists()


def test_starting_again_forgets_everything(tmp_path: Path) -> None:
    with Partials(tmp_path).grow("k") as partial:
        partial.append(b"wrong")
        partial.restart()
        partial.append(b"right")
        assert partial.digest == f"sha256:{hashlib.sha256(b'right').hexdigest()}"
    assert partial.path.read_bytes() == b"right"


def test_a_disk_too_small_is_told_with_both_numbers(tmp_path: Path) -> None:
    partials = Partials(tmp_path, lambda path: Usage(free=100_000_000))
    partials.need(10_000_000, "m")
    with pytest.raises(ModelError, match=r"m needs 4000000000 bytes .* 100000000 bytes \(100.0 MB\) are free"):
        partials.need(4_000_000_000, "m")


def test_only_one_holds_a_key_and_the_next_is_told_that_it_waits(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    waited = threading.Event()

    def work() -> None:
        for _ in range(20):
            with Partials(tmp_path).lock("k", waited.set):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    with Partials(tmp_path).lock("k", lambda: None):
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert waited.wait(10)
        assert most == []
    for thread in threads:
        thread.join(30)
    assert len(most) == 120
    assert max(most) == 1
    assert list((tmp_path / ".partial").iterdir()) == []


def test_what_nobody_goes_on_with_is_dropped(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    for key in ("old", "new"):
        with partials.grow(key) as partial:
            partial.append(b"x")
    now = partials.part("new").stat().st_mtime
    partials.drop_abandoned(now + 13 * 24 * 3600)
    assert partials.have("old") == 1
    partials.drop_abandoned(now + 15 * 24 * 3600)
    assert partials.have("old") == partials.have("new") == 0
