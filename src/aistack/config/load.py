"""stack.toml -> Config: every mistake is told at once, each with its key path."""

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aistack.config.schema import Config, Table
from aistack.errors import ConfigError

_PORT_KEYS = ("port", "https_port", "http_port", "status_port", "prometheus_port", "node_exporter_port",
              "nginx_exporter_port", "exporter_port")  # fmt: skip

Judge = Callable[[Config], Iterable[str]]
"""Finds mistakes that the schema cannot see, each as `key.path: what is wrong`."""
_Location = tuple[int | str, ...]


def load(path: Path, judges: Iterable[Judge] = ()) -> Config:
    """Read and check the file at `path`. Raises ConfigError with every problem it has."""
    return parse(_read(path), str(path), judges)


def readable(path: Path) -> Config:
    """What can be understood of a file that may be wrong: defaults stand for wrong keys, and for everything
    after text that is no TOML. Raises ConfigError when there is no file to read."""
    lines = _read(path).splitlines()
    for end in range(len(lines), -1, -1):
        try:
            values = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        return _validated(values)[0]
    raise AssertionError("no lines at all are valid TOML")


def parse(text: str, name: str = "stack.toml", judges: Iterable[Judge] = ()) -> Config:
    """The Config that `text` describes; `name` is what error messages call it. Raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{name} is not valid TOML: {error}", "correct that line, then run `aistack check`"
        ) from error
    config, details = _validated(values)
    wrong = {".".join(str(part) for part in detail["loc"]) for detail in details}
    problems = (
        *(_explain(detail) for detail in details),
        *_contradictions(config, wrong),
        *(problem for judge in judges for problem in judge(config)),
    )
    if problems:
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise ConfigError(
            f"{name} has {count}",
            "correct them, then run `aistack check`; every key is in stack.example.toml",
            problems,
        )
    return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", "run `aistack init` to write one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "check its permissions and that it is UTF-8 text") from error


def _validated(values: Mapping[str, Any]) -> tuple[Config, list[ErrorDetails]]:
    """The Config of all that the schema takes, and what it says of the rest."""
    try:
        return Config.model_validate(values), []
    except ValidationError as error:
        details = error.errors()
    return Config.model_validate(_without(values, [_place(detail["loc"]) for detail in details])), details


def _place(location: _Location) -> _Location:
    """Where the wrong thing stands; pydantic adds a word when it is the key, and not its value."""
    return location[:-1] if location[-1] == "[key]" else location


def _without(table: Mapping[str, Any], wrong: Collection[_Location]) -> dict[str, Any]:
    """`table` without the keys at `wrong`."""
    kept: dict[str, Any] = {}
    for key, value in table.items():
        below = [location[1:] for location in wrong if location[0] == key]
        if not below:
            kept[key] = value
        elif isinstance(value, dict) and all(below):
            kept[key] = _without(value, below)
    return kept


def _explain(detail: ErrorDetails) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), _keys_beside(detail["loc"]), n=1)
        return f"{path}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = f" (it is {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{path}: {message[0].lower()}{message[1:]}{shown}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    table: Any = Config
    for part in location[:-1]:
        # A number is a place in a list of tables; in a dictionary of tables, any word is one's name.
        if isinstance(part, int) or get_origin(table) is dict:
            table = get_args(table)[-1 if get_origin(table) is dict else 0]
        else:
            table = table.model_fields[part].annotation
    return list(table.model_fields) if isinstance(table, type) and issubclass(table, Table) else []


def _contradictions(config: Config, wrong: Collection[str]) -> tuple[str, ...]:
    """Mistakes that no single key shows. What stands for a key in `wrong`, or in a wrong table, is nobody's wish."""
    problems = []
    seen: dict[int, str] = {}
    for key, port in _ports(config):
        if key in wrong or key.partition(".")[0] in wrong:
            continue
        if port and port in seen:
            problems.append(f"{key}: port {port} is also {seen[port]}")
        seen.setdefault(port, key)
    certificates = {"proxy", "proxy.certificate", "proxy.certificate_key"}
    if certificates.isdisjoint(wrong) and bool(config.proxy.certificate) != bool(config.proxy.certificate_key):
        missing = "certificate_key" if config.proxy.certificate else "certificate"
        problems.append(f"proxy.{missing}: a certificate and its key must be given together")
    names = ["local", *(node.name for node in config.engine.nodes)]
    if "engine" not in wrong and len(set(names)) < len(names):
        problems.append('engine.nodes: every node needs a name of its own, and "local" is this machine\'s')
    return tuple(problems)


def _ports(config: Config) -> list[tuple[str, int]]:
    found = []
    for name in Config.model_fields:
        table = getattr(config, name)
        if isinstance(table, Table):
            found += [(f"{name}.{key}", getattr(table, key)) for key in _PORT_KEYS if key in type(table).model_fields]
    return found
