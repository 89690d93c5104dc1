import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from aistack.exporter.gathering import Gathering
from aistack.exporter.settings import Settings

NOTHING = Settings("127.0.0.1", 0, Path("/none"), {}, {})


def counting(calls: list[int]) -> Callable[[Settings], Iterable[Metric]]:
    def collect(_settings: Settings) -> Iterable[Metric]:
        calls.append(1)
        yield GaugeMetricFamily("good", "Good.", value=1)

    return collect


def broken(_settings: Settings) -> Iterable[Metric]:
    yield GaugeMetricFamily("half", "Told before it failed.", value=1)
    raise OSError("the disk is gone")


def success(metrics: Iterable[Metric]) -> dict[str, float]:
    return {
        sample.labels["collector"]: sample.value
        for metric in metrics
        if metric.name == "aistack_collector_success"
        for sample in metric.samples
    }


def test_one_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = list(Gathering(NOTHING, {"broken": broken, "good": counting([])}).collect())
    assert [metric.name for metric in metrics] == ["good", "aistack_collector_success"]
    assert success(metrics) == {"broken": 0.0, "good": 1.0}
    assert "the disk is gone" in capsys.readouterr().err


def test_what_was_measured_a_moment_ago_is_told_again() -> None:
    calls: list[int] = []
    gathering = Gathering(NOTHING, {"good": counting(calls)}, fresh_s=60)
    assert list(gathering.collect()) == list(gathering.collect())
    assert len(calls) == 1


def test_what_is_no_longer_fresh_is_measured_anew() -> None:
    calls: list[int] = []
    gathering = Gathering(NOTHING, {"good": counting(calls)}, fresh_s=0)
    list(gathering.collect())
    list(gathering.collect())
    assert len(calls) == 2


def test_scrapes_at_the_same_time_share_one_round() -> None:
    calls: list[int] = []
    second = threading.Event()

    def collect(_settings: Settings) -> Iterable[Metric]:
        calls.append(1)
        if len(calls) > 1:
            second.set()
        # Long enough for another to come in, if nothing kept it out.
        second.wait(0.3)
        yield GaugeMetricFamily("good", "Good.", value=1)

    gathering = Gathering(NOTHING, {"good": collect}, fresh_s=60)
    together = threading.Barrier(4)

    def scrape() -> int:
        together.wait(10)
        return len(list(gathering.collect()))

    with ThreadPoolExecutor(4) as pool:
        assert [work.result() for work in [pool.submit(scrape) for _ in range(4)]] == [2] * 4
    assert len(calls) == 1
