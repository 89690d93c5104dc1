from collections import Counter
from pathlib import Path

import pytest

from aistack.models.builtin import install_demo
from aistack.models.demo import TITLE, vocabulary, write_demo
from aistack.models.demo_words import AFTER, UNSPACED, WORDS
from aistack.models.gguf_header import read_header
from aistack.models.store import ModelStore


def test_the_demo_model_is_named_as_one_and_small(tmp_path: Path) -> None:
    path = tmp_path / "demo.gguf"
    write_demo(path)
    header = read_header(path)
    assert header.name == TITLE == "aistack demo (random words)"
    assert (header.architecture, header.context_length) == ("llama", 4096)
    assert header.chat_template is not None
    assert path.stat().st_size < 1_000_000


def test_it_is_the_same_model_each_time(tmp_path: Path) -> None:
    write_demo(tmp_path / "a.gguf")
    write_demo(tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_every_token_is_there_once() -> None:
    assert [text for text, count in Counter(text for text, _, _ in vocabulary()).items() if count > 1] == []


@pytest.mark.parametrize("kind", AFTER)
def test_what_follows_a_word_adds_up(kind: str) -> None:
    assert sum(AFTER[kind].values()) == pytest.approx(1.0)
    assert set(AFTER[kind]) <= set(AFTER)


def test_every_kind_of_word_can_be_said_and_followed() -> None:
    assert set(WORDS) <= set(AFTER)
    assert set(WORDS) <= {kind for row in AFTER.values() for kind in row}
    assert set(UNSPACED) <= set(WORDS)


def test_no_word_after_a_may_begin_with_a_vowel() -> None:
    behind_a = [word for kind in ("character", "adjective", "actor", "thing") for word in WORDS[kind]]
    assert [word for word in behind_a if word[0] in "aeiou"] == []


def test_installing_it_twice_changes_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    first = install_demo(store)
    assert (first.name, first.demo, first.kind) == ("demo", True, "chat")
    assert install_demo(store) == first
    assert first.path.stat().st_ino == store.get("demo").path.stat().st_ino
    assert sorted(path.name for path in (tmp_path / ".partial").iterdir()) == []


def test_the_demo_of_another_version_is_replaced(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    write_demo(tmp_path / "old.gguf")
    store.install(tmp_path / "old.gguf", "demo", source="built into aistack 0.0.1", digest=None, demo=True)
    assert install_demo(store).digest is not None


def test_somebody_elses_model_of_that_name_stays(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo.gguf")
    with (tmp_path / "demo.gguf").open("ab") as file:
        file.write(b"mine")
    assert install_demo(ModelStore(tmp_path)).source == "file"
    assert (tmp_path / "demo.gguf").read_bytes().endswith(b"mine")
