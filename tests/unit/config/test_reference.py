import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aistack.config.load import parse
from aistack.config.reference import PAGE, SAMPLE, page, sample, sections, write
from aistack.config.schema import Config
from aistack.errors import ConfigError

ROOT = Path(__file__).parents[3]


def test_the_sample_in_the_repository_is_what_the_schema_gives() -> None:
    assert (ROOT / SAMPLE).read_text() == sample({}), "run `make docs`"


def test_the_reference_page_in_the_repository_is_what_the_schema_gives() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run `make docs`"


def test_the_sample_as_it_stands_is_the_default_stack() -> None:
    assert parse(sample({})) == Config()


def test_the_sample_with_every_key_taken_in_is_the_default_stack() -> None:
    """What is shown as a default is the default: `# key = value` loses its `# `."""
    keys = {key.name for section in sections() for key in section.keys}
    lines = [line[2:] if line[2:].partition(" = ")[0] in keys else line for line in sample({}).splitlines()]
    text = "\n".join(lines)
    assert parse(text) == Config()
    values = tomllib.loads(text)
    for section in sections():
        table = values
        for part in section.name.split(".") if section.name else ():
            table = table[part]
        assert {key.name for key in section.keys} <= table.keys()


def test_chosen_values_are_set_and_nothing_else() -> None:
    values = {
        "models.chat": "qwen3:4b",
        "proxy.https_port": 443,
        "proxy.limits.api_rate": "5r/s",
        "site.host_names": ["ai.example", "10.0.0.7"],
        "chat.sign_up": True,
    }
    config = parse(sample(values))
    assert config.models.chat == "qwen3:4b"
    assert config.proxy.https_port == 443
    assert config.proxy.limits.api_rate == "5r/s"
    assert config.site.host_names == ("ai.example", "10.0.0.7")
    assert config.chat.sign_up is True
    assert config.engine == Config().engine


def test_what_a_person_typed_cannot_break_out_of_its_value() -> None:
    typed = 'x"\n[engine]\nport = 1 # \\'
    written = tomllib.loads(sample({"site.administrator": typed}))
    assert written["site"]["administrator"] == typed
    assert written["engine"] == {}


def test_a_key_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"models\.chatt"):
        sample({"models.chatt": "x"})


def test_every_key_and_table_says_what_it_is_for() -> None:
    for section in sections():
        assert section.description
        for key in section.keys:
            assert key.description[0].strip(), key.path
            assert f"### `{key.path}`" in page()


def test_the_command_writes_both_files_and_then_nothing(tmp_path: Path) -> None:
    def run() -> str:
        command = [sys.executable, "-m", "aistack.config.reference"]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert run().splitlines() == [f"wrote {SAMPLE}", f"wrote {PAGE}"]
    assert (tmp_path / SAMPLE).read_text() == sample({})
    assert write(tmp_path) == ()
