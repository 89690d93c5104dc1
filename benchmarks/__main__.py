"""`make bench`: run everything, print tables, write docs/benchmarks.md."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import engine_against_llamacpp, stack_start

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> None:
    """Measure, print, and keep the page."""
    start = stack_start.run()
    rows = engine_against_llamacpp.run()
    text = "\n".join((_head(), _start(start), _engine(rows)))
    print(text)
    _PAGE.write_text(text)


def _head() -> str:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    return (
        "# Benchmarks\n\nWritten by `make bench`; both sides of each comparison ran in the same run.\n\n"
        f"Machine: {model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}. "
        f"Python {platform.python_version()}, xllamacpp {version('xllamacpp')}. {datetime.now(UTC):%Y-%m-%d}.\n"
    )


def _start(start: stack_start.Start) -> str:
    lines = ["## From `up` to healthy, everything installed, nothing running\n", "| service | seconds |", "|---|--:|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in start.healthy_s.items()]
    lines += [f"| **the whole command** | **{start.total_s:.1f}** |", ""]
    idle = sorted(start.idle_s)
    lines.append(
        f"`up` with nothing to do: median {idle[len(idle) // 2]:.2f} s, slowest of {len(idle)} {idle[-1]:.2f} s.\n"
    )
    return "\n".join(lines)


def _engine(rows: list[engine_against_llamacpp.Row]) -> str:
    title = "## Our engine against the bare llama.cpp server, the same model and settings\n"
    return f"{title}\n{engine_against_llamacpp.table(rows)}\n"


if __name__ == "__main__":
    main()
