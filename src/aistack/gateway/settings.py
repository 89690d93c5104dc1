"""What the deployer tells the gateway: one JSON file, read once at the start."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from aistack.errors import ConfigError
from aistack.gateway.allowances import Allowances, Limits
from aistack.gateway.listing import canonical

NodeKind = Literal["llamacpp", "ollama", "openai"]


@dataclass(frozen=True)
class Node:
    """One engine that the gateway may send requests to.

    `url` has no trailing slash; below it lie `/v1/...` (all kinds) and `/api/...` (kind `ollama`).
    `key_file` holds the Bearer key that the node wants, if it wants one. `slots` is how many requests it works
    on at once for a model; 0: what it says itself, or what its kind usually does.
    """

    name: str
    kind: NodeKind
    url: str
    key_file: Path | None = None
    slots: int = 0


@dataclass(frozen=True)
class Audit:
    """The audit log: written to `file`, which becomes `file.1` at `max_mb`, up to `file.<keep>`; with `prompts` it
    holds what was asked too."""

    file: Path
    prompts: bool
    max_mb: int
    keep: int


@dataclass(frozen=True)
class Settings:
    """Everything the gateway needs to know. `default_models` come first in every list of models.

    `aliases` are names that clients may use, with the model that each stands for now; `fallbacks` the model that
    answers when no node can answer for another. At most `most_waiting` requests wait for one model. `database` is
    the path of an SQLite file, or a URL without a password; `redis` such a URL, or None: limits are this gateway's own.
    """

    host: str
    port: int
    database: str
    database_password_file: Path | None
    redis: str | None
    redis_password_file: Path | None
    internal_key_file: Path
    nodes: tuple[Node, ...]
    chat_url: str
    default_models: Mapping[str, str]
    max_body_mb: int
    aliases: Mapping[str, str]
    fallbacks: Mapping[str, str]
    most_waiting: int
    refuse_truncation: bool
    audit: Audit | None
    allowances: Allowances


def load(path: Path) -> Settings:
    """The settings in the JSON file `path`. Raises ConfigError naming the file and the key."""
    try:
        return parse(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the gateway's settings {path}: {error}") from error
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]} is missing") from error
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not shaped like the gateway's settings: {error}") from error


def parse(document: Mapping[str, Any]) -> Settings:
    """Settings from the parsed JSON. Raises KeyError for what is missing, ValueError for what is wrong."""
    return Settings(
        host=str(document["host"]),
        port=int(document["port"]),
        database=str(document["database"]),
        database_password_file=_optional_path(document.get("database_password_file")),
        redis=document.get("redis"),
        redis_password_file=Path(document["redis_password_file"]) if document.get("redis") else None,
        internal_key_file=Path(document["internal_key_file"]),
        nodes=tuple(_node(item) for item in document["nodes"]),
        chat_url=str(document["chat_url"]).rstrip("/"),
        default_models=dict(document.get("default_models") or {}),
        max_body_mb=int(document["max_body_mb"]),
        aliases=_by_canonical_name(document.get("aliases")),
        fallbacks=_by_canonical_name(document.get("fallbacks")),
        most_waiting=int(document.get("most_waiting", 500)),
        refuse_truncation=document.get("truncation", "warn") == "refuse",
        audit=_audit(document["audit"]) if document.get("audit") else None,
        allowances=_allowances(document.get("limits") or {}),
    )


def _node(item: Mapping[str, Any]) -> Node:
    kind = item["kind"]
    if kind not in get_args(NodeKind):
        raise ValueError(f"nodes: kind {kind!r} is none of {', '.join(get_args(NodeKind))}")
    key_file = item.get("key_file")
    return Node(
        name=str(item["name"]),
        kind=kind,
        url=str(item["url"]).rstrip("/"),
        key_file=Path(key_file) if key_file else None,
        slots=int(item.get("slots") or 0),
    )


def _optional_path(value: Any) -> Path | None:
    return Path(value) if value else None


def _allowances(item: Mapping[str, Any]) -> Allowances:
    people = Limits(**item.get("people", {}))
    roles = {str(role): people.but(limits) for role, limits in (item.get("roles") or {}).items()}
    return Allowances(Limits(**item.get("keys", {})), people, roles)


def _audit(item: Mapping[str, Any]) -> Audit:
    return Audit(Path(item["file"]), bool(item["prompts"]), int(item["max_mb"]), int(item["keep"]))


def _by_canonical_name(models: Mapping[str, Any] | None) -> Mapping[str, str]:
    return {canonical(name): str(model) for name, model in (models or {}).items()}


def read_secret(path: Path) -> str:
    """The secret in a file, without surrounding white space. Raises ConfigError when unreadable or empty."""
    try:
        secret = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the secret in {path}: {error.strerror}") from error
    if not secret:
        raise ConfigError(f"the secret file {path} is empty")
    return secret
