"""What a caller may do and how much, as keys, people and settings say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

SCOPES = ("chat", "embed", "documents", "admin")
# What a key may do when nobody says otherwise.
USUAL_SCOPES = frozenset({"chat", "embed", "documents"})


@dataclass(frozen=True)
class Limits:
    """How much somebody may use; 0: no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    tokens_per_month: int = 0

    @cached_property
    def named(self) -> tuple[tuple[str, int], ...]:
        """Those that there are, with their names."""
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        return tuple((name, most) for name, most in pairs if most)

    @cached_property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.named)

    def but(self, others: Mapping[str, int]) -> "Limits":
        """These, but with the named `others` in their places."""
        return replace(self, **others) if others else self


UNLIMITED = Limits()
LIMIT_NAMES = tuple(each.name for each in fields(Limits))


@dataclass(frozen=True)
class Allowances:
    """The site's own limits, for keys and for people who have no other."""

    keys: Limits = UNLIMITED
    people: Limits = UNLIMITED
    roles: Mapping[str, Limits] = field(default_factory=dict)

    def of_role(self, role: str | None) -> Limits:
        """The limits of a person with this role in the chat."""
        return self.roles.get(role or "", self.people)


NO_LIMITS = Allowances()
