"""Ollama's keep_alive in all its spellings."""

import pytest

from aistack.engine.keep_alive import FOR_EVER, seconds


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None), (0, 0), (300, 300), (1.5, 1.5), ("300", 300), ("0", 0), ("5m", 300), ("1h30m", 5400),
        ("24h", 86400), ("1.5h", 5400), ("250ms", 0.25), (" 10s ", 10), (-1, FOR_EVER), ("-1", FOR_EVER),
        ("-1m", FOR_EVER), (float("inf"), FOR_EVER),
    ],
)  # fmt: skip
def test_means_seconds(value: object, wanted: float | None) -> None:
    assert seconds(value) == wanted


@pytest.mark.parametrize("value", ["", "soon", "5 m", "m5", "5x", "5m5", True, [], {}, float("nan"), "1e400m"])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="keep_alive"):
        seconds(value)
