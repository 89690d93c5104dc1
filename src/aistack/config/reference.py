"""Schema -> stack.example.toml and the reference page, so that neither can tell anything but the truth.

`python -m aistack.config.reference` writes both into the checkout it is run in.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from aistack.config.schema import Config, Table
from aistack.errors import ConfigError
from aistack.system import files

SAMPLE = Path("stack.example.toml")
PAGE = Path("docs/reference/stack.toml.md")

# What nearly every site looks at first: shown as set, the rest as what it would be.
_ALWAYS_SET = ("runtime", "models.chat", "models.embedding")

_SAMPLE_HEAD = """\
# What this site wants of its AI stack: `aistack up` makes the machine so.
# A key that begins with "# " shows its default; take the "# " away to set it.
"""

_PAGE_HEAD = """\
# stack.toml

Written by `make docs` from the schema; change `src/aistack/config/schema.py` instead.

The one file that says what a site wants. Every key has a default, so an empty file is a whole stack.
`aistack init` writes one, `aistack check` tells every mistake in it, `aistack up` makes the machine so.
Unknown keys are refused. [`stack.example.toml`](../../stack.example.toml) shows all of it at once.
"""


@dataclass(frozen=True)
class Key:
    """One key: its full `path` (`engine.port`), its JSON schema, what stands for it when it is not set."""

    path: str
    schema: Mapping[str, Any]
    default: object

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def description(self) -> Sequence[str]:
        """What it means, in lines."""
        return str(self.schema["description"]).splitlines()


@dataclass(frozen=True)
class Section:
    """A table with its own keys; the first one, of keys that stand before every table, has no name."""

    name: str
    description: Sequence[str]
    keys: tuple[Key, ...]


def sections(table: type[Table] = Config, name: str = "") -> Iterator[Section]:
    """`table` and all tables in it, in the order in which a TOML file can hold them."""
    own: list[Key] = []
    inner: list[Section] = []
    properties = table.model_json_schema()["properties"]
    for key, field in table.model_fields.items():
        path = f"{name}.{key}" if name else key
        if isinstance(field.annotation, type) and issubclass(field.annotation, Table):
            inner += sections(field.annotation, path)
        else:
            own.append(Key(path, properties[key], field.default))
    yield Section(name, inspect.cleandoc(table.__doc__ or "").splitlines(), tuple(own))
    yield from inner


def sample(values: Mapping[str, object]) -> str:
    """A commented stack.toml in which `values` ("models.chat" -> value) are set and all else is shown.

    Raises ConfigError for a key that the schema does not have; the values themselves are not judged.
    """
    found = list(sections())
    known = {key.path for section in found for key in section.keys}
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"{unknown[0]}: there is no such key", f"keys are named in {PAGE}")
    return _SAMPLE_HEAD + "".join(_sample_section(section, values) for section in found)


def _sample_section(section: Section, values: Mapping[str, object]) -> str:
    lines = []
    if section.name:
        lines += ["", *(f"# {line}" for line in section.description), f"[{section.name}]"]
    for key in section.keys:
        mark = "" if key.path in values or key.path in _ALWAYS_SET else "# "
        value = _toml(values.get(key.path, key.default))
        lines += ["", *(f"# {line}" for line in key.description), f"{mark}{key.name} = {value}"]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return f"[{', '.join(map(_toml, value))}]"
    return str(tomlkit.item(list(value) if isinstance(value, tuple) else value).as_string())


def page() -> str:
    """The reference page, in Markdown."""
    return _PAGE_HEAD + "".join(_page_section(section) for section in sections())


def _page_section(section: Section) -> str:
    title = f"`[{section.name}]`" if section.name else "Before any table"
    about = f"\n{' '.join(section.description)}\n" if section.name else ""
    return f"\n## {title}\n{about}" + "".join(_page_key(key) for key in section.keys)


def _page_key(key: Key) -> str:
    facts = f"{_kind(key.schema)}; default `{_toml(key.default)}`"
    return f"\n### `{key.path}`\n\n{' '.join(key.description)}\n\n{facts}\n"


def _kind(schema: Mapping[str, Any]) -> str:
    """What may be given, in words."""
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return " or ".join(f"`{_toml(choice)}`" for choice in choices)
    match schema["type"]:
        case "integer":
            return f"whole number, {schema['minimum']} to {schema['maximum']}"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return "list of tables" if "$ref" in schema["items"] else "list of texts"
        case _:
            return "text"


def write(root: Path) -> tuple[Path, ...]:
    """Write both files below `root`; returns those that changed. Raises UserError."""
    texts = {SAMPLE: sample({}), PAGE: page()}
    return tuple(path for path, text in texts.items() if files.write(root / path, text))


if __name__ == "__main__":
    for changed in write(Path.cwd()):
        print(f"wrote {changed}")
