"""What every source tells while a model comes in, so that one progress line shows them all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Step = Literal["looking", "waiting", "downloading", "copying", "verifying", "installing"]


@dataclass(frozen=True)
class Progress:
    """How far a model is. `done` and `total` are bytes; `total` is 0 while it is not known.

    `waiting` means that another process fetches the same file.
    """

    model: str
    step: Step
    done: int
    total: int


OnProgress = Callable[[Progress], None]


def ignore(_progress: Progress) -> None:
    """For callers who show nothing."""
