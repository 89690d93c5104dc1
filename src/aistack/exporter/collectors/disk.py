"""How much room is left where the stack keeps its files."""

import shutil
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from aistack.exporter.settings import Settings


def collect(settings: Settings) -> Iterable[Metric]:
    """`aistack_disk_free_bytes{folder}` and `aistack_disk_size_bytes{folder}`. Raises OSError."""
    free = GaugeMetricFamily(
        "aistack_disk_free_bytes", "Bytes that the stack may still write below a folder.", labels=("folder",)
    )
    size = GaugeMetricFamily(
        "aistack_disk_size_bytes", "Bytes of the file system that holds a folder.", labels=("folder",)
    )
    for name, folder in settings.folders.items():
        usage = shutil.disk_usage(folder)
        free.add_metric((name,), usage.free)
        size.add_metric((name,), usage.total)
    return free, size
