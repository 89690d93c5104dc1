"""The ground that the Compose runtime is tested on: an engine whose networks and ports do what a real one's do."""

import json
import urllib.request
from pathlib import Path

from engine import Engine
from images import systemd_image

_SERVE = "python3 -m http.server --directory /srv 8080"
_GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=3).status)"


def _compose_file(image: str) -> str:
    common = {"image": image, "command": ["sh", "-c", _SERVE], "user": "1000:1000", "init": True, "read_only": True,
              "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "pids_limit": 50, "mem_limit": "100m",
              "stop_grace_period": "2s"}  # fmt: skip
    check = {"test": ["CMD", "python3", "-c", _GET, "http://127.0.0.1:8080"], "interval": "1s", "start_period": "30s"}
    services = {
        "store": {**common, "healthcheck": check, "networks": ["back"]},
        "proxy": {**common, "depends_on": {"store": {"condition": "service_healthy"}}, "networks": ["front", "edge"],
                  "ports": ["127.0.0.1::8080"]},
        "middle": {**common, "networks": ["front", "back"], "ports": ["127.0.0.1::8080"]},
    }  # fmt: skip
    networks = {"front": {"internal": True}, "back": {"internal": True}, "edge": {}}
    return json.dumps({"services": services, "networks": networks})


def _reaches(engine: Engine, folder: Path, service: str, url: str) -> bool:
    script = f"python3 -c '{_GET}' {url} 2>/dev/null || echo none"
    return engine.compose(folder, "exec", "-T", service, "sh", "-c", script).strip() == "200"


def test_compose_isolates_internal_networks_and_publishes_only_from_others(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "ground"
    folder.mkdir()
    (folder / "compose.yaml").write_text(_compose_file(systemd_image(engine)))  # JSON is YAML
    try:
        engine.compose(folder, "up", "--detach")
        published = engine.compose(folder, "port", "proxy", "8080").strip()
        assert published.startswith("127.0.0.1:")
        with urllib.request.urlopen(f"http://{published}", timeout=5) as answer:
            assert answer.status == 200
        assert "127.0.0.1" not in engine.docker("ps", "--filter", "name=middle", "--format", "{{.Ports}}")
        assert _reaches(engine, folder, "proxy", "http://middle:8080")
        assert _reaches(engine, folder, "middle", "http://store:8080")
        store = engine.compose(folder, "ps", "--quiet", "store").strip()
        address = engine.docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", store
        )
        assert not _reaches(engine, folder, "proxy", f"http://{address.strip()}:8080")
    finally:
        engine.compose(folder, "down", "--volumes")
