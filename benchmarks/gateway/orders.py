"""What the clients are told to do, and what they tell of it: data only."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Order:
    """What to send, and how much of it.

    `kind` is `whole` (each client asks again as soon as it has its answer, for `seconds`, or `requests` times in
    all), `streams` (each client one stream, all at once) or `first` (one client, one short stream after the
    other, alternately to `port` and to `other_port`; `requests` of each). `authorization` may be empty.
    """

    kind: str
    port: int
    path: str
    body: str
    authorization: str = ""
    clients: int = 1
    seconds: float = 0.0
    requests: int = 0
    chunks: int = 0
    rate: int = 0
    other_port: int = 0
    other_path: str = ""
    other_body: str = ""


@dataclass(frozen=True)
class Spread:
    """Half of the values are at most `p50`, all but one in a hundred at most `p99`, none is above `most`."""

    p50: float
    p99: float
    most: float


@dataclass(frozen=True)
class Result:
    """What came back: `seconds` is wall time, `cpu_s` what this program itself took.

    In milliseconds: `times` from a request to its answer, or to the first piece of it where it is a stream;
    `other_times` the same at the other port; `gaps` between two pieces of one stream.
    """

    requests: int
    failed: int
    example: str
    seconds: float
    cpu_s: float
    times: Spread
    other_times: Spread
    gaps: Spread
    chunks: int
    lost: int
    reordered: int


@dataclass
class Counts:
    """A result in the making; what `Result` has spreads of are lists here."""

    requests: int = 0
    failed: int = 0
    example: str = ""
    seconds: float = 0.0
    times_ms: list[float] = field(default_factory=list)
    other_times_ms: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)
    chunks: int = 0
    lost: int = 0
    reordered: int = 0

    def result(self, cpu_s: float) -> Result:
        """All that was counted, for which the clients took so long."""
        return Result(
            self.requests,
            self.failed,
            self.example,
            self.seconds,
            cpu_s,
            _spread(self.times_ms),
            _spread(self.other_times_ms),
            _spread(self.gaps_ms),
            self.chunks,
            self.lost,
            self.reordered,
        )


def _spread(values: list[float]) -> Spread:
    values = sorted(values) or [0.0]
    last = len(values) - 1
    return Spread(values[last // 2], values[math.ceil(last * 0.99)], values[-1])
