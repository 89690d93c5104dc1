import json
from pathlib import Path
from typing import Any

import pytest

from aistack.errors import ConfigError
from aistack.gateway.settings import load, read_secret

WHOLE: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8080,
    "database": "/data/gateway.db",
    "internal_key_file": "/secrets/internal",
    "nodes": [{"name": "local", "kind": "llamacpp", "url": "http://127.0.0.1:11434/"}],
    "chat_url": "http://127.0.0.1:3000/",
    "default_models": {"chat": "a", "embedding": "b"},
    "max_body_mb": 100,
}


def written(folder: Path, document: Any) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps(document))
    return path


def test_addresses_lose_their_last_slash(tmp_path: Path) -> None:
    settings = load(written(tmp_path, WHOLE))
    assert settings.nodes[0].url == "http://127.0.0.1:11434"
    assert settings.chat_url == "http://127.0.0.1:3000"
    assert settings.nodes[0].key_file is None


@pytest.mark.parametrize("key", [key for key in WHOLE if key != "default_models"])
def test_what_is_missing_is_named(tmp_path: Path, key: str) -> None:
    document = {name: value for name, value in WHOLE.items() if name != key}
    with pytest.raises(ConfigError, match=key):
        load(written(tmp_path, document))


def test_a_redis_comes_with_the_file_of_its_password(tmp_path: Path) -> None:
    assert load(written(tmp_path, WHOLE)).redis is None
    with pytest.raises(ConfigError, match="redis_password_file"):
        load(written(tmp_path, {**WHOLE, "redis": "redis://db.example"}))


@pytest.mark.parametrize("document", [[], {**WHOLE, "nodes": 7}, {**WHOLE, "port": "x"}, {**WHOLE, "nodes": [1]}])
def test_what_is_not_shaped_like_settings_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ConfigError, match=r"settings\.json"):
        load(written(tmp_path, document))


def test_an_unknown_kind_of_node_is_refused_with_those_there_are(tmp_path: Path) -> None:
    nodes = [{"name": "x", "kind": "magic", "url": "http://x"}]
    with pytest.raises(ConfigError, match="llamacpp, ollama, openai"):
        load(written(tmp_path, {**WHOLE, "nodes": nodes}))


def test_a_secret_is_read_without_its_line_end_and_must_not_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("abc\n")
    assert read_secret(path) == "abc"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_secret(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_secret(tmp_path / "nowhere")
