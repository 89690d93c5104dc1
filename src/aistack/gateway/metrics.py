"""What Prometheus learns from the gateway. Labels are bounded: routes, statuses and models that exist."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class NodeView(Protocol):
    """What the metrics want to know of a node."""

    @property
    def name(self) -> str:
        """The node's name in the settings."""

    @property
    def up(self) -> bool:
        """Whether it answers."""


class Meters:
    """All metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "aistack_gateway_requests",
            "Requests answered; model is empty where none is asked for, other where it is none of ours",
            ("surface", "route", "status", "model"),
            registry=self.registry,
        )
        self._duration = Histogram(
            "aistack_gateway_request_seconds",
            "Seconds from the request's headers to the last byte of the answer",
            ("surface", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "aistack_gateway_first_byte_seconds",
            "Seconds from the request's headers to the first byte of the answer, in a stream the first token",
            ("surface", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "aistack_gateway_in_flight_requests", "Requests being answered now", registry=self.registry
        )
        self._node_errors = Counter(
            "aistack_gateway_upstream_errors",
            "Requests that an engine node failed: could not be reached, broke off, or answered 5xx",
            ("node",),
            registry=self.registry,
        )
        # Looking a child up by its labels takes longer than everything else here.
        self._counters: dict[tuple[str, str, int, str], Counter] = {}
        self._histograms: dict[tuple[str, str], tuple[Histogram, Histogram]] = {}

    def answered(
        self, surface: str, route: str, status: int, model: str, first_byte_s: float | None, seconds: float
    ) -> None:
        """Count one request; `first_byte_s` is None when no body was sent."""
        counter = self._counters.get((surface, route, status, model))
        if counter is None:
            counter = self._requests.labels(surface, route, str(status), model)
            self._counters[surface, route, status, model] = counter
        counter.inc()
        histograms = self._histograms.get((surface, route))
        if histograms is None:
            histograms = (self._duration.labels(surface, route), self._first_byte.labels(surface, route))
            self._histograms[surface, route] = histograms
        histograms[0].observe(seconds)
        if first_byte_s is not None:
            histograms[1].observe(first_byte_s)

    def node_failed(self, node: str) -> None:
        """Count one request that a node failed."""
        self._node_errors.labels(node).inc()

    def watch_nodes(self, nodes: Iterable[NodeView]) -> None:
        """Tell at every scrape which of `nodes` are up."""
        self.registry.register(_NodesUp(tuple(nodes)))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _NodesUp(Collector):
    def __init__(self, nodes: tuple[NodeView, ...]) -> None:
        self._nodes = nodes

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("aistack_gateway_node_up", "Whether the engine node answers", labels=("node",))
        for node in self._nodes:
            family.add_metric((node.name,), float(node.up))
        yield family
