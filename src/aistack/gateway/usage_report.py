"""What the table of usage tells: by whom, by key, by model or by day."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, func, literal, select

from aistack.errors import UserError
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import PEOPLE, USAGE
from aistack.gateway.windows import WINDOWS

By = Literal["user", "key", "model", "day"]
_DAY_H = 24


@dataclass(frozen=True)
class Line:
    """What one of them used. `id` is `user:…` or `key:…`, a model, or a day in UTC; `name` what people call it."""

    id: str
    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


def moment(text: str) -> float:
    """Epoch seconds of a day, a time (UTC unless it says otherwise) or so many days ago (`30d`). Raises UserError."""
    if text.endswith("d") and text[:-1].isdecimal() and len(text) < 6:
        return (datetime.now(UTC) - timedelta(days=int(text[:-1]))).timestamp()
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{text!r} is not a day or a point in time", "for instance: 2026-11-01, or 30d") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def report(database: Database, by: By, since: float | None = None, until: float | None = None) -> tuple[Line, ...]:
    """The usage from the hour that holds `since` to that before `until` (epoch seconds), most tokens first, days in
    their order.

    By `user`, keys count for their owners; those without one, and Open WebUI's own, are not in it. Raises UserError.
    """
    group, name, wanted = _grouping(by)
    tokens = func.sum(USAGE.c.prompt_tokens + USAGE.c.completion_tokens)
    statement = (
        select(
            group.label("id"), name.label("name"), func.sum(USAGE.c.requests),
            func.sum(USAGE.c.prompt_tokens), func.sum(USAGE.c.completion_tokens),
        )
        .select_from(USAGE.outerjoin(PEOPLE, USAGE.c.principal == PEOPLE.c.principal))
        .group_by(group)
        .order_by(group if by == "day" else tokens.desc(), group)
    )  # fmt: skip
    if wanted is not None:
        statement = statement.where(wanted)
    if since is not None:
        statement = statement.where(USAGE.c.hour >= int(since // 3600))
    if until is not None:
        statement = statement.where(USAGE.c.hour * 3600 < until)
    with database.read() as connection:
        return tuple(_line(by, row) for row in connection.execute(statement))


def _grouping(by: By) -> tuple[ColumnElement[str], ColumnElement[str], ColumnElement[bool] | None]:
    match by:
        case "user":
            owner = func.coalesce(PEOPLE.c.owner, USAGE.c.principal)
            called = func.max(func.coalesce(PEOPLE.c.owner, PEOPLE.c.name))
            return owner, called, USAGE.c.principal.like("user:%") | PEOPLE.c.owner.is_not(None)
        case "key":
            return USAGE.c.principal, func.max(PEOPLE.c.name), USAGE.c.principal.like("key:%")
        case "model":
            return USAGE.c.model, func.max(USAGE.c.model), None
        case "day":
            return USAGE.c.hour // literal(_DAY_H), func.max(literal("")), None


def _line(by: By, row: Row[Any]) -> Line:
    identity, name, requests, prompt, completion = tuple(row)
    if by == "day":
        identity = name = datetime.fromtimestamp(int(identity) * 86_400, UTC).date().isoformat()
    return Line(str(identity), name or "", int(requests), int(prompt), int(completion))


def spent(database: Database, now: float) -> list[tuple[str, str, int, int]]:
    """Everybody's tokens for the limits of a day and of a month: label, limit's name, before, in this stretch."""
    found: list[tuple[str, str, int, int]] = []
    with database.read() as connection:
        for limit in ("tokens_per_day", "tokens_per_month"):
            hours = WINDOWS[limit] // 3600
            first = int(now // WINDOWS[limit]) * hours
            tokens = USAGE.c.prompt_tokens + USAGE.c.completion_tokens
            current = func.sum(tokens).filter(USAGE.c.hour >= first)
            before = func.sum(tokens).filter(USAGE.c.hour < first)
            statement = (
                select(USAGE.c.principal, before, current)
                .where(USAGE.c.hour >= first - hours)
                .group_by(USAGE.c.principal)
            )
            found += [(label, limit, int(old or 0), int(new or 0)) for label, old, new in connection.execute(statement)]
    return found
