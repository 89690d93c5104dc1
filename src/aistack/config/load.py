"""stack.toml -> Config: every mistake is told at once, each with its key path."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aistack.config.schema import Config, Table
from aistack.errors import ConfigError

_PORT_KEYS = ("port", "https_port", "http_port", "status_port", "prometheus_port", "node_exporter_port",
              "nginx_exporter_port", "exporter_port")  # fmt: skip


def load(path: Path) -> Config:
    """Read and check the file at `path`. Raises ConfigError with every problem it has."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", "run `aistack init` to write one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "check its permissions and that it is UTF-8 text") from error
    return parse(text, str(path))


def parse(text: str, name: str = "stack.toml") -> Config:
    """The Config that `text` describes; `name` is what error messages call it. Raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{name} is not valid TOML: {error}", "correct that line, then run `aistack check`"
        ) from error
    try:
        config = Config.model_validate(values)
        problems = _contradictions(config)
    except ValidationError as error:
        problems = tuple(_explain(detail) for detail in error.errors())
    if problems:
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise ConfigError(
            f"{name} has {count}",
            "correct them, then run `aistack check`; every key is in stack.example.toml",
            problems,
        )
    return config


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
        table = table.model_fields[str(part)].annotation
    return list(table.model_fields) if isinstance(table, type) and issubclass(table, Table) else []


def _contradictions(config: Config) -> tuple[str, ...]:
    """Mistakes that no single key shows."""
    problems = []
    seen: dict[int, str] = {}
    for key, port in _ports(config):
        if port and port in seen:
            problems.append(f"{key}: port {port} is also {seen[port]}")
        seen.setdefault(port, key)
    if bool(config.proxy.certificate) != bool(config.proxy.certificate_key):
        missing = "certificate_key" if config.proxy.certificate else "certificate"
        problems.append(f"proxy.{missing}: a certificate and its key must be given together")
    return tuple(problems)


def _ports(config: Config) -> list[tuple[str, int]]:
    found = []
    for name in Config.model_fields:
        table = getattr(config, name)
        if isinstance(table, Table):
            found += [(f"{name}.{key}", getattr(table, key)) for key in _PORT_KEYS if key in type(table).model_fields]
    return found
