"""What pip was told about the site, uv is told too."""

from aistack.runtimes.programs import uv_options


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
        *("--default-index", "https://mirror.lan/simple"),
        *("--index", "https://a.lan/simple"),
        *("--find-links", "/srv/wheels", "--find-links", "/srv/more"),
        *("--cert", "/etc/ssl/site.pem"),
    ]
