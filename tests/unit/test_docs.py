"""The documentation cannot fall behind: commands, settings, services and links are held against the code."""

import re
from pathlib import Path

import click
import pytest

from aistack.cli.main import commands
from aistack.components import COMPONENTS
from aistack.config.schema import Config, Table
from aistack.gateway.metrics import REASONS, Meters

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/**/*.md"))]


def _names(group: click.Group, before: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        if not command.hidden:
            full = f"{before}{name}"
            found += _names(command, f"{full} ") if isinstance(command, click.Group) else [full]
    return found


def _settings(table: type[Table], before: str = "") -> list[str]:
    found = []
    for name, field in table.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Table):
            found += _settings(kind, f"{before}{name}.")
        else:
            found.append(f"{before}{name}")
    return found


def _in_readme() -> set[str]:
    """The commands in the README's table: a row such as `aistack keys create\\|ls` holds two."""
    rows = re.findall(r"^\| `aistack ([^`]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    found = set()
    for row in rows:
        words = [word for word in row.replace("\\|", "|").split() if re.fullmatch(r"[a-z|]+", word)]
        found |= {" ".join((*words[:-1], last)) for last in words[-1].split("|")} | {words[0]}
    return found


@pytest.mark.parametrize("command", _names(commands))
def test_every_command_is_in_the_readmes_table(command: str) -> None:
    assert command in _in_readme()


@pytest.mark.parametrize("command", _names(commands))
def test_every_command_and_option_explains_itself_and_no_list_of_them_cuts_it_short(command: str) -> None:
    found: click.Command = commands
    for word in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    assert found.help
    assert not found.get_short_help_str(62).endswith("...")
    assert all(option.help for option in found.params if isinstance(option, click.Option))


@pytest.mark.parametrize("setting", _settings(Config))
def test_every_setting_is_in_the_sample_and_the_reference(setting: str) -> None:
    table, _, name = setting.rpartition(".")
    # The part of the sample from the table's head to the next table.
    sample = re.split(r"^\[(.*)\]$", "[]\n" + (ROOT / "stack.example.toml").read_text(), flags=re.MULTILINE)
    parts = dict(zip(sample[1::2], sample[2::2], strict=True))
    assert re.search(rf"^(# )?{name} = ", parts[table], re.MULTILINE)
    assert f"\n### `{setting}`\n" in (ROOT / "docs/reference/stack.toml.md").read_text()


def test_every_service_is_in_the_architecture_page() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    missing = [service.name for component in COMPONENTS for service in component(Config()) if service.name not in text]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    dead = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not dead


def test_every_metric_and_reason_of_the_gateway_is_in_its_page() -> None:
    meters = Meters()
    meters.watch(tuple, dict)
    meters.watch_database(int, bool)
    meters.watch_redis(bool)
    found = {family.name + ("_total" if family.type == "counter" else "") for family in meters.registry.collect()}
    metrics, reasons = (ROOT / "docs/reference/gateway-metrics.md").read_text().split("\n## Reasons\n")
    rows = re.findall(r"^\| `(\w+)` \|", metrics, re.MULTILINE)
    assert {f"aistack_gateway_{name}" for name in rows} == found
    cells = re.findall(r"^\| (`.+`) \|", reasons, re.MULTILINE)[1:]
    assert set(re.findall(r"\w+", " ".join(cells))) == REASONS | {"other"}
