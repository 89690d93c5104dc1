import contextlib
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aistack.errors import ModelError
from aistack.models.gguf_header import read_header
from aistack.models.gguf_types import FILE_TYPES, POOLING, TENSOR_TYPES


def write_model(path: Path, words: int = 4, tensor: tuple[int, int] = (8, 4)) -> Path:
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("Tiny")
    writer.add_context_length(2048)
    writer.add_embedding_length(8)
    writer.add_pooling_type(gguf.PoolingType.LAST)
    writer.add_chat_template("{{ messages }}")
    writer.add_head_count_kv([2, 4])
    writer.add_float32("qwen3.some.number", 0.5)
    writer.add_bool("qwen3.some.flag", True)
    writer.add_token_list([f"word{number}é" for number in range(words)])
    writer.add_token_scores([0.0] * words)
    writer.add_tensor("a.weight", np.ones(tensor, np.float16))
    writer.add_tensor("b.weight", np.ones(3, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_what_the_file_says_is_read(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    assert (header.architecture, header.name) == ("qwen3", "Tiny")
    assert (header.context_length, header.embedding_length) == (2048, 8)
    assert header.parameter_count == 35
    assert (header.pooling, header.chat_template) == ("last", "{{ messages }}")
    assert header.quantization == "F16"
    assert header.split_count == 1
    assert header.metadata["qwen3.attention.head_count_kv"] == (2, 4)
    assert header.metadata["qwen3.some.number"] == 0.5
    assert header.metadata["qwen3.some.flag"] is True
    assert header.metadata["tokenizer.ggml.tokens"] == ("word0é", "word1é", "word2é", "word3é")


def test_a_large_vocabulary_is_stepped_over(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", words=150_000)
    start = time.perf_counter()
    header = read_header(path)
    assert time.perf_counter() - start < 0.5  # 15 ms on an idle machine; the gguf package needs 4 s
    assert "tokenizer.ggml.tokens" not in header.metadata
    assert header.parameter_count == 35


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "m.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    end = read_header(tmp_path / "m.gguf").data_end
    assert end <= len(whole)
    for size in [*range(400), *range(400, end, 7), end - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            read_header(cut)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(at=st.integers(4, 700), byte=st.integers(0, 255))
def test_a_changed_byte_never_crashes_the_reader(tmp_path: Path, at: int, byte: int) -> None:
    path = tmp_path / "m.gguf"
    whole = path.read_bytes() if path.exists() else write_model(path).read_bytes()
    broken = bytearray(whole)
    broken[at] = byte
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(broken)
    with contextlib.suppress(ModelError):
        read_header(damaged)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GG",
        b"<!doctype html>",
        b"GGUF",
        b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62),
    ],
)
def test_what_is_not_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.gguf"):
        read_header(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_header(tmp_path / "none.gguf")


def test_the_tables_of_numbers_are_those_of_the_format() -> None:
    assert {kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType} == TENSOR_TYPES
    assert {
        kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind.name != "GUESSED"
    } == FILE_TYPES
    assert {kind.value: kind.name.lower() for kind in gguf.PoolingType} == POOLING
