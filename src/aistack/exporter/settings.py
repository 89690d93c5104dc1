"""The exporter's settings file, rendered by the deployer: the first thing that the exporter reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aistack.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """`services`: name -> URL that answers 200 when it is well. `folders`: name -> path whose disk is watched.
    `certificate`: the chain (PEM) that the proxy serves."""

    host: str
    port: int
    certificate: Path
    folders: Mapping[str, Path]
    services: Mapping[str, str]


def load(path: Path) -> Settings:
    """Read the settings file at `path` (JSON). Raises ConfigError."""
    try:
        values = json.loads(path.read_bytes())
        return Settings(
            host=str(values["host"]),
            port=int(values["port"]),
            certificate=Path(values["certificate"]),
            folders={str(name): Path(folder) for name, folder in values["folders"].items()},
            services={str(name): str(url) for name, url in values["services"].items()},
        )
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]} is missing", "`aistack up` writes this file") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"cannot use the exporter's settings {path}: {error}", "`aistack up` writes this file"
        ) from error
