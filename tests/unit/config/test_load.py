from pathlib import Path

import pytest

from aistack.config.load import load, parse, readable
from aistack.errors import ConfigError


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value.problems


def test_an_empty_file_is_a_whole_stack() -> None:
    config = parse("")
    assert (config.runtime, config.proxy.https_port, config.models.embedding) == (
        "process", 8443, "all-minilm",
    )  # fmt: skip


def test_every_mistake_is_told_at_once_with_its_key_path() -> None:
    found = problems(
        """
        runtime = "docker"
        [proxy]
        https_port = 99999
        [proxy.limits]
        api_rate = "fast"
        [engine]
        kepp_alive = "5m"
        """
    )
    assert len(found) == 4
    assert {line.partition(":")[0] for line in found} == {
        "runtime", "proxy.https_port", "proxy.limits.api_rate", "engine.kepp_alive",
    }  # fmt: skip


def test_a_misspelt_key_is_answered_with_the_right_one() -> None:
    assert problems("[engine]\nkepp_alive = '5m'") == (
        "engine.kepp_alive: there is no such key; did you mean keep_alive?",
    )
    assert problems("[proxy.limits]\napi_rat = '5r/s'") == (
        "proxy.limits.api_rat: there is no such key; did you mean api_rate?",
    )
    assert problems("[engin]\n") == ("engin: there is no such key; did you mean engine?",)
    assert problems("[proxy]\nxyz = 1") == ("proxy.xyz: there is no such key",)


@pytest.mark.parametrize(
    ("text", "key", "shown"),
    [
        ("[proxy]\nhttps_port = '8443'", "proxy.https_port", "'8443'"),
        ("[proxy]\nhttps_port = true", "proxy.https_port", "True"),
        ("[proxy]\nhttps_port = 0", "proxy.https_port", "0"),
        ("[proxy]\naddress = 'everywhere'", "proxy.address", "is not an IP address"),
        ("[proxy]\ncertificate = 'server.pem'", "proxy.certificate", "is not an absolute path"),
        ("[paths]\nmodels = 'models'", "paths.models", "is not an absolute path"),
        ("[proxy.limits]\nchat_burst = 0", "proxy.limits.chat_burst", "0"),
        ("[site]\nhost_names = ['good.example', 'bad_name']", "site.host_names.1", "bad_name"),
        ("[site]\nhost_names = 'ai.example'", "site.host_names", "tuple"),
        ("[site]\nadministrator = 'root'", "site.administrator", "'root'"),
        ("[site]\nname = 'a\"b'", "site.name", "pattern"),
        ("[engine]\nkeep_alive = '5 minutes'", "engine.keep_alive", "'5 minutes'"),
        ("[engine]\nkind = 'vllm'", "engine.kind", "'vllm'"),
        ("[models]\nchat = '../etc/passwd'", "models.chat", "'../etc/passwd'"),
        ("[chat]\nsign_up = 1", "chat.sign_up", "1"),
        ("proxy = 3", "proxy", "3"),
    ],
)
def test_a_wrong_value_is_named_and_shown(text: str, key: str, shown: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"{key}: ")
    assert shown in problem


def test_two_services_cannot_have_one_port() -> None:
    assert problems("[chat]\nport = 8080\n[proxy]\nstatus_port = 9090") == (
        "gateway.port: port 8080 is also chat.port",
        "monitoring.prometheus_port: port 9090 is also proxy.status_port",
    )


def test_a_contradiction_is_told_beside_a_typo() -> None:
    assert problems("[proxy]\nhttps_port = 8081\n[engine]\nprot = 1\n[site]\nhost_names = ['ok', 'bad_name']") == (
        "site.host_names.1: is neither a host name nor an IP address (it is 'bad_name')",
        "engine.prot: there is no such key; did you mean port?",
        "proxy.status_port: port 8081 is also proxy.https_port",
    )


