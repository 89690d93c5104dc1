"""All collectors. To add one: its file, and its line here."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Metric

from aistack.exporter.collectors import build, certificate, disk, services
from aistack.exporter.settings import Settings

Collect = Callable[[Settings], Iterable[Metric]]
"""What a file here offers: what it measured just now. It may raise whatever goes wrong."""

COLLECTORS: Mapping[str, Collect] = {
    "services": services.collect,
    "certificate": certificate.collect,
    "disk": disk.collect,
    "build": build.collect,
}
