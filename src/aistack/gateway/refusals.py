"""Why a request is not served, and how each surface says so.

One exception, `Refusal`, carries status and message from wherever the reason is found to the edge
of the application, where it is written in the shape of the surface that was asked.
"""

import orjson

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


# The code of a request that a node refused because of the gateway's own key, or for want of one.
KEY_REFUSED = "engine_key_refused"
# The code of a request for a model that no node has been heard to have, or that the caller may not use.
UNKNOWN_MODEL = "model_not_found"


class Refusal(Exception):
    """A request that is answered with an error.

    `status` is the HTTP status, `message` says why in words for the caller (no secrets, no upstream
    addresses), `code` is OpenAI's machine-readable word or None, `headers` go into the answer;
    `node` is the engine node whose answer or silence this is, if it is one's; `param` the field of the
    request that is wrong, if it is one.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        node: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers
        self.node = node
        self.param = param


class ClientGone(Exception):
    """The client closed its connection before it had the whole answer; nobody is left to tell."""


def bad_request(message: str, param: str | None = None) -> Refusal:
    """400: the caller must change the request, there where `param` stands."""
    return Refusal(400, message, param=param)


def unknown_model(name: str) -> Refusal:
    """404 in the words of Ollama, with OpenAI's code."""
    return Refusal(404, f"model '{name}' not found", UNKNOWN_MODEL)


def node_down(node: str) -> Refusal:
    """503: the engine that should answer does not."""
    message = f"engine node '{node}' does not answer; try again shortly"
    return Refusal(503, message, "engine_unavailable", ((b"retry-after", b"5"),), node)


def openai_error(refusal: Refusal) -> bytes:
    """The refusal as OpenAI's `{"error": {message, type, param, code}}`."""
    default = "server_error" if refusal.status >= 500 else "invalid_request_error"
    return orjson.dumps(
        {
            "error": {
                "message": refusal.message,
                "type": _OPENAI_TYPES.get(refusal.status, default),
                "param": refusal.param,
                "code": refusal.code,
            }
        }
    )


def ollama_error(refusal: Refusal) -> bytes:
    """The refusal as Ollama's `{"error": "..."}`."""
    return orjson.dumps({"error": refusal.message})


def anthropic_error(refusal: Refusal) -> bytes:
    """The refusal as Anthropic's `{"type": "error", "error": {type, message}}`."""
    default = "api_error" if refusal.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(refusal.status, default)
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": refusal.message}})
