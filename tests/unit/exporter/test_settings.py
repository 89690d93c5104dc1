import json
from pathlib import Path
from typing import Any

import pytest

from aistack.errors import ConfigError
from aistack.exporter.settings import Settings, load

WHOLE: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 9101,
    "certificate": "/tls/server.pem",
    "folders": {"data": "/data"},
    "services": {"nginx": "http://127.0.0.1:8081/health"},
}


def written(folder: Path, document: object) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps(document))
    return path


def test_settings_are_read(tmp_path: Path) -> None:
    assert load(written(tmp_path, WHOLE)) == Settings(
        "127.0.0.1", 9101, Path("/tls/server.pem"), {"data": Path("/data")},
        {"nginx": "http://127.0.0.1:8081/health"},
    )  # fmt: skip


@pytest.mark.parametrize("key", list(WHOLE))
def test_what_is_missing_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        load(written(tmp_path, {name: value for name, value in WHOLE.items() if name != key}))


@pytest.mark.parametrize("document", [[], 3, {**WHOLE, "services": []}, {**WHOLE, "port": "many"}])
def test_another_shape_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(ConfigError, match="cannot use"):
        load(written(tmp_path, document))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.json")
