"""Which aistack this is."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import InfoMetricFamily

from aistack import __version__
from aistack.exporter.settings import Settings


def collect(_settings: Settings) -> Iterable[Metric]:
    """`aistack_build_info{version}`, always 1."""
    yield InfoMetricFamily("aistack_build", "The version of aistack.", value={"version": __version__})
