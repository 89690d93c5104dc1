"""The built-in demo model: a two-layer llama of half a megabyte that strings real words together.

It stands in where no model can be fetched, so that every part of the stack can be seen at work: real tokens,
real attention and batching, no meaning. Its weights are random but for one thing: the embedding of a word
names the kind of word it is, and the output weights make the kinds follow each other as in a sentence.
"""

import math
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from aistack.models.demo_words import AFTER, END, OTHER, UNSPACED, WORDS

TITLE = "aistack demo (random words)"

_WIDTH, _LAYERS, _HEADS, _INNER, _CONTEXT = 64, 2, 4, 128, 4096
_SEED = 20261
_FLAVOUR = 0.6  # how much of a token's embedding is its own, beside the 1.0 that its kind has
_NEVER = -25.0  # the logit of what must not be said
_EPSILON = 1e-6
_SPACE = "▁"  # how GGUF vocabularies write the space before a word
_CONTROL = ("<unk>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_UNKNOWN, _BEGIN, _END = 0, 1, 2
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] or '') + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

Floats = npt.NDArray[np.float32]
Token = tuple[str, gguf.TokenType, str]  # text as the vocabulary has it, type, kind of word


def write_demo(path: Path, template: str = _TEMPLATE) -> None:
    """Write the demo model to `path`, the same bytes each time. Raises OSError when it cannot.

    `template` is its chat template, in Jinja's language.
    """
    tokens = vocabulary()
    random = np.random.default_rng(_SEED)
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer)
    _add_vocabulary(writer, tokens)
    writer.add_chat_template(template)
    embedding = _embeddings(tokens, random)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", _output(tokens, random))
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for layer in range(_LAYERS):
        for name, weights in _layer(random).items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def vocabulary() -> list[Token]:
    """Every token: control tokens, the 256 bytes (so that a grammar can always go on), and the words."""
    tokens: list[Token] = [(text, gguf.TokenType.CONTROL, OTHER) for text in _CONTROL]
    tokens[_UNKNOWN] = (_CONTROL[_UNKNOWN], gguf.TokenType.UNKNOWN, OTHER)
    tokens[_END] = (_CONTROL[_END], gguf.TokenType.CONTROL, END)
    tokens += [(f"<0x{byte:02X}>", gguf.TokenType.BYTE, OTHER) for byte in range(256)]
    for kind, words in WORDS.items():
        spelled = words if kind in UNSPACED else [_SPACE + word for word in words]
        tokens += [(word, gguf.TokenType.NORMAL, kind) for word in spelled]
    return tokens


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_name(TITLE)
    writer.add_description("Says random words. Pull a real model: aistack models pull NAME")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(_EPSILON)


def _add_vocabulary(writer: gguf.GGUFWriter, tokens: list[Token]) -> None:
    writer.add_vocab_size(len(tokens))
    # The unigram tokenizer takes whole words as they are; the others would need all their beginnings too.
    writer.add_tokenizer_model("t5")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_types([kind for _, kind, _ in tokens])
    writer.add_token_scores([0.0 if kind != gguf.TokenType.NORMAL else -1.0 for _, kind, _ in tokens])
    writer.add_bos_token_id(_BEGIN)
    writer.add_eos_token_id(_END)
    writer.add_unk_token_id(_UNKNOWN)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def _kinds() -> list[str]:
    return list(AFTER)


def _embeddings(tokens: list[Token], random: np.random.Generator) -> Floats:
    """One row a token: its kind as a unit vector, and in the other places something of its own."""
    kinds = _kinds()
    rows = np.zeros((len(tokens), _WIDTH), np.float32)
    own = random.normal(size=(len(tokens), _WIDTH - len(kinds)))
    rows[:, len(kinds) :] = _FLAVOUR * own / np.linalg.norm(own, axis=1, keepdims=True)
    for row, (_, _, kind) in enumerate(tokens):
        rows[row, kinds.index(kind)] = 1.0
    return rows


def _output(tokens: list[Token], random: np.random.Generator) -> Floats:
    """Rows that turn a normalised embedding into log probabilities of the next token.

    The final norm scales an embedding to length sqrt(width), its kind's part to `scale` below.
    """
    kinds = _kinds()
    scale = math.sqrt(_WIDTH / (1 + _FLAVOUR**2))
    members = {kind: sum(1 for token in tokens if token[2] == kind) for kind in kinds}
    rows = random.normal(0, 0.12, (len(tokens), _WIDTH)).astype(np.float32)
    for row, (_, _, kind) in enumerate(tokens):
        sayable = kind in WORDS or kind == END
        for column, before in enumerate(kinds):
            share = AFTER[before].get(kind, 0.0) if sayable else 0.0
            logit = math.log(share / members[kind]) if share else _NEVER
            rows[row, column] = logit / scale
        if kind in (END, "stop"):
            rows[row, len(kinds) :] = 0  # how often sentences and answers end must not depend on the word
    return rows


def _layer(random: np.random.Generator) -> dict[str, Floats]:
    """One layer, its weights so small that it flavours the stream and does not drown it."""
    shapes = {name: (_WIDTH, _WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {"ffn_gate": (_INNER, _WIDTH), "ffn_up": (_INNER, _WIDTH), "ffn_down": (_WIDTH, _INNER)}
    weights = {name: random.normal(0, 0.01, shape).astype(np.float32) for name, shape in shapes.items()}
    ones = np.ones(_WIDTH, np.float32)
    return weights | {"attn_norm": ones, "ffn_norm": ones.copy()}
