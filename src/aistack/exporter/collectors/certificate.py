"""When the certificate that people's browsers see ends."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from aistack import certificates
from aistack.exporter.settings import Settings


def collect(settings: Settings) -> Iterable[Metric]:
    """`aistack_certificate_not_after_timestamp_seconds`, seconds since 1970. Raises UserError."""
    yield GaugeMetricFamily(
        "aistack_certificate_not_after_timestamp_seconds",
        "When the server certificate ends, in seconds since 1970.",
        value=certificates.expires(settings.certificate).timestamp(),
    )
