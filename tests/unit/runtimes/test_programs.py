"""What of the programs is missing; and what pip was told about the site, uv is told too."""

import os
from pathlib import Path

import pytest

from aistack.components.base import OwnModule
from aistack.errors import UserError
from aistack.runtimes.programs import Installer, Sources, find, package_sources, sources_of


def test_a_module_of_ours_is_missing_while_the_library_it_links_to_is() -> None:
    bare = ("gateway", OwnModule("aistack.gateway"))
    linked = ("engine", OwnModule("aistack.engine", "libc6", "libc.so.6"))
    lacking = ("engine", OwnModule("aistack.engine", "libnone1", "libnone.so.1"))
    installer = Installer(Path("/nowhere"), lambda _: False)
    assert installer.missing([bare, linked, lacking]) == (lacking,)


def test_the_machines_own_certificates_count_without_any_setting() -> None:
    assert sources_of("") == Sources(("--system-certs",), {})


def test_mirrors_wheels_and_certificates_are_passed_on_and_what_uv_need_not_know_is_not() -> None:
    settings = (
        "global.index-url='https://me:secret@mirror.lan/simple'\n"
        "global.extra-index-url='https://a.lan/simple file:///srv/simple https://b.lan/simple'\n"
        "global.find-links='\\n/srv/wheels\\n/srv/more'\n"
        "global.cert='/etc/ssl/site.pem'\n"
        ":env:.default-timeout='180'\n"
    )
    found = sources_of(settings)
    assert found.environment == {
        "UV_DEFAULT_INDEX": "https://me:secret@mirror.lan/simple",
        "UV_INDEX": "https://a.lan/simple https://b.lan/simple",
        "UV_FIND_LINKS": "/srv/wheels,/srv/more",
    }
    # Anybody can read a command line.
    assert found.options == ("--system-certs", "--cert", "/etc/ssl/site.pem")


def test_pips_environment_goes_before_its_files() -> None:
    settings = (
        ":env:.cert='/etc/ssl/environment.pem'\n:env:.index-url='https://environment.lan/simple'\n"
        "global.cert='/etc/ssl/file.pem'\nglobal.index-url='https://file.lan/simple'\nglobal.find-links=''\n"
    )
    assert sources_of(settings) == Sources(
        ("--system-certs", "--cert", "/etc/ssl/environment.pem"),
        {"UV_DEFAULT_INDEX": "https://environment.lan/simple"},
    )


def test_what_lies_in_the_callers_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    package_sources()
    assert not (tmp_path / "ran").exists()


def test_what_is_installed_for_the_machine_goes_before_what_the_caller_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` from cron, with another PATH, must not restart services for it."""
    for name in ("sh", "only-mine"):
        (tmp_path / name).write_text("#!/bin/false\n")
        (tmp_path / name).chmod(0o755)
    before = find("sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("sh") == before != str(tmp_path / "sh")
    assert find("only-mine") == str(tmp_path / "only-mine")


def test_users_who_share_the_programs_wait_for_each_other_and_keep_their_folders_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    made = tmp_path / "made"
    made.mkdir()
    (made / "complete").touch()
    before = os.umask(0o077)
    try:
        Installer(tmp_path, lambda _: False).install_own(made, ["nothing"], lambda _: None)
    finally:
        os.umask(before)
    assert (tmp_path / ".made.lock").stat().st_mode & 0o777 == 0o666
    assert tmp_path.stat().st_mode & 0o7777 == 0o2775


def test_a_lock_that_may_not_be_taken_is_told(tmp_path: Path) -> None:
    (tmp_path / ".made.lock").mkdir()
    with pytest.raises(UserError, match=r"\.made\.lock"):
        Installer(tmp_path, lambda _: False).install_own(tmp_path / "made", ["nothing"], lambda _: None)
