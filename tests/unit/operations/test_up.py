from pathlib import Path

import pytest

from aistack.config.paths import Paths
from aistack.errors import ConfigError
from aistack.operations.mistakes import refuse_missing_keys
from aistack.operations.stack import open_stack
from aistack.operations.up import ensure_certificate


def test_another_root_certificate_is_announced_and_the_first_is_not(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "config", tmp_path / "data")
    paths.config.mkdir()
    paths.stack_toml.write_text("")
    stack = open_stack(paths)
    assert ensure_certificate(stack) == ()
    stack.secrets.ensure(stack.plan.secret_names)
    assert ensure_certificate(stack) == ()
    for name in ("root.key", "server.pem"):
        (paths.tls / name).unlink()
    (note,) = ensure_certificate(stack)
    assert f"{paths.tls / 'root.pem'}, is a new one" in note
    assert ensure_certificate(stack) == ()


def test_a_site_with_a_certificate_of_its_own_gets_no_authority(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "config", tmp_path / "data")
    paths.config.mkdir()
    paths.stack_toml.write_text('[proxy]\ncertificate = "/c.pem"\ncertificate_key = "/c.key"\n')
    assert ensure_certificate(open_stack(paths)) == ()
    assert not paths.tls.exists()


NODE = """
[[engine.nodes]]
name = "gpu2"
kind = "openai"
url = "http://10.0.0.6:8000"
key = true
"""


def test_the_key_of_a_node_is_never_made_up_and_wanted_before_anything_is_done(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "config", tmp_path / "data")
    paths.config.mkdir()
    paths.stack_toml.write_text(NODE)
    stack = open_stack(paths)
    stack.secrets.ensure(stack.plan.secret_names)
    key = paths.secrets / "engine-node-gpu2-key"
    assert not key.exists()
    with pytest.raises(ConfigError) as missing:
        refuse_missing_keys(stack.config, paths.secrets)
    assert missing.value.problems == (f"engine.nodes: gpu2 wants a key, and there is no {key}",)
    key.write_text("\n")
    with pytest.raises(ConfigError, match="missing"):
        refuse_missing_keys(stack.config, paths.secrets)
    key.write_text("sk-1\n")
    refuse_missing_keys(stack.config, paths.secrets)


def test_another_key_of_a_node_starts_the_gateway_anew_and_nothing_else(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "config", tmp_path / "data")
    paths.secrets.mkdir(parents=True)
    paths.stack_toml.write_text(NODE)
    stack = open_stack(paths)
    key = paths.secrets / "engine-node-gpu2-key"
    key.write_text("sk-1\n")
    before = {item.name: item.restart_hash for item in stack.rendered()}
    key.write_text("sk-2\n")
    after = {item.name: item.restart_hash for item in stack.rendered()}
    assert [name for name in before if before[name] != after[name]] == ["gateway"]
