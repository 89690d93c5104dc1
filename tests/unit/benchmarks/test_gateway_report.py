"""The picture and the tables of the gateway's benchmark."""

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gateway import peers
from benchmarks.gateway.bench import Sample, counted
from benchmarks.gateway.chart import drawn
from benchmarks.gateway.measures import Found
from benchmarks.gateway.orders import Result, Spread
from benchmarks.gateway.peers import DIRECT, LITELLM, LITELLM_VERSION, NGINX, OURS
from benchmarks.gateway.report import section

SVG = "{http://www.w3.org/2000/svg}"
NOTHING = Spread(0, 0, 0)


def sample(requests: int, cpu_s: float = 1.0, foreign: float = 0.0) -> Sample:
    return Sample(Result(requests, 0, "", 1.0, 0.1, NOTHING, NOTHING, NOTHING, 0, 0, 0), cpu_s, 0.1, foreign)


def test_the_picture_shows_more_throughput_higher_and_more_clients_further_right() -> None:
    lines = {"quick": [(1, 5000.0), (256, 40000.0)], "slow": [(1, 40.0), (256, 60.0)]}
    root = ElementTree.fromstring(drawn("Throughput", lines, "clients", "requests"))
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{SVG}circle")]
    (quick_x, quick_y), (_, quicker_y), (slow_x, slow_y), (last_x, _) = dots
    assert quicker_y < quick_y < slow_y
    assert slow_x == quick_x < last_x
    assert {"quick", "slow", "clients", "requests", "1", "256"} <= {text.text for text in root.iter(f"{SVG}text")}


def test_names_at_the_lines_ends_do_not_lie_on_each_other() -> None:
    lines = {name: [(1, 100.0), (4, 1000.0 + number)] for number, name in enumerate("abcd")}
    root = ElementTree.fromstring(drawn("", lines, "", ""))
    heights = sorted(float(text.attrib["y"]) for text in root.iter(f"{SVG}text") if text.text in lines)
    assert all(later - earlier >= 15 for earlier, later in pairwise(heights))


def test_disturbed_rounds_count_only_where_there_are_no_calm_ones() -> None:
    calm, busy = [sample(1, foreign=0.01), sample(2, foreign=0.04)], [sample(3, foreign=0.5), sample(4, foreign=0.6)]
    assert counted([*busy, *calm]) == calm
    assert counted([*busy, sample(5, foreign=0.7), sample(6, foreign=0.8)]) == [*busy, sample(5, foreign=0.7)]


def test_the_table_of_aims_sets_ours_against_the_peers_of_the_same_run() -> None:
    found = Found()
    for name, requests in ((OURS, 5000), (LITELLM, 50), (NGINX, 20_000), (DIRECT, 40_000)):
        found.throughput[name, 32].append(sample(requests, cpu_s=0.5))
    text = section(found)
    assert "| CPU a whole answer | 170 µs or less | 100 µs |" in text
    assert "against LiteLLM | 40 times or more | 100 times |" in text
    assert "against nginx | 0.2 times or more | 0.25 times |" in text
    assert "streams" not in text.partition("### Our aims")[2].partition("###")[0]


def test_litellm_is_locked_in_the_version_that_the_tables_name() -> None:
    lines = Path(peers.__file__).with_name("requirements.lock").read_text().splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert f"litellm=={LITELLM_VERSION}" in packages
    assert [line for line in packages if not re.fullmatch(r"[a-zA-Z0-9._-]+==[\w.]+( ; [^/]+)?", line)] == []
