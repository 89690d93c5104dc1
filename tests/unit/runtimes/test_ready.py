"""The gate of a unit: it opens when the service answers, and closes at once when the service is gone."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

NOBODY = "http://127.0.0.1:1/health"


def gate(url: str, seconds: float, service: int) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "aistack.runtimes.systemd.ready", url, str(seconds)]
    return subprocess.run(argv, env={"MAINPID": str(service)}, capture_output=True, text=True, timeout=20, check=False)


def test_it_does_not_wait_for_a_service_that_ended() -> None:
    service = subprocess.Popen(["true"])
    service.wait()
    done = gate(NOBODY, 600, service.pid)
    assert (done.returncode, done.stderr) == (1, "not ready: it ended\n")


def test_it_waits_for_one_that_runs_as_long_as_it_may() -> None:
    with subprocess.Popen(["sleep", "60"]) as service:
        done = gate(NOBODY, 0.5, service.pid)
        service.kill()
    assert done.returncode == 1
    assert "not ready: nothing listens there" in done.stderr


def test_it_opens_when_the_service_answers() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server, subprocess.Popen(["sleep", "60"]) as service:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = gate(f"http://127.0.0.1:{server.server_port}/health", 10, service.pid)
        thread.join()
        service.kill()
    assert (done.returncode, done.stderr) == (0, "")
