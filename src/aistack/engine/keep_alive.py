"""Reads Ollama's `keep_alive`: how long a model stays loaded after a request."""

import math
import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
FOR_EVER = -1.0


def seconds(value: object) -> float | None:
    """What `value` means in seconds: a number, `"300"`, `"5m"`, `"1h30m"`; below zero FOR_EVER.

    None stays None: the default. Raises ValueError for anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("keep_alive must be a number of seconds or a duration such as 5m")
    amount = _duration(value.strip()) if isinstance(value, str) else float(value)
    if math.isnan(amount):
        raise ValueError("keep_alive must be a number of seconds or a duration such as 5m")
    return FOR_EVER if amount < 0 or math.isinf(amount) else amount


def _duration(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    pieces = _PIECE.findall(rest)
    if not pieces or "".join(number + unit for number, unit in pieces) != rest:
        raise ValueError("keep_alive must be a number of seconds or a duration such as 5m")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in pieces)
