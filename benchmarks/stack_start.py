"""How long `aistack up` takes: from nothing running to each service healthy, and when there is nothing to do."""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

from stacks import RealStack, make_stack


@dataclass(frozen=True)
class Start:
    """Seconds since `up` began until each service was healthy, in the order in which they came."""

    healthy_s: dict[str, float]
    total_s: float
    idle_s: list[float]


def run() -> Start:
    """Bring a stack up with every program installed, take it down, and measure the second start and idle `up`s."""
    stack = make_stack()
    try:
        stack.run("up", "--yes", timeout=1500)
        stack.run("down")
        began = time.monotonic()
        process = stack.start("up", "--yes")
        assert process.stdout is not None
        healthy = {}
        for line in process.stdout:
            name, _, state = line.strip().partition(": ")
            if state.startswith("healthy"):
                healthy[name] = time.monotonic() - began
        process.wait()
        total = time.monotonic() - began
        return Start(healthy, total, [_timed(stack) for _ in range(5)])
    finally:
        stack.end()
        shutil.rmtree(stack.home, ignore_errors=True)


def _timed(stack: RealStack) -> float:
    began = time.monotonic()
    stack.run("up")
    return time.monotonic() - began
