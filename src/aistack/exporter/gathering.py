"""One scrape: every collector in turn, and a number that says which of them failed."""

import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from aistack.exporter.collectors import Collect
from aistack.exporter.settings import Settings


class Gathering(Collector):
    """What the collectors measured, at most `fresh_s` seconds old; scrapes at the same time share one round."""

    def __init__(self, settings: Settings, collectors: Mapping[str, Collect], fresh_s: float = 1.0) -> None:
        self._settings = settings
        self._collectors = collectors
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._measured: tuple[Metric, ...] = ()
        self._until = float("-inf")

    def collect(self) -> Iterable[Metric]:
        """All metric families; a collector that fails gives none, and does not stop the others."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._measured = tuple(self._round())
                self._until = time.monotonic() + self._fresh_s
            return self._measured

    def _round(self) -> Iterable[Metric]:
        success = GaugeMetricFamily(
            "aistack_collector_success",
            "Whether a collector of the exporter could do its work.",
            labels=("collector",),
        )
        for name, collect in self._collectors.items():
            try:
                families = tuple(collect(self._settings))
            except Exception:
                # Told twice: as a number that an alert can watch, and in the log with its cause.
                print(f"collector {name} failed:", traceback.format_exc(), file=sys.stderr, flush=True)
                families = ()
                success.add_metric((name,), 0.0)
            else:
                success.add_metric((name,), 1.0)
            yield from families
        yield success
