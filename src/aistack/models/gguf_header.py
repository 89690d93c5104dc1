"""Reads what a GGUF file says about itself: the store and the engine ask here before llama.cpp does.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: little-endian, magic, version,
counts, key/values, tensor descriptions, padding, tensor data. The reader in the `gguf` package makes an
array object of each vocabulary entry (seconds for a large vocabulary); this one steps over them.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from aistack.errors import ModelError
from aistack.models.gguf_types import FILE_TYPES, POOLING, TENSOR_TYPES

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_LONGEST_KEPT_ARRAY = 512  # arrays as long as the number of layers are worth keeping, vocabularies are not
_MOST_ENTRIES = 1 << 20  # key/values or tensors; the largest models have some thousands
_LONGEST_KEY = 1 << 16
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself; None where it does not say.

    `metadata` has every key/value except long arrays.
    `data_end` is the size in bytes that the file must at least have to be whole.
    """

    architecture: str
    name: str | None
    parameter_count: int
    quantization: str
    context_length: int | None
    embedding_length: int | None
    pooling: str | None
    chat_template: str | None
    split_count: int
    data_end: int
    metadata: Mapping[str, Value]


@dataclass(frozen=True)
class _Tensor:
    parameters: int
    type_number: int
    offset: int


def read_header(path: Path) -> GgufHeader:
    """Read the header of the GGUF file at `path`; tensors are not read.

    Raises ModelError for a file that is missing, not GGUF, damaged, or shorter than its tensors need.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise ModelError(f"{path} is not a GGUF file", "models must be in GGUF format")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _Cursor(data).header()
                size = len(data)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (struct.error, UnicodeDecodeError, IndexError, ValueError, OverflowError) as error:
        raise ModelError(f"{path} is damaged or cut short: {error}", "fetch or copy it again") from error
    if size < header.data_end:
        raise ModelError(f"{path} is cut short: {size} bytes of at least {header.data_end}", "fetch or copy it again")
    return header


class _Cursor:
    """A place in the file; each method reads one thing there and steps behind it."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 4  # behind the magic
        self._size = len(data)

    def header(self) -> GgufHeader:
        version = self._number(_U32)
        if version not in _VERSIONS:
            raise ValueError(f"version {version} of the format is not supported")
        tensor_count, entry_count = self._number(_U64), self._number(_U64)
        if max(tensor_count, entry_count) > _MOST_ENTRIES:
            raise ValueError("it claims impossibly many entries")
        metadata: dict[str, Value] = {}
        for _ in range(entry_count):
            self._entry(metadata)
        tensors = [self._tensor() for _ in range(tensor_count)]
        return _described(metadata, tensors, self._at)

    def _entry(self, metadata: dict[str, Value]) -> None:
        key = self._string(_LONGEST_KEY)
        kind = self._number(_U32)
        if kind != _ARRAY:
            metadata[key] = self._string() if kind == _STRING else self._scalars(kind, 1)[0]
            return
        item_kind, length = self._number(_U32), self._number(_U64)
        if length > _LONGEST_KEPT_ARRAY:
            self._skip(item_kind, length)
        elif item_kind == _STRING:
            metadata[key] = tuple(self._string() for _ in range(length))
        else:
            metadata[key] = self._scalars(item_kind, length)

    def _tensor(self) -> _Tensor:
        self._string(_LONGEST_KEY)
        dimensions = self._number(_U32)
        if dimensions > 8:
            raise ValueError(f"a tensor with {dimensions} dimensions")
        shape = self._scalars(10, dimensions)
        return _Tensor(prod(int(n) for n in shape), self._number(_U32), self._number(_U64))

    def _number(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self._data, self._at)[0]
        self._at += form.size
        return value

    def _string(self, longest: int | None = None) -> str:
        length = self._number(_U64)
        if length > self._size - self._at or (longest and length > longest):
            raise ValueError(f"a text of {length} bytes at {self._at}")
        self._at += length
        # Merged or hand-edited files hold broken UTF-8 in descriptions; that is no reason to refuse them.
        return self._data[self._at - length : self._at].decode("utf-8", "replace")

    def _scalars(self, kind: int, count: int) -> tuple[Scalar, ...]:
        form = struct.Struct(f"<{count}{self._letter(kind)}")
        values: tuple[Scalar, ...] = form.unpack_from(self._data, self._at)
        self._at += form.size
        return values

    def _letter(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"a value of unknown type {kind} at {self._at}")
        return _SCALARS[kind]

    def _skip(self, kind: int, length: int) -> None:
        if kind != _STRING:
            self._at += length * struct.calcsize(f"<{self._letter(kind)}")
            return
        if length > (self._size - self._at) // 8:
            raise ValueError(f"an array of {length} texts at {self._at}")
        # The hot loop, up to half a million turns for one model: everything it touches is local.
        read, data, at = _U64.unpack_from, self._data, self._at
        for _ in range(length):
            at += read(data, at)[0] + 8
        self._at = at


def _described(metadata: dict[str, Value], tensors: list[_Tensor], header_end: int) -> GgufHeader:
    architecture = _text(metadata, "general.architecture")
    if architecture is None:
        raise ValueError("it does not name its architecture")
    pooling = _whole(metadata, f"{architecture}.pooling_type")
    return GgufHeader(
        architecture=architecture,
        name=_text(metadata, "general.name"),
        parameter_count=sum(tensor.parameters for tensor in tensors),
        quantization=_quantization(_whole(metadata, "general.file_type"), tensors),
        context_length=_whole(metadata, f"{architecture}.context_length"),
        embedding_length=_whole(metadata, f"{architecture}.embedding_length"),
        pooling=None if pooling is None else POOLING.get(pooling),
        chat_template=_text(metadata, "tokenizer.chat_template"),
        split_count=_whole(metadata, "split.count") or 1,
        data_end=_data_end(_whole(metadata, "general.alignment"), tensors, header_end),
        metadata=metadata,
    )


def _text(metadata: dict[str, Value], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) else None


def _whole(metadata: dict[str, Value], key: str) -> int | None:
    value = metadata.get(key)
    return int(value) if isinstance(value, int) else None


def _quantization(file_type: int | None, tensors: list[_Tensor]) -> str:
    """The file's own word for it, else the type that most of its parameters have."""
    if file_type is not None and file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    shares: dict[int, int] = {}
    for tensor in tensors:
        shares[tensor.type_number] = shares.get(tensor.type_number, 0) + tensor.parameters
    most = max(shares, key=lambda number: shares[number], default=-1)
    return TENSOR_TYPES[most][0] if most in TENSOR_TYPES else "unknown"


def _data_end(alignment: int | None, tensors: list[_Tensor], header_end: int) -> int:
    step = alignment or _DEFAULT_ALIGNMENT
    start = -(-header_end // step) * step
    ends = [header_end]
    for tensor in tensors:
        if tensor.type_number in TENSOR_TYPES:  # a newer type has a size that we do not know
            _, block, block_bytes = TENSOR_TYPES[tensor.type_number]
            ends.append(start + tensor.offset + tensor.parameters // block * block_bytes)
    return max(ends)
