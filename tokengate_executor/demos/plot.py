"""Throughput and latency over time, as an SVG that needs nothing else: for a light or a dark page."""

from __future__ import annotations

import math
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Final

from .measures import percentile
from .sheets import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .ways import Measured

__all__ = ["plot"]

_WIDTH: Final = 760
_HEIGHT: Final = 480
_LEFT: Final = 70
_RIGHT: Final = _WIDTH - 20
_TOP_PANEL: Final = (84, 224)
_BOTTOM_PANEL: Final = (272, 432)
"""The upper and the lower edge of each."""

_MOST_PARTS: Final = 60
_FEWEST_PARTS: Final = 12
_TASKS_PER_PART: Final = 8
_DOTS_AT_MOST: Final = 300
"""Of so few tasks each is a dot; of more, each part of the time has its median and its 95 %."""

_SHORTEST: Final = 1e-5  # seconds, where the logarithmic axis begins at the lowest

_STYLE: Final = """\
svg { color-scheme: light dark; }
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.small, .tick { font-size: 11px; fill: #57606a; }
.page { fill: #ffffff; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.line { fill: none; stroke: var(--way); stroke-width: 1.8; stroke-linejoin: round; }
.band { fill: var(--way); fill-opacity: 0.13; }
.dot { fill: var(--way); fill-opacity: 0.75; }
.sign { fill: var(--way); }
.w0 { --way: #6e7781; }
.w1 { --way: #0969da; }
.w2 { --way: #bc4c00; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small, .tick { fill: #9198a1; }
  .page { fill: #0d1117; }
  .grid { stroke: #30363d; }
  .w0 { --way: #9198a1; }
  .w1 { --way: #58a6ff; }
  .w2 { --way: #ff9a4a; }
}"""


def plot(title: str, ways: Sequence[Measured]) -> str:
    """Return an SVG: tasks ended per second, and how long they took from when they were due.

    Args:
        title: above it.
        ways: a line each, in the colours of the first three.
    """
    seconds = max(1e-9, *(run.seconds for run in ways))
    most = max(len(run.tasks) for run in ways)
    parts = min(max(most // _TASKS_PER_PART, _FEWEST_PARTS), _MOST_PARTS)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"',
            f'  width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-labelledby="title about">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="about">{escape(_described(ways))}</desc>',
            f"<style>\n{_STYLE}\n</style>",
            f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
            _text(_LEFT, 28, title, "title"),
            *_legend(ways),
            *_throughput(ways, seconds, parts),
            *_latency(ways, seconds, parts, dots=most <= _DOTS_AT_MOST),
            *_time_axis(seconds),
            "</svg>\n",
        )
    )


def _described(ways: Sequence[Measured]) -> str:
    return "; ".join(
        f"{run.way}: {len(run.tasks)} tasks in {run.seconds:.3f} s, "
        f"median latency {1000 * run.latency().p50:.2f} ms"
        for run in ways
    )


def _legend(ways: Sequence[Measured]) -> Iterator[str]:
    left = _LEFT
    for number, run in enumerate(ways):
        yield f'<rect class="sign w{number}" x="{left}" y="42" width="12" height="4"/>'
        yield _text(left + 18, 48, run.way)
        left += 40 + 7 * len(run.way)


def _throughput(ways: Sequence[Measured], seconds: float, parts: int) -> Iterator[str]:
    width = seconds / parts
    rates: list[list[float]] = []
    for run in ways:
        counts = counted([task.ended for task in run.tasks], seconds, parts)
        # A way that was done earlier has no line after that.
        last = min(math.ceil(run.seconds / width), parts)
        rates.append([count / width for count in counts[: max(last, 1)]])
    ticks = _even_ticks(max(max(row) for row in rates))
    top, bottom = _TOP_PANEL

    def height_of(rate: float) -> float:
        return bottom - rate / ticks[-1] * (bottom - top)

    yield _text(_LEFT, top - 8, "tasks ended per second", "small")
    yield from _level_lines([(height_of(tick), f"{tick:g}") for tick in ticks])
    for number, row in enumerate(rates):
        points = [
            f"{_across(edge * width, seconds):.1f},{height_of(rate):.1f}"
            for part, rate in enumerate(row)
            for edge in (part, part + 1)
        ]
        yield f'<polyline class="line w{number}" points="{" ".join(points)}"/>'


