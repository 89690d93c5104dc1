"""The engine's numbers for Prometheus: its own, and those of every loaded llama.cpp, told apart by model."""

import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SAMPLE = re.compile(r"^(llamacpp:[a-z_]+)(?:\{(.*)\})? (\S+)$")


class Meters:
    """The engine's own numbers, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        model = ("model",)
        self.requests = Counter(
            "aistack_engine_requests", "Requests answered", ("path", "model", "status"), registry=registry
        )
        self.in_flight = Gauge(
            "aistack_engine_requests_in_flight", "Requests being served or waiting", registry=registry
        )
        self.loaded = Gauge("aistack_engine_loaded_models", "Models in memory", registry=registry)
        self.loads = Counter("aistack_engine_loads", "Loads begun", model, registry=registry)
        self.load_failures = Counter("aistack_engine_load_failures", "Loads that failed", model, registry=registry)
        self.unloads = Counter("aistack_engine_unloads", "Models unloaded on purpose", model, registry=registry)
        self.deaths = Counter("aistack_engine_deaths", "llama.cpp processes that died", model, registry=registry)
        self.load_seconds = Histogram(
            "aistack_engine_load_seconds", "Time to load a model", model, registry=registry,
            buckets=(0.5, 1, 2, 5, 10, 20, 60, 120, 300, 900),
        )  # fmt: skip

    def text(self) -> str:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry).decode()


def merged(by_model: dict[str, str]) -> str:
    """llama.cpp's metrics of several models as one: a sample each with its model, the help text once.

    `by_model` has what each model's llama.cpp answered to /metrics. Prometheus wants all samples of one
    name together.
    """
    told: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for model, text in by_model.items():
        for line in text.splitlines():
            if line.startswith("#"):
                words = line.split(" ", 3)
                if len(words) > 2 and len(told.setdefault(words[2], [])) < 2:
                    told[words[2]].append(line)
            elif found := _SAMPLE.match(line):
                name, labels, value = found.groups()
                more = f"{labels}," if labels else ""
                samples.setdefault(name, []).append(f'{name}{{{more}model="{_escaped(model)}"}} {value}')
    return "".join("\n".join([*told.get(name, []), *lines]) + "\n" for name, lines in samples.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
