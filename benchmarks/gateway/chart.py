"""Throughput against concurrency as a picture: one SVG that reads well on light and on dark pages. Pure."""

from collections.abc import Mapping, Sequence
from math import log2, log10

Points = Sequence[tuple[int, float]]

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 112, 56, 52
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #3c434b }
  .title { font-size: 15px; font-weight: 600; fill: #1c2127 }
  .grid { stroke: #8b949e; stroke-opacity: .3 }
  path { fill: none; stroke-width: 2.2; stroke-linejoin: round }
  .c0 { stroke: #0a66c2; fill: #0a66c2 } .c1 { stroke: #3d7a37; fill: #3d7a37 }
  .c2 { stroke: #b5500b; fill: #b5500b } .c3 { stroke: #757d86; fill: #757d86 }
  path.c0, path.c1, path.c2, path.c3 { fill: none }
  path.c0 { stroke-width: 3.4 } path.c3 { stroke-dasharray: 5 4 }
  text.c0, text.c1, text.c2, text.c3 { stroke: none; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #b8c0c9 } .title { fill: #e8ecf0 }
    .c0 { stroke: #58a6ff; fill: #58a6ff } .c1 { stroke: #6cc062; fill: #6cc062 }
    .c2 { stroke: #f0954f; fill: #f0954f } .c3 { stroke: #9aa3ad; fill: #9aa3ad }
  }
"""


def drawn(title: str, lines: Mapping[str, Points], across: str, up: str) -> str:
    """An SVG of `lines` (at most four; the first is drawn boldest, the last dashed), each a sequence of points with
    x of 1 and more and y above 0, on logarithmic axes. `across` and `up` say what the axes count."""
    every = [point for points in lines.values() for point in points]
    most_x = max(x for x, _ in every)
    low = 10 ** int(log10(min(y for _, y in every)))
    high = max(y for _, y in every) * 1.15
    xs = sorted({x for x, _ in every})

    def place(x: float, y: float) -> tuple[float, float]:
        share_x = log2(x) / max(log2(most_x), 1)
        share_y = (log10(y) - log10(low)) / (log10(high) - log10(low))
        return (
            round(_LEFT + share_x * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - share_y * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="22">{title}</text>',
        f'<text x="{_LEFT}" y="42">{up}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{across}</text>',
    ]
    for value in _steps(low, high):
        _, y = place(1, value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:,}</text>')
    for x in xs:
        parts.append(f'<text x="{place(x, low)[0]}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{x}</text>')
    ends = _apart([place(*points[-1])[1] for points in lines.values()])
    for number, ((name, points), end) in enumerate(zip(lines.items(), ends, strict=True)):
        placed = [place(x, y) for x, y in points]
        parts.append(f'<path class="c{number}" d="M' + " L".join(f"{x} {y}" for x, y in placed) + '"/>')
        parts += [f'<circle class="c{number}" cx="{x}" cy="{y}" r="3"/>' for x, y in placed]
        parts.append(f'<text class="c{number}" x="{placed[-1][0] + 10}" y="{end + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _steps(low: int, high: float) -> list[int]:
    """1, 3, 10, 30, ... as far as they lie between."""
    found, value = [], low
    while value <= high:
        found += [step for step in (value, 3 * value) if step <= high]
        value *= 10
    return found


def _apart(heights: list[float], least: float = 16) -> list[float]:
    """The heights, moved down where two names would lie on each other."""
    moved: dict[int, float] = {}
    last = -least
    for index in sorted(range(len(heights)), key=heights.__getitem__):
        last = moved[index] = max(heights[index], last + least)
    return [moved[index] for index in range(len(heights))]
