"""Whether each service answers, and how fast."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from aistack.exporter.settings import Settings
from aistack.system import probe

# Well below the ten seconds after which Prometheus gives a scrape up.
_TIMEOUT_S = 2.0


def collect(settings: Settings) -> Iterable[Metric]:
    """`aistack_service_healthy{service}` and `aistack_service_probe_seconds{service}`, all asked at once."""
    healthy = GaugeMetricFamily(
        "aistack_service_healthy", "Whether a service says that it is well.", labels=("service",)
    )
    seconds = GaugeMetricFamily(
        "aistack_service_probe_seconds", "How long a service took to say so, or not to.", labels=("service",)
    )
    with ThreadPoolExecutor(max_workers=max(len(settings.services), 1)) as pool:
        for name, (well, took) in zip(settings.services, pool.map(_ask, settings.services.values()), strict=True):
            healthy.add_metric((name,), float(well))
            seconds.add_metric((name,), took)
    return healthy, seconds


def _ask(url: str) -> tuple[bool, float]:
    """Whether `url` answers 200, and after how many seconds we knew."""
    begun = time.monotonic()
    return probe.ask(url, _TIMEOUT_S) is None, time.monotonic() - begun
