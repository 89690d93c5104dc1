"""The engine's settings file, rendered by the deployer: the first thing that the engine reads."""

import json
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from aistack.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """How the engine serves.

    `keep_alive_s` is how long an idle model stays loaded (seconds, -1 for ever, 0 not at all);
    `num_parallel` how many requests one model works on at a time, each with `context_length` tokens
    (0: what the model was made for, at most 8192); `gpu_layers` -1 lets llama.cpp fit the GPU.
    `run_dir` is a folder for the sockets of the models, kept closed to other users.
    """

    host: str
    port: int
    models_dir: Path
    run_dir: Path
    max_loaded_models: int = 2
    keep_alive_s: float = 300.0
    num_parallel: int = 2
    context_length: int = 0
    threads: int = 0
    gpu_layers: int = 0
    max_body_mb: int = 100
    shutdown_grace_s: float = 10.0


_LEAST = {
    "port": 0, "max_loaded_models": 1, "keep_alive_s": -1, "num_parallel": 1, "context_length": 0,
    "threads": 0, "gpu_layers": -1, "max_body_mb": 1, "shutdown_grace_s": 0,
}  # fmt: skip


def load(path: Path) -> Settings:
    """Read the settings file at `path` (JSON). Raises ConfigError with everything that is wrong in it."""
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a JSON object")
    problems = _problems(values)
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}", "`aistack up` writes this file", problems)
    folders = {key: Path(str(values[key])).absolute() for key in ("models_dir", "run_dir")}
    return Settings(**{**values, **folders})


def _problems(values: dict[str, object]) -> tuple[str, ...]:
    known = {field.name: field for field in fields(Settings)}
    found = [f"{key}: unknown" for key in values if key not in known]
    for name, field in known.items():
        if name not in values:
            if field.default is MISSING:
                found.append(f"{name}: missing")
        elif name in _LEAST:
            found.extend(_number_problems(name, values[name], whole=field.type is int))
        elif not isinstance(values[name], str):
            found.append(f"{name}: must be a string")
    return tuple(found)


def _number_problems(name: str, value: object, *, whole: bool) -> list[str]:
    right = isinstance(value, int) if whole else isinstance(value, int | float)
    if not right or isinstance(value, bool):
        return [f"{name}: must be a {'whole ' if whole else ''}number"]
    assert isinstance(value, int | float)
    return [f"{name}: must be at least {_LEAST[name]}"] if value < _LEAST[name] else []
