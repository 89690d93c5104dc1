"""Mistakes in stack.toml that its schema cannot see: what stands behind the words, on this machine and elsewhere."""

import os
from collections.abc import Iterator

from aistack.config.schema import Config
from aistack.errors import ModelError
from aistack.models.names import parse


def wrong_names(config: Config) -> Iterator[str]:
    """Models that no hub could have."""
    for key in ("chat", "embedding"):
        try:
            parse(getattr(config.models, key))
        except ModelError as error:
            yield f"models.{key}: {error.message}"


def missing_files(config: Config) -> Iterator[str]:
    """The site's own certificate and key, where they cannot be read."""
    for key in ("certificate", "certificate_key"):
        path = getattr(config.proxy, key)
        if path and not os.access(path, os.R_OK):
            what = "may not be read" if os.access(path, os.F_OK) else "is not there"
            yield f"proxy.{key}: {path} {what}"
