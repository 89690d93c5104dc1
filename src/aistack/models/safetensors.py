"""Reads tensors from a safetensors file: eight bytes of length, a JSON header, then the raw numbers.

The format is https://github.com/huggingface/safetensors#format; only what `minilm` needs is read, F32.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aistack.errors import ModelError

_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit


def read_tensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Every F32 tensor of the file by name; other types are left out. Raises ModelError when damaged."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(len(data) - 8, _LONGEST_HEADER):
        raise ModelError(f"{path} is not a safetensors file")
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    try:
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__" and entry["dtype"] == "F32":
                start, end = entry["data_offsets"]
                values = np.frombuffer(data, "<f4", (end - start) // 4, 8 + length + start)
                tensors[name] = values.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    return tensors
