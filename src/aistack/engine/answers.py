"""What the engine itself answers, as bytes on the wire; errors in OpenAI's shape."""

from dataclasses import dataclass
from http import HTTPStatus

import orjson

JSON = "application/json"
TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """A whole response: `body` as it goes out, `extra` more header lines."""

    status: int
    body: bytes
    content_type: str = JSON
    extra: tuple[tuple[str, str], ...] = ()

    def on_wire(self, *, keep_alive: bool, with_body: bool = True) -> bytes:
        """Head and body; `keep_alive` tells the client whether it may send another request."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.extra),
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
        ]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head + self.body if with_body else head


def json_answer(value: object, status: int = 200) -> Answer:
    """`value` as JSON."""
    return Answer(status, orjson.dumps(value))


class ApiError(Exception):
    """A request that cannot be served: told to the client in OpenAI's error shape.

    `kind` is OpenAI's error type; with `retry_after_s` the client is told when to come again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.retry_after_s = retry_after_s

    def answer(self) -> Answer:
        """The error as a response."""
        error = {"message": self.message, "type": self.kind, "code": self.status}
        extra = (("Retry-After", str(self.retry_after_s)),) if self.retry_after_s is not None else ()
        return Answer(self.status, orjson.dumps({"error": error}), extra=extra)
