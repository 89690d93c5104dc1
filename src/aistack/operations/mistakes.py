"""Mistakes in stack.toml that its schema cannot see: what stands behind the words, on this machine and elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from aistack.components.gateway.component import NODE_KEY
from aistack.config.schema import Config
from aistack.errors import ConfigError, ModelError
from aistack.models.names import parse


def wrong_names(config: Config) -> Iterator[str]:
    """Models that no hub could have."""
    for key in ("chat", "embedding"):
        try:
            parse(getattr(config.models, key))
        except ModelError as error:
            yield f"models.{key}: {error.message}"


def refuse_missing_keys(config: Config, secrets: Path) -> None:
    """Raise ConfigError for nodes that want a key which is not in the folder `secrets`."""
    problems = tuple(_missing_keys(config, secrets))
    if problems:
        raise ConfigError("keys of engine nodes are missing", "write each into its file, with mode 0600", problems)


def _missing_keys(config: Config, secrets: Path) -> Iterator[str]:
    for node in config.engine.nodes:
        path = secrets / NODE_KEY.format(node.name)
        if not node.key:
            continue
        try:
            if not path.read_text().strip():
                yield f"engine.nodes: the key of {node.name}, {path}, is empty"
        except FileNotFoundError:
            yield f"engine.nodes: {node.name} wants a key, and there is no {path}"
        except (OSError, UnicodeDecodeError) as error:
            yield f"engine.nodes: the key of {node.name} cannot be read: {error}"


def missing_files(config: Config) -> Iterator[str]:
    """The site's own certificate and key, where they cannot be read."""
    for key in ("certificate", "certificate_key"):
        path = getattr(config.proxy, key)
        if path and not os.access(path, os.R_OK):
            what = "may not be read" if os.access(path, os.F_OK) else "is not there"
            yield f"proxy.{key}: {path} {what}"
