"""The exporter's HTTP side: `/health` and `/metrics`, a thread a connection."""

import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from aistack.errors import ServiceError


class Server(ThreadingHTTPServer):
    """Listens on `host`:`port` from the start. Raises ServiceError when it cannot."""

    daemon_threads = True
    # nginx and Prometheus connect from this machine; a queue of five would refuse a burst of them.
    request_queue_size = 64

    def __init__(self, host: str, port: int, metrics: Collector) -> None:
        self.metrics = metrics
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ServiceError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                f"see which program listens there: ss -ltnp | grep :{port}",
            ) from error


class _Handler(BaseHTTPRequestHandler):
    server: Server
    # Whoever sends half a request does not keep a thread for ever.
    timeout = 10

    def do_GET(self) -> None:
        """Answer one request."""
        match self.path.partition("?")[0]:
            case "/health":
                self._answer(HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n")
            case "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, kind, encode(self.server.metrics))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"not found\n")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a line a scrape would be all that the log ever held."""
