from pathlib import Path

from aistack.config.paths import Paths
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
