"""The exporter as a program, beside real loopback services."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aistack import __version__, certificates


class Well(BaseHTTPRequestHandler):
    """Answers 200 at /well and 503 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def neighbours() -> Iterator[dict[str, str]]:
    """One that is well, one that is ill, two that say nothing, and one that is not there."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Well) as server,
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.socket() as absent,
    ):
        absent.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        well = f"http://127.0.0.1:{server.server_port}"
        yield {
            "well": f"{well}/well",
            "ill": f"{well}/ill",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}/",
            "mute": f"http://127.0.0.1:{silent.getsockname()[1]}/",
            "absent": f"http://127.0.0.1:{absent.getsockname()[1]}/",
        }
        server.shutdown()
        thread.join()


@dataclass
class Exporter:
    process: "subprocess.Popen[str]"
    port: int
    folder: Path
    expiry: datetime

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type", ""), response.read().decode()
        finally:
            connection.close()

    def samples(self) -> dict[tuple[str, str], float]:
        """(name, value of its only label or "") -> value."""
        found = {}
        for family in text_string_to_metric_families(self.get("/metrics")[2]):
            for sample in family.samples:
                found[sample.name, next(iter(sample.labels.values()), "")] = sample.value
        return found


def start(folder: Path, services: dict[str, str], certificate: Path) -> Exporter:
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "port": 0,
                "certificate": str(certificate),
                "folders": {"data": str(folder)},
                "services": services,
            }
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "aistack.exporter", "--settings", str(settings)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return Exporter(process, int(line.rpartition(":")[2]), folder, datetime.now(UTC))


def stop(exporter: Exporter) -> None:
    exporter.process.kill()
    exporter.process.communicate()


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory, neighbours: dict[str, str]) -> Iterator[Exporter]:
    folder = tmp_path_factory.mktemp("exporter")
    certificates.ensure(folder / "tls", ("localhost",), ("127.0.0.1",), datetime.now(UTC))
    exporter = start(folder, neighbours, folder / "tls" / "server.pem")
    exporter.expiry = certificates.expires(folder / "tls" / "server.pem")
    yield exporter
    stop(exporter)


def test_it_is_well_as_soon_as_it_listens(exporter: Exporter) -> None:
    assert exporter.get("/health")[0] == 200


def test_each_service_is_told_well_or_not_in_one_short_round(exporter: Exporter) -> None:
    begun = time.monotonic()
    samples = exporter.samples()
    # The two silent ones take two seconds each, at the same time.
    assert time.monotonic() - begun < 4
    healthy = {label: value for (name, label), value in samples.items() if name == "aistack_service_healthy"}
    assert healthy == {"well": 1.0, "ill": 0.0, "silent": 0.0, "mute": 0.0, "absent": 0.0}
    assert samples["aistack_service_probe_seconds", "silent"] >= 2
    assert samples["aistack_service_probe_seconds", "well"] < 2


def test_certificate_disk_and_version_are_told(exporter: Exporter) -> None:
    samples = exporter.samples()
    assert samples["aistack_certificate_not_after_timestamp_seconds", ""] == exporter.expiry.timestamp()
    assert 0 < samples["aistack_disk_free_bytes", "data"] <= samples["aistack_disk_size_bytes", "data"]
    assert samples["aistack_build_info", __version__] == 1
    success = {label for (name, label), value in samples.items() if name == "aistack_collector_success" and value}
    assert success == {"services", "certificate", "disk", "build"}


def test_prometheus_gets_the_format_that_it_asks_for(exporter: Exporter) -> None:
    assert exporter.get("/metrics")[1].startswith("text/plain")
    status, kind, text = exporter.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_nothing_else_is_served(exporter: Exporter) -> None:
    assert exporter.get("/")[0] == 404
    assert exporter.get("/metrics/..")[0] == 404
    assert exporter.get("/metrics", method="POST")[0] == 501


def test_without_a_certificate_the_rest_is_told(tmp_path: Path) -> None:
    exporter = start(tmp_path, {}, tmp_path / "none.pem")
    try:
        samples = exporter.samples()
    finally:
        stop(exporter)
    assert samples["aistack_collector_success", "certificate"] == 0
    assert samples["aistack_collector_success", "disk"] == 1
    assert ("aistack_certificate_not_after_timestamp_seconds", "") not in samples
    assert samples["aistack_disk_free_bytes", "data"] > 0


def test_a_termination_ends_it_at_once_even_in_the_middle_of_a_scrape(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        exporter = start(tmp_path, {"silent": url}, tmp_path / "none.pem")
        with socket.create_connection(("127.0.0.1", exporter.port)) as scrape:
            scrape.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            asked, _ = silent.accept()
            with asked:
                begun = time.monotonic()
                exporter.process.send_signal(signal.SIGTERM)
                exporter.process.communicate(timeout=10)
                assert exporter.process.returncode == 0
                assert time.monotonic() - begun < 1


def test_a_taken_port_is_told_in_two_lines(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = tmp_path / "settings.json"
        settings.write_text(
            json.dumps({"host": "127.0.0.1", "port": port, "certificate": "", "folders": {}, "services": {}})
        )
        done = subprocess.run(
            [sys.executable, "-m", "aistack.exporter", "--settings", str(settings)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert len(done.stderr.splitlines()) == 2
