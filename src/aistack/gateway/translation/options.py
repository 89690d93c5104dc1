"""Ollama's sampling options, output format and keep-alive, as OpenAI-speaking engines take them. Pure."""

import re
from typing import Any

from aistack.gateway.refusals import bad_request

Json = dict[str, Any]

# Every OpenAI-compatible engine knows these.
_STANDARD = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
# llama.cpp takes these beside OpenAI's own.
_LLAMA = {
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "num_keep": "n_keep",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}
# A JSON object in GBNF; little white space, or a model that likes it would write nothing else.
_JSON_GRAMMAR = r"""
root ::= object
object ::= "{" space (member ("," space member)*)? "}" space
member ::= string ":" space value
array ::= "[" space (value ("," space value)*)? "]" space
value ::= object | array | string | number | word
string ::= "\"" character* "\"" space
character ::= [^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})? space
word ::= ("true" | "false" | "null") space
space ::= [ \t\n]{0,4}
"""
_NOTHING = re.compile(r"0+(\.0+)?(ns|us|µs|ms|s|m|h)?")


def sampling(options: Any, *, llama: bool) -> Json:
    """The request fields for Ollama's `options`.

    What concerns loading (`num_ctx`, `num_gpu`, `num_thread`, ...) is left out on purpose: the site decides
    that, not the caller. Raises Refusal 400 when `options` is not an object.
    """
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise bad_request("options must be an object")
    known = {**_STANDARD, **_LLAMA} if llama else _STANDARD
    fields = {known[name]: value for name, value in options.items() if name in known and value is not None}
    limit = options.get("num_predict")
    # Negative means "as far as the context goes", which is what leaving it out means.
    if isinstance(limit, int) and limit >= 0:
        fields["max_tokens"] = limit
    return fields


def response_format(wanted: Any, *, bare: bool = False) -> Json:
    """The request fields for Ollama's `format`: nothing, "json", or a JSON schema. Raises Refusal 400.

    `bare`: for llama.cpp's `/v1/completions`, which knows grammars but no schemas.
    """
    if wanted in (None, ""):
        return {}
    if wanted != "json" and not isinstance(wanted, dict):
        raise bad_request('invalid format: expected "json" or a JSON schema')
    if bare and wanted != "json":
        raise bad_request("a JSON schema as format cannot be combined with raw or template here")
    if bare:
        return {"grammar": _JSON_GRAMMAR}
    if wanted == "json":
        return {"response_format": {"type": "json_object"}}
    schema = {"name": "format", "strict": True, "schema": wanted}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def thinking(think: Any, *, llama: bool) -> Json:
    """The request fields for Ollama's `think`: a boolean, "low", "medium" or "high". Raises Refusal 400."""
    if think is None:
        return {}
    if isinstance(think, bool):
        return {"chat_template_kwargs": {"enable_thinking": think}} if llama else {}
    if think in ("low", "medium", "high"):
        arguments = {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": think}}
        return {"reasoning_effort": think, **(arguments if llama else {})}
    raise bad_request('invalid think value: must be true, false, "low", "medium" or "high"')


def log_probabilities(body: Json) -> Json:
    """The request fields for Ollama's `logprobs` and `top_logprobs`, which are OpenAI's own."""
    if not body.get("logprobs"):
        return {}
    top = body.get("top_logprobs")
    return {"logprobs": True, **({"top_logprobs": top} if top else {})}


def means_unload(keep_alive: Any) -> bool:
    """Whether a `keep_alive` asks for the model to be unloaded now: 0, "0", "0s"."""
    if isinstance(keep_alive, str):
        return _NOTHING.fullmatch(keep_alive.strip()) is not None
    return isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool) and keep_alive == 0
