"""News on a terminal: one line a service that changes in place; plain lines when it is not a terminal."""

import time
from types import TracebackType

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from aistack.models.progress import Progress as ModelProgress
from aistack.runtimes.base import Progress

_MARKS = {"healthy": "[green]✔[/]", "failed": "[red]✘[/]", "stopped": "[dim]■[/]"}
_PLAIN_EVERY_S = 10.0


class Reporter:
    """Shows what goes on; a context manager. `report` takes news of services, `model` of models."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._lines: dict[str, tuple[str, str]] = {}
        self._live = self._new_live()
        self._last_plain: dict[str, float] = {}

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def confirm(self, question: str) -> bool:
        """Ask, with nothing drawn over the question and its answer; the next news goes on below."""
        if self._live:
            self._live.stop()
            self._live = self._new_live()  # a stopped one would begin by drawing over its old lines
        return click.confirm(question, default=True, err=True)

    def report(self, news: Progress) -> None:
        """News of a service."""
        if news.state == "healthy" and news.service not in self._lines:
            return  # it was well all along
        self._show(news.service, news.state, news.detail)

    def model(self, news: ModelProgress) -> None:
        """News of a model that comes in."""
        share = f"{news.done / 1e6:,.0f} of {news.total / 1e6:,.0f} MB" if news.total else ""
        self._show(news.model, news.step, share)

    def _show(self, name: str, state: str, detail: str) -> None:
        before = self._lines.get(name)
        self._lines[name] = (state, detail)
        if self._live:
            self._live.start()
            self._live.update(self._table())
        elif before is None or before[0] != state or self._due(name):
            self._last_plain[name] = time.monotonic()
            line = f"{name}: {state}{f' ({detail})' if detail else ''}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _new_live(self) -> Live | None:
        return Live(console=self._console, refresh_per_second=8) if self._console.is_terminal else None

    def _due(self, name: str) -> bool:
        return time.monotonic() - self._last_plain.get(name, 0.0) > _PLAIN_EVERY_S

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="dim", overflow="ellipsis")
        for name, (state, detail) in self._lines.items():
            table.add_row(_MARKS.get(state, "[yellow]•[/]"), name, state, detail.replace("[", "\\["))
        return table
