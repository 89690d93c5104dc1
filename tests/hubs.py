"""A small server on loopback that speaks the hubs' protocols, and misbehaves when it is told to."""

import contextlib
import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit


@dataclass
class Hubs:
    """What the server has, how it is to misbehave, and what it was asked.

    `faults[path]` is a list, one fault for each coming request: an int status, `cut:N` (N bytes, then the
    connection breaks), `stall:N` (N bytes, then silence), `no-range` (a Range is ignored), `extra` (more).
    `moves_blobs`: the registry sends people elsewhere for its blobs; Ollama takes no others.
    """

    host: str = ""
    contents: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    moves_blobs: bool = False
    served: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def add_registry_model(self, name: str, blob: bytes, **others: bytes) -> str:
        """Offer `blob` as `library/<name>:latest`; `others` are further layers. Returns the blob's path."""
        layers = []
        for kind, content in {"model": blob, **others}.items():
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self.contents[f"/v2/library/{name}/blobs/{digest}"] = content
            media_type = f"application/vnd.ollama.image.{kind}"
            layers.append({"mediaType": media_type, "digest": digest, "size": len(content)})
        config = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "150K",
                  "file_type": "F32", "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}}  # fmt: skip
        content = json.dumps(config).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.contents[f"/v2/library/{name}/blobs/{digest}"] = content
        about = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest, "size": len(content)}
        manifest = {"schemaVersion": 2, "config": about, "layers": layers}
        self.texts[f"/v2/library/{name}/manifests/latest"] = json.dumps(manifest).encode()
        return f"/v2/library/{name}/blobs/{layers[0]['digest']}"

    def add_repository(self, repository: str, files: dict[str, bytes], large: bool = True) -> None:
        """Offer a Hugging Face repository; a download is redirected to /cdn, as the real hub does."""
        siblings = []
        for path, content in files.items():
            digest = hashlib.sha256(content).hexdigest()
            lfs = {"lfs": {"sha256": digest, "size": len(content), "pointerSize": 100}} if large else {}
            siblings.append({"rfilename": path, "size": len(content), "blobId": "b", **lfs})
            self.contents[f"/cdn/{digest}"] = content
            self.redirects[f"/{repository}/resolve/{'c' * 40}/{path}"] = f"/cdn/{digest}"
        info = {"id": repository, "modelId": repository, "sha": "c" * 40, "siblings": siblings, "tags": [],
                "private": False, "downloads": 0}  # fmt: skip
        self.texts[f"/api/models/{repository}"] = json.dumps(info).encode()

    def asked(self, path: str) -> list[dict[str, str]]:
        """The headers (lower case) of every request for `path`."""
        return [headers for asked, headers in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hubs(self) -> Hubs:
        return cast("_Server", self.server).hubs

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hubs = self.hubs
        hubs.requests.append((path, {k.lower(): v for k, v in self.headers.items()}))
        fault = hubs.faults[path].pop(0) if hubs.faults.get(path) else ""
        if isinstance(fault, int):
            self._answer(fault, b"no", {"Retry-After": "1"} if fault == 429 else {})
        elif hubs.moves_blobs and "/blobs/" in path and self.headers["Host"] == hubs.host:
            self._answer(307, b"", {"Location": f"http://localhost:{self.server.server_port}{self.path}"})
        elif path in hubs.redirects:
            self._answer(302, b"", {"Location": hubs.redirects[path]})
        elif path in hubs.texts:
            self._answer(200, hubs.texts[path], {"Content-Type": "application/json"})
        elif path in hubs.contents:
            self._blob(hubs.contents[path], fault)
        else:
            self._answer(404, b'{"error": "not found"}', {})

    def do_HEAD(self) -> None:
        content = self.hubs.contents.get(unquote(urlsplit(self.path).path))
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _blob(self, content: bytes, fault: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and fault != "no-range" else 0
        end = int(asked[2]) + 1 if asked and asked[2] else len(content)
        body = content[start:end] + (b"x" * 100_000 if fault == "extra" else b"")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        kind, _, count = fault.partition(":")
        if kind not in ("cut", "stall"):
            self._send(body)
            return
        self._send(body[: int(count)])
        if kind == "stall":
            self.hubs.released.wait(60)
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _send(self, body: bytes) -> None:
        for at in range(0, len(body), 65536):
            try:
                self.wfile.write(body[at : at + 65536])
            except OSError:
                return
            self.hubs.served += len(body[at : at + 65536])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hubs = Hubs(host=f"127.0.0.1:{self.server_address[1]}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed resets its connection; anything else is a fault of this server."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve_hubs() -> Iterator[Hubs]:
    """The server, for as long as the block runs."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.hubs
    finally:
        server.hubs.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
