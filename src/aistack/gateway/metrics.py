"""What Prometheus learns from the gateway. Labels are bounded: routes, statuses, nodes and models that exist."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aistack.gateway.distribution import Distribution
from aistack.gateway.exchange import Exchange
from aistack.gateway.node_state import NodeState

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
# Why a request was refused, as far as it is one of our own words; an engine's are without number.
REASONS = frozenset({
    "invalid_api_key", "insufficient_scope", "model_not_found", "engine_unavailable", "engine_failed",
    "engine_key_refused", "queue_full", "context_length_exceeded", "requests_per_minute", "tokens_per_minute",
    "tokens_per_day", "tokens_per_month", "database_unavailable",
})  # fmt: skip


class _Counter(Collector):
    """A plain count by label values: the library's takes a lock each time."""

    def __init__(self, name: str, about: str, labels: Sequence[str]) -> None:
        self._name = name
        self._about = about
        self._labels = tuple(labels)
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for labels, count in self.counts.items():
            family.add_metric(labels, count)
        yield family


class Meters:
    """All metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self._requests = self._counter(
            "requests",
            "Requests answered; model is empty where none is asked for, other where it is none of ours",
            ("surface", "route", "status", "model"),
        )
        self._refusals = self._counter("refusals", "Requests refused, by our reason for it", ("reason",))
        self._tokens = self._counter("tokens", "Tokens that engines read and wrote", ("model", "kind"))
        self._truncated = self._counter("truncated_prompts", "Prompts that were certainly not read whole", ("model",))
        self._node_errors = self._counter(
            "upstream_errors",
            "Requests that an engine node failed: could not be reached, broke off, or answered 5xx",
            ("node",),
        )
        self._fallbacks = self._counter("fallbacks", "Requests answered by another model than was wanted", ("model",))
        self._duration = self._distribution(
            "request_seconds", "Seconds from the request's headers to the last byte of the answer", ("surface", "route")
        )
        self._first_byte = self._distribution(
            "first_byte_seconds",
            "Seconds from the request's headers to the first byte of the answer, in a stream the first token",
            ("surface", "route"),
        )
        self._first_token = self._distribution(
            "time_to_first_token_seconds", "Seconds from the request's headers to a stream's first token", ("model",)
        )
        self._output_token = self._distribution(
            "time_per_output_token_seconds",
            "Seconds that each further token of a stream took",
            ("model",),
            _TOKEN_SECONDS,
        )
        self._waited = self._distribution(
            "queue_wait_seconds", "Seconds that a request waited for a slot on a node", ("model",)
        )
        self.registry.register(_InFlight(self))

    def answered(self, exchange: Exchange, surface: str, route: str, seconds: float) -> None:
        """Count one request, whose answer took `seconds`."""
        model = exchange.model or ""
        self._requests.counts[surface, route, str(exchange.status), model] += 1
        operation = (surface, route)
        self._duration.observe(operation, seconds)
        first_s = exchange.first_byte_at - exchange.started_at
        if exchange.first_byte_at:
            self._first_byte.observe(operation, first_s)
        if exchange.node:
            self._served(exchange, (model,), first_s, seconds)
        if exchange.failed_node:
            self.node_failed(exchange.failed_node)

    def _served(self, exchange: Exchange, model: tuple[str], first_s: float, seconds: float) -> None:
        self._waited.observe(model, exchange.waited_s)
        if exchange.streams and exchange.first_byte_at:
            self._first_token.observe(model, first_s)
        if exchange.tokens:
            read, written = exchange.tokens
            self._tokens.counts[*model, "prompt"] += read
            self._tokens.counts[*model, "completion"] += written
            if exchange.streams and written > 1:
                self._output_token.observe(model, (seconds - first_s) / (written - 1))
        if exchange.truncated:
            self._truncated.counts[model] += 1
        if exchange.fell_back_from:
            self._fallbacks.counts[exchange.fell_back_from,] += 1

    def refused(self, code: str | None) -> None:
        """Count one refusal."""
        self._refusals.counts[code if code in REASONS else "other",] += 1

    def node_failed(self, node: str) -> None:
        """Count one request that a node failed."""
        self._node_errors.counts[node,] += 1

    def watch(self, nodes: Callable[[], Sequence[NodeState]], waiting: Callable[[], Mapping[str, int]]) -> None:
        """Tell at every scrape how the nodes are, and how many wait for which model."""
        self.registry.register(_Nodes(nodes, waiting))

    def watch_database(self, unwritten: Callable[[], int], failing: Callable[[], bool]) -> None:
        """Tell at every scrape how many requests' usage waits to be written, and whether the database is away."""
        self.registry.register(_Database(unwritten, failing))

    def watch_redis(self, failing: Callable[[], bool]) -> None:
        """Tell at every scrape whether the Redis of the limits is away."""
        self.registry.register(_Redis(failing))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, about: str, labels: Sequence[str]) -> _Counter:
        counter = _Counter(f"aistack_gateway_{name}", about, labels)
        self.registry.register(counter)
        return counter

    def _distribution(
        self, name: str, about: str, labels: Sequence[str], buckets: Sequence[float] = _SECONDS
    ) -> Distribution:
        distribution = Distribution(f"aistack_gateway_{name}", about, labels, buckets)
        self.registry.register(distribution)
        return distribution


class _InFlight(Collector):
    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def collect(self) -> Iterator[Metric]:
        about = "Requests being answered now"
        # But for the one that asks.
        yield GaugeMetricFamily("aistack_gateway_in_flight_requests", about, max(self._meters.in_flight - 1, 0))


class _Database(Collector):
    def __init__(self, unwritten: Callable[[], int], failing: Callable[[], bool]) -> None:
        self._unwritten = unwritten
        self._failing = failing

    def collect(self) -> Iterator[Metric]:
        about = "Requests whose usage is counted and not yet written"
        yield GaugeMetricFamily("aistack_gateway_unwritten_usage_requests", about, self._unwritten())
        about = "Whether the database of keys and usage can be used"
        yield GaugeMetricFamily("aistack_gateway_database_up", about, not self._failing())


class _Redis(Collector):
    def __init__(self, failing: Callable[[], bool]) -> None:
        self._failing = failing

    def collect(self) -> Iterator[Metric]:
        about = "Whether the Redis of the limits can be used"
        yield GaugeMetricFamily("aistack_gateway_redis_up", about, not self._failing())


class _Nodes(Collector):
    def __init__(self, nodes: Callable[[], Sequence[NodeState]], waiting: Callable[[], Mapping[str, int]]) -> None:
        self._nodes = nodes
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        yield self._by_node("up", "Whether the engine node answers", lambda state: state.up)
        yield self._by_node("draining", "Whether it is sent no more requests", lambda state: state.draining)
        yield self._by_node("resting", "Whether it is spared after failures", lambda state: state.resting)
        yield self._by_node("key_refused", "Whether it does not let the gateway in", lambda state: state.refuses_key)
        yield self._by_node("in_flight_requests", "Requests that it works on", lambda state: state.in_flight)
        about = "Requests that wait for a slot"
        family = GaugeMetricFamily("aistack_gateway_queue_waiting_requests", about, labels=("model",))
        for model, count in self._waiting().items():
            family.add_metric((model,), count)
        yield family

    def _by_node(self, name: str, about: str, value: Callable[[NodeState], float]) -> Metric:
        family = GaugeMetricFamily(f"aistack_gateway_node_{name}", about, labels=("node",))
        for state in self._nodes():
            family.add_metric((state.name,), value(state))
        return family
