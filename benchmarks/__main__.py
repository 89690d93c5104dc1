"""`make bench`: run everything, print tables, write docs/benchmarks.md.

    python -m benchmarks [--only {start,engine,runtimes,gateway} ...]

With `--only` the other sections of the page stay as they are.
"""

import argparse
import os
import platform
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import engine_against_llamacpp, runtimes, stack_start
from benchmarks.gateway import measures, report

_DOCS = Path(__file__).parents[1] / "docs"
_PAGE = _DOCS / "benchmarks.md"
_HEAD = "# Benchmarks\n\nWritten by `make bench`; both sides of each comparison ran in the same run.\n"
_SECTION = re.compile(r"^## (.*)\n", re.MULTILINE)


def main() -> None:
    """Measure, print, and keep the page."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure, print tables, write docs/benchmarks.md.")
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS), help="these sections")
    text = _page(parser.parse_args().only)
    print(text)
    _PAGE.write_text(text)


def _page(wanted: Iterable[str]) -> str:
    """The page with its `wanted` sections written anew."""
    parts = _SECTION.split(_PAGE.read_text())[1:]
    kept = dict(zip(parts[::2], parts[1::2], strict=True))
    written = {
        title: f"{measure().strip()}\n\n{_machine()}" if name in wanted else kept.get(title, "")
        for name, (title, measure) in _PARTS.items()
    }
    return _HEAD + "".join(f"\n## {title}\n\n{text.strip()}\n" for title, text in written.items() if text)


def _machine() -> str:
    """Where and when a section was measured."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    return (
        f"Machine: {model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}. "
        f"Python {platform.python_version()}, xllamacpp {version('xllamacpp')}. {datetime.now(UTC):%Y-%m-%d}."
    )


def _start() -> str:
    start = stack_start.run()
    lines = ["| service | seconds |", "|---|--:|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in start.healthy_s.items()]
    lines += [f"| **the whole command** | **{start.total_s:.1f}** |", ""]
    idle = sorted(start.idle_s)
    lines.append(
        f"`up` with nothing to do: median {idle[len(idle) // 2]:.2f} s, slowest of {len(idle)} {idle[-1]:.2f} s.\n"
    )
    return "\n".join(lines)


def _engine() -> str:
    return engine_against_llamacpp.table(engine_against_llamacpp.run())


def _runtimes() -> str:
    return runtimes.table(runtimes.run())


def _gateway() -> str:
    found = measures.run()
    (_DOCS / report.PICTURE).parent.mkdir(exist_ok=True)
    (_DOCS / report.PICTURE).write_text(report.picture(found))
    return report.section(found)


_PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "start": ("From `up` to healthy, everything installed, nothing running", _start),
    "engine": ("Our engine against the bare llama.cpp server, the same model and settings", _engine),
    "runtimes": ("The same stack as processes, on systemd and in containers", _runtimes),
    "gateway": ("The gateway beside LiteLLM and nginx", _gateway),
}


if __name__ == "__main__":
    main()
