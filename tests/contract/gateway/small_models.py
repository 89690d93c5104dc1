"""Small models that the tests write: the demo model with a template that knows tools and thoughts, and a reranker."""

from pathlib import Path

import gguf
import numpy as np

from aistack.models.demo import write_demo

# As Qwen's models have it: tools between tags, and a beginning that makes the model think, unless told not to.
_TEMPLATE = """\
{{- bos_token }}
{%- if tools %}
    {{- '<|system|># Tools\\n\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' }}{{ tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\n<tool_call>\\n{"name": <name>, "arguments": <arguments>}\\n</tool_call><|end|>' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|' + message.role + '|>' }}
    {%- if message.role == 'assistant' and message.reasoning_content %}
        {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- message.content or '' }}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- else %}
        {{- '<think>\\n' }}
    {%- endif %}
{%- endif %}
"""


def write_talker(path: Path) -> None:
    """The demo model that may call tools, and thinks: words before `</think>`, which it never writes by itself."""
    write_demo(path, _TEMPLATE)


def write_tiny_rerank(path: Path) -> None:
    """A random one-layer model that scores pairs of texts, up to 64 tokens long."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"▁{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + list("abcdefghijklmnopqrstuvwxyz")
    width, context, random = 32, 64, np.random.default_rng(11)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("bert")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3, 3, 3, *[1] * (len(words) - 5)])
    writer.add_token_type_count(2)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(4)
    matrices = {
        "token_embd": (len(words), width), "position_embd": (context, width), "token_types": (2, width),
        "blk.0.attn_q": (width, width), "blk.0.attn_k": (width, width), "blk.0.attn_v": (width, width),
        "blk.0.attn_output": (width, width), "blk.0.ffn_up": (width, width), "blk.0.ffn_down": (width, width),
        "cls": (width, width), "cls.output": (1, width),
    }  # fmt: skip
    for name, shape in matrices.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32))
    biases = (
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_up",
        "ffn_down",
        "attn_output_norm",
        "layer_output_norm",
    )
    for name in ("token_embd_norm", "cls", *(f"blk.0.{name}" for name in biases)):
        writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))
    writer.add_tensor("cls.output.bias", np.zeros(1, np.float32))
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
