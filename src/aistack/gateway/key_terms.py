"""What may be said of a key: checked once, for `aistack keys` and for the admin API."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from aistack.errors import UserError
from aistack.gateway.allowances import LIMIT_NAMES, SCOPES
from aistack.gateway.listing import canonical

_LONGEST_NAME = 200
_HIGHEST_LIMIT = 10**15
_WEIGHTS = (0.01, 100.0)


class TermError(UserError):
    """What was said of a key cannot be; `term` is which part of it."""

    def __init__(self, term: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.term = term


def checked(terms: Mapping[str, Any]) -> dict[str, Any]:
    """`terms` as the columns of the table. Raises TermError for what is unknown or cannot be.

    `name` and `owner` are text; `expires_at` epoch seconds or text in ISO 8601 with a time zone, in the future;
    `scopes` and `models` lists of words; limits whole numbers from 0 (none); `weight` 0.01 to 100. None: the usual.
    """
    found = {}
    for name, value in terms.items():
        if name not in _CHECKS:
            raise TermError(name, f"a key has no {name}", f"it may have: {', '.join(_CHECKS)}")
        try:
            found[name] = _CHECKS[name](name, value)
        except UserError as error:
            raise TermError(name, error.message, error.hint) from error
    return found


def _name(_: str, value: Any) -> str:
    if value is None or value == "":
        raise UserError("a key needs a name", "for instance: laptop")
    return _line("name", value)


def _owner(_: str, value: Any) -> str | None:
    return None if value in (None, "") else _line("owner", value)


def _line(name: str, value: Any) -> str:
    """A text that can be shown in one line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise UserError(f"{name} must be a line of printable text, and not blank")
    if len(value) > _LONGEST_NAME:
        raise UserError(f"{name} is {len(value)} characters long; {_LONGEST_NAME} is the most")
    return value


def _expiry(_: str, value: Any) -> float | None:
    if value is None:
        return None
    hint = "for instance: 2030-12-31T18:00:00+01:00"
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise UserError(f"{value!r} is not a point in time", hint) from error
        if moment.tzinfo is None:
            raise UserError(f"{value!r} has no time zone", hint)
        value = moment.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not time.time() < value < 1e11:
        raise UserError("a key must expire in the future", hint)
    return float(value)


def _scopes(_: str, value: Any) -> str:
    words = _words("scopes", SCOPES[:-1] if value is None else value)
    if unknown := set(words) - set(SCOPES):
        raise UserError(f"there is no scope {min(unknown)!r}", f"there are: {', '.join(SCOPES)}")
    return " ".join(scope for scope in SCOPES if scope in words)


def _models(_: str, value: Any) -> str | None:
    return None if value is None else " ".join(sorted({canonical(name) for name in _words("models", value)}))


def _words(name: str, value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f"{name} must be a list with something in it")
    for word in value:
        if not isinstance(word, str) or not word.isprintable() or word.split() != [word]:
            raise UserError(f"{name}: {word!r} is no word")
    return list(value)


def _limit(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _HIGHEST_LIMIT:
        raise UserError(f"{name} must be a whole number, 0 for no limit")
    return value


def _weight(_: str, value: Any) -> float:
    lowest, highest = _WEIGHTS
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise UserError(f"weight must be a number from {lowest} to {highest:.0f}")
    return float(value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "owner": _owner,
    "expires_at": _expiry,
    "scopes": _scopes,
    "models": _models,
    **dict.fromkeys(LIMIT_NAMES, _limit),
    "weight": _weight,
}
