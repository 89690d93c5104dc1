"""What the exporter tells is judged by Prometheus' own tool."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from aistack import certificates
from aistack.exporter.collectors import COLLECTORS
from aistack.exporter.gathering import Gathering
from aistack.exporter.settings import Settings


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say_about_names_and_help(tmp_path: Path) -> None:
    certificates.ensure(tmp_path / "tls", ("localhost",), (), datetime.now(UTC))
    services = {"none": "http://127.0.0.1:9/"}
    settings = Settings("127.0.0.1", 0, tmp_path / "tls" / "server.pem", {"data": tmp_path}, services)
    gathering = Gathering(settings, COLLECTORS)
    text = generate_latest(gathering).decode()
    assert 'aistack_service_healthy{service="none"} 0.0' in text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
