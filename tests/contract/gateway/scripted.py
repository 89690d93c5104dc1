"""A server that says exactly what a test wants, byte for byte: the faults that a real engine rarely shows."""

import contextlib
import json
import re
import socketserver
import threading
from typing import Any


class ScriptedUpstream(socketserver.ThreadingTCPServer):
    """An HTTP server that answers each path with the bytes it was given, and then hangs up or goes on.

    `answers[path]` is a list of pieces: bytes to send, or a `threading.Event` to wait for. `requests` are
    the heads and bodies received; `gone` is set when a client hangs up during a wait. The paths in `hasty` are
    answered before the body of the request is read, if it ever is.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ScriptedHandler)
        self.answers: dict[str, list[bytes | threading.Event]] = {}
        self.requests: list[tuple[str, bytes]] = []
        self.gone = threading.Event()
        self.hasty: set[str] = set()

    def reset(self) -> None:
        """Only the lists of models are answered, and nothing was asked yet."""
        self.answers = {"/v1/models": [MODEL_LIST], "/api/tags": [TAG_LIST]}
        self.requests = []
        self.gone = threading.Event()
        self.hasty = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def body_of(self, path: str) -> Any:
        """The JSON of the last request to `path`."""
        return json.loads(next(body for head, body in reversed(self.requests) if f" {path} " in head))


class _ScriptedHandler(socketserver.StreamRequestHandler):
    server: ScriptedUpstream

    def handle(self) -> None:
        head = b""
        while line := self.rfile.readline():
            head += line
            if line == b"\r\n":
                break
        if not head:
            return
        text = head.decode("latin-1")
        length = re.search(r"(?i)content-length: (\d+)", text)
        if text.split()[1] in self.server.hasty:
            body = b""
        else:
            body = self.rfile.read(int(length[1])) if length else _chunked(self.rfile, text)
        self.server.requests.append((text, body))
        for piece in self.server.answers.get(text.split()[1], [response(404, b'{"error":"nothing here"}')]):
            if isinstance(piece, bytes):
                self.wfile.write(piece)
            else:
                self._wait(piece)

    def _wait(self, event: threading.Event) -> None:
        self.connection.settimeout(0.02)
        while not event.is_set():
            with contextlib.suppress(TimeoutError):
                if self.connection.recv(1) == b"":
                    self.server.gone.set()
                    return


def _chunked(stream: Any, head: str) -> bytes:
    body = b""
    if "chunked" in head:
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    return body


def response(status: int, body: bytes, content_type: str = "application/json", more: str = "") -> bytes:
    """A whole HTTP response that ends the connection."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{more}"
    return f"{head}connection: close\r\n\r\n".encode() + body


def stream_head(content_type: str = "text/event-stream") -> bytes:
    """The head of a chunked response."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk; of nothing, the end."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**fields: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


MODEL_LIST = response(200, b'{"object":"list","data":[{"id":"m","object":"model","created":1}]}')
TAG_LIST = response(200, b'{"models":[{"name":"m:latest","model":"m:latest","modified_at":"2026-01-02T03:04:05Z"}]}')