def _latency(ways: Sequence[Measured], seconds: float, parts: int, *, dots: bool) -> Iterator[str]:
    found = [max(task.latency, _SHORTEST) for run in ways for task in run.tasks] or [_SHORTEST, 1.0]
    lowest = math.floor(math.log10(min(found)))
    highest = max(math.ceil(math.log10(max(found))), lowest + 1)
    top, bottom = _BOTTOM_PANEL

    def height_of(latency: float) -> float:
        share = (math.log10(max(latency, _SHORTEST)) - lowest) / (highest - lowest)
        return bottom - share * (bottom - top)

    what = "a dot for each task" if dots else "line: median; shade: up to 95 % of the tasks"
    yield _text(_LEFT, top - 8, f"latency, logarithmic ({what})", "small")
    decades = [10.0**power for power in range(lowest, highest + 1)]
    yield from _level_lines([(height_of(decade), _short(decade)) for decade in decades])
    for number, run in enumerate(ways):
        if dots:
            for task in run.tasks:
                across, down = _across(task.ended, seconds), height_of(task.latency)
                yield f'<circle class="dot w{number}" cx="{across:.1f}" cy="{down:.1f}" r="3"/>'
            continue
        for stretch in _stretches(run, seconds, parts):
            places = [
                (_across(moment, seconds), height_of(p50), height_of(p95))
                for moment, p50, p95 in stretch
            ]
            line = " ".join(f"{across:.1f},{middle:.1f}" for across, middle, _ in places)
            upper = " ".join(f"{across:.1f},{high:.1f}" for across, _, high in reversed(places))
            yield f'<polygon class="band w{number}" points="{line} {upper}"/>'
            yield f'<polyline class="line w{number}" points="{line}"/>'


def _stretches(
    run: Measured, seconds: float, parts: int
) -> Iterator[list[tuple[float, float, float]]]:
    """Yield moments with the median and 95 % of the latencies there, without parts that have none."""
    found: list[list[float]] = [[] for _ in range(parts)]
    for task in run.tasks:
        found[min(int(task.ended / seconds * parts), parts - 1)].append(task.latency)
    for filled, numbers in groupby(range(parts), key=lambda part: bool(found[part])):
        if filled:
            yield [
                (
                    (part + 0.5) * seconds / parts,
                    percentile(sorted(found[part]), 50),
                    percentile(sorted(found[part]), 95),
                )
                for part in numbers
            ]


def _time_axis(seconds: float) -> Iterator[str]:
    unit, factor = ("s", 1.0) if seconds >= 1 else ("ms", 1000.0)
    bottom = _BOTTOM_PANEL[1]
    for tick in _even_ticks(seconds * factor, steps=9):
        across = _across(tick / factor, seconds)
        if across <= _RIGHT + 1:
            yield _text(across, bottom + 16, f"{tick:g}", "tick", "middle")
    yield _text(_RIGHT, bottom + 34, f"wall time in {unit}", "small", "end")


def _level_lines(levels: Sequence[tuple[float, str]]) -> Iterator[str]:
    for height, name in levels:
        yield (
            f'<line class="grid" x1="{_LEFT}" y1="{height:.1f}" x2="{_RIGHT}" y2="{height:.1f}"/>'
        )
        yield _text(_LEFT - 8, height + 4, name, "tick", "end")


def _across(moment: float, seconds: float) -> float:
    return _LEFT + moment / seconds * (_RIGHT - _LEFT)


def _even_ticks(highest: float, steps: int = 5) -> list[float]:
    """Return 0 and about so many round numbers above it; the last is ``highest`` or more."""
    rough = max(highest, 1e-9) / steps
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [step * number for number in range(max(math.ceil(highest / step - 1e-9), 1) + 1)]


def _short(seconds: float) -> str:
    """Return for example ``10 ms`` for 0.01."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 0.999:
            return f"{seconds * factor:.0f} {unit}"
    return f"{seconds:g} s"


def _text(across: float, down: float, text: str, kind: str = "", anchor: str = "") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{across:.1f}" y="{down:.1f}"{attributes}>{escape(text)}</text>'
