"""What of the programs is missing; and what pip was told about the site, uv is told too."""

from pathlib import Path

from aistack.components.base import OwnModule
from aistack.runtimes.programs import Installer, uv_options


def test_a_module_of_ours_is_missing_while_the_library_it_links_to_is() -> None:
    bare = ("gateway", OwnModule("aistack.gateway"))
    linked = ("engine", OwnModule("aistack.engine", "libc6", "libc.so.6"))
    lacking = ("engine", OwnModule("aistack.engine", "libnone1", "libnone.so.1"))
    installer = Installer(Path("/nowhere"), lambda _: False)
    assert installer.missing([bare, linked, lacking]) == (lacking,)


def test_the_machines_own_certificates_count_without_any_setting() -> None:
    assert uv_options("") == ["--system-certs"]


def test_mirrors_wheels_and_certificates_are_passed_on_and_what_uv_need_not_know_is_not() -> None:
    settings = (
        "global.index-url='https://mirror.lan/simple'\n"
        "global.extra-index-url='https://a.lan/simple file:///srv/simple'\n"
        "global.find-links='\\n/srv/wheels\\n/srv/more'\n"
        "global.cert='/etc/ssl/site.pem'\n"
        ":env:.default-timeout='180'\n"
    )
    assert uv_options(settings) == [
        "--system-certs",
        *("--index", "https://a.lan/simple"),
        *("--find-links", "/srv/wheels", "--find-links", "/srv/more"),
        *("--default-index", "https://mirror.lan/simple"),
        *("--cert", "/etc/ssl/site.pem"),
    ]


def test_pips_environment_goes_before_its_files_where_only_one_can_be_followed() -> None:
    settings = (
        ":env:.cert='/etc/ssl/environment.pem'\n:env:.index-url='https://environment.lan/simple'\n"
        "global.cert='/etc/ssl/file.pem'\nglobal.index-url='https://file.lan/simple'\n"
    )
    assert uv_options(settings) == [
        "--system-certs",
        *("--cert", "/etc/ssl/environment.pem"),
        *("--default-index", "https://environment.lan/simple"),
    ]