@pytest.mark.parametrize("text", ["[gateway]\nport = 'x'\n[chat]\nport = 8080", "gateway = 1\n[chat]\nport = 8080"])
def test_the_default_of_a_wrong_key_contradicts_nothing(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("gateway")


def test_a_certificate_whose_key_is_misspelt_is_one_mistake() -> None:
    (problem,) = problems("[proxy]\ncertificate = '/a.pem'\ncertificate_key = 'a.key'")
    assert problem.startswith("proxy.certificate_key: is not an absolute path")


def test_what_others_find_is_told_with_the_rest() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[chat]\nport = 'x'", judges=(lambda config: [f"chat.port: judged as {config.chat.port}"],))
    assert caught.value.problems[1:] == ("chat.port: judged as 3000",)


@pytest.mark.parametrize(
    "text",
    ["[proxy]\nhttps_port = 9443\nprot = 1\nhttp_port = 'x'\n", "[proxy]\nhttps_port = 9443\n[chat\nport = 5\n"],
)
def test_of_a_wrong_file_the_rest_can_be_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stack.toml"
    path.write_text(text)
    config = readable(path)
    assert (config.proxy.https_port, config.proxy.http_port, config.chat.port) == (9443, 0, 3000)


def test_no_redirect_port_is_no_port_that_could_clash() -> None:
    assert parse("[proxy]\nhttp_port = 0").proxy.http_port == 0


@pytest.mark.parametrize(("given", "missing"), [("certificate", "certificate_key"), ("certificate_key", "certificate")])
def test_a_certificate_needs_its_key(given: str, missing: str) -> None:
    (problem,) = problems(f"[proxy]\n{given} = '/etc/ssl/x.pem'")
    assert problem.startswith(f"proxy.{missing}:")


def test_a_certificate_lies_where_nginx_can_be_told_of_it() -> None:
    (problem,) = problems("[proxy]\ncertificate = '/my certs/a.pem'\ncertificate_key = '/certs/a.key'")
    assert problem.startswith("proxy.certificate: holds ' '")


def test_addresses_and_names_are_written_one_way() -> None:
    config = parse("[site]\nhost_names = ['AI.Example', '::1']\n[proxy]\naddress = '0:0::1'")
    assert config.site.host_names == ("ai.example", "::1")
    assert config.proxy.address == "::1"


def test_the_number_of_mistakes_is_in_the_message() -> None:
    with pytest.raises(ConfigError, match=r"^site\.toml has 1 mistake$"):
        parse("x = 1", "site.toml")
    with pytest.raises(ConfigError, match="has 2 mistakes"):
        parse("x = 1\ny = 2")


def test_text_that_is_not_toml_tells_its_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        parse("[site]\nname = x\n")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "stack.toml")
    assert "aistack init" in caught.value.hint


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.toml"
    path.write_bytes(b'[site]\nname = "\xff"')
    with pytest.raises(ConfigError, match="cannot read"):
        load(path)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stack.toml"
    path.write_text('[site]\nname = "Werkstatt Köln"\n')
    assert load(path).site.name == "Werkstatt Köln"


def test_nodes_are_read_and_their_mistakes_told_by_their_place() -> None:
    good = '[[engine.nodes]]\nname = "b"\nkind = "ollama"\nurl = "http://10.0.0.6:11434"\n'
    assert [node.name for node in parse(good).engine.nodes] == ["b"]
    bad = '[[engine.nodes]]\nname = "B"\nkind = "olama"\nurl = "http://me:secret@gpu"\nuri = "x"\n'
    with pytest.raises(ConfigError) as caught:
        parse(good + bad)
    told = "\n".join(caught.value.problems)
    for part in ("engine.nodes.1.name", "engine.nodes.1.kind", "engine.nodes.1.url", "did you mean url?"):
        assert part in told
    for name in ("b", "local"):
        with pytest.raises(ConfigError, match="1 mistake"):
            parse(good + good.replace('"b"', f'"{name}"'))


def test_wrong_limits_of_roles_are_told_with_their_keys() -> None:
    text = "[gateway.limits.roles]\nboss = { tokens_per_day = 1 }\nadmin = { token_per_day = 1, tokens_per_month = -1 }"
    with pytest.raises(ConfigError) as caught:
        parse(text)
    problems = "\n".join(caught.value.problems)
    assert "gateway.limits.roles.boss" in problems
    assert "gateway.limits.roles.admin.token_per_day: there is no such key; did you mean tokens_per_day?" in problems
    assert "gateway.limits.roles.admin.tokens_per_month" in problems


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("gateway.database", "postgresql://aistack:secret@db.example/aistack"),
        ("gateway.redis", "redis://aistack:secret@db.example"),
        ("gateway.redis", "redis://:secret@db.example"),
        ("gateway.redis", "redis://db.example/0?password=secret"),
    ],
)
def test_the_password_of_a_database_does_not_belong_in_the_file(key: str, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f'{key} = "{url}"')
    assert any(problem.startswith(key) for problem in caught.value.problems)


@pytest.mark.parametrize(
    "url",
    ["redis://db.example", "rediss://aistack@db.example:6380/2", "redis://10.0.0.5:6379", "redis://[fd00::7]:6379/0"],
)
def test_a_redis_has_an_address_in_all_the_usual_forms(url: str) -> None:
    assert parse(f'gateway.redis = "{url}"').gateway.redis == url
