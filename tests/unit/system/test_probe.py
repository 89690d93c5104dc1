import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aistack.errors import ServiceError
from aistack.system import probe


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(b"ok, with 1234\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that is well with `1234`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/health", None), ("/health#1234", None), ("/", "it answers 404"), ("/#1234", "it answers 404"),
     ("/health#5678", "it has not loaded what it was last given")],
)  # fmt: skip
def test_a_service_is_well_when_it_says_so_with_what_it_was_given(server: str, path: str, reason: str | None) -> None:
    assert probe.ask(server + path) == reason


def test_what_a_service_says_is_fetched_or_it_is_said_why_not(server: str) -> None:
    assert probe.fetch(f"{server}/health") == b"ok, with 1234\n"
    with pytest.raises(ServiceError, match="it answers 404"):
        probe.fetch(f"{server}/")
