"""Reading a request's body field by field, with every wrong type refused by the path of its field. Pure."""

from typing import Any

import orjson

from aistack.gateway.refusals import Refusal, bad_request

Json = dict[str, Any]


class Fields:
    """A JSON object out of a request. `path` leads to it from the body, empty for the body itself.

    Every method gives a field's value, or None (an empty list) when it is absent or null, and raises Refusal 400
    when it is of another type.
    """

    __slots__ = ("body", "path")

    def __init__(self, body: Json, path: str = "") -> None:
        self.body = body
        self.path = path

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def refusal(self, name: str, message: str) -> Refusal:
        """400 about one field."""
        return bad_request(f"{self.at(name)} {message}")

    def text(self, name: str) -> str | None:
        """A string."""
        value = self.body.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.refusal(name, "must be a string")

    def needed_text(self, name: str) -> str:
        """A string that must be there and not be empty."""
        value = self.text(name)
        if not value:
            raise self.refusal(name, "is required")
        return value

    def number(self, name: str) -> int | float | None:
        """A number, whole or not."""
        value = self.body.get(name)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise self.refusal(name, "must be a number")

    def count(self, name: str, least: int = 0) -> int | None:
        """A whole number of at least `least` that fits 31 bits, as everything that is counted here does."""
        value = self.body.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 31):
            return value
        raise self.refusal(name, f"must be a whole number of at least {least}")

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value = self.body.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.refusal(name, "must be true or false")

    def object(self, name: str) -> "Fields | None":
        """An object."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, dict):
            return Fields(value, self.at(name))
        raise self.refusal(name, "must be an object")

    def objects(self, name: str) -> "list[Fields]":
        """A list of objects."""
        value = self.body.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.refusal(name, "must be a list")
        for position, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.refusal(f"{name}.{position}", "must be an object")
        return [Fields(item, self.at(f"{name}.{position}")) for position, item in enumerate(value)]

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        value = self.body.get(name)
        if value is None:
            return []
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        raise self.refusal(name, "must be a list of strings")


def encoded(body: Any) -> bytes:
    """What a caller sent as JSON again, for an engine. Raises Refusal 400 when it is nested too deeply."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise bad_request("the request body is nested too deeply") from error
