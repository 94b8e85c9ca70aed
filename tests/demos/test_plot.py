"""The plot: well-formed, small, within its bounds, and legible on a light and on a dark page."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tokengate_executor import TaskOptions
from tokengate_executor.demos.plot import plot
from tokengate_executor.demos.stage import Call, Stage, Task
from tokengate_executor.demos.ways import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator

SVG = "{http://www.w3.org/2000/svg}"


def nothing(_stage: Stage) -> None:
    """Do nothing."""


def run(way: str, moments: list[tuple[float, float]], seconds: float) -> Measured:
    """Return a run whose tasks ended at those moments, with those latencies."""
    call = Call(nothing, (), TaskOptions())
    tasks = [Task(call, end - latency, 0.0, ended=end) for end, latency in moments]
    return Measured(way, 2, seconds, 0.1, tasks, None)


def random_run(way: str, tasks: int, seconds: float, latency: float) -> Measured:
    """Return a run of many tasks."""
    source = random.Random(way)
    return run(
        way,
        [
            (source.uniform(0, seconds), source.expovariate(1 / latency) + 1e-6)
            for _ in range(tasks)
        ],
        seconds,
    )


def numbers(tree: ET.Element) -> Iterator[tuple[float, float]]:
    """Yield all points of lines, shades and dots."""
    for element in tree.iter():
        for pair in element.get("points", "").split():
            across, down = pair.split(",")
            yield float(across), float(down)
        if element.tag == f"{SVG}circle":
            yield float(element.get("cx", "nan")), float(element.get("cy", "nan"))


@pytest.mark.parametrize("tasks", [5, 5000])
def test_all_is_within_the_picture(tasks: int) -> None:
    """Well-formed, and no point leaves its panel."""
    ways = [random_run(name, tasks, 3.0 + index, 0.01) for index, name in enumerate("abc")]
    text = plot("A <title> & more", ways)
    tree = ET.fromstring(text)
    assert tree.tag == f"{SVG}svg"
    assert tree.findtext(f"{SVG}title") == "A <title> & more"
    assert "a: " in (tree.findtext(f"{SVG}desc") or "")
    points = list(numbers(tree))
    assert points
    for across, down in points:
        assert 70 <= across <= 740
        assert 84 <= down <= 224 or 272 <= down <= 432
    assert len(text) < 40_000


def test_it_needs_nothing_else() -> None:
    """No script, no font, no image, and nothing that is loaded."""
    text = plot("t", [random_run("a", 20, 1.0, 0.01)])
    assert not re.search(r"<script|<image|href|@import|url\(", text)
    assert text.count("http") == 1, "the name space"


def test_light_and_dark() -> None:
    """Each way has a colour on both."""
    text = plot("t", [random_run("a", 20, 1.0, 0.01)])
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    for way in (".w0", ".w1", ".w2"):
        assert re.search(rf"\{way} {{ --way: #\w{{6}}; }}", light)
        assert re.search(rf"\{way} {{ --way: #\w{{6}}; }}", dark)


def test_few_tasks_are_dots_and_many_are_lines() -> None:
    """A dot each, or the median and 95 % of each part of the time."""
    few = ET.fromstring(plot("t", [random_run("a", 30, 1.0, 0.01)]))
    assert len(few.findall(f"{SVG}circle")) == 30
    many = ET.fromstring(plot("t", [random_run("a", 2000, 1.0, 0.01)]))
    assert not many.findall(f"{SVG}circle")
    assert many.findall(f"{SVG}polygon")


def test_throughput_adds_up() -> None:
    """Over all parts of the time it is the number of tasks."""
    way = random_run("a", 500, 2.0, 0.01)
    tree = ET.fromstring(plot("t", [way]))
    line = tree.findall(f"{SVG}polyline")[0].get("points", "").split()
    top = max(float(e.text or "0") for e in tree.iter(f"{SVG}text") if (e.text or "").isdigit())
    heights = [(224 - float(point.split(",")[1])) / 140 * top for point in line[::2]]
    assert sum(heights) * 2.0 / len(heights) == pytest.approx(500, rel=0.02)


def test_parts_without_tasks_are_no_latency() -> None:
    """The line has a gap there."""
    moments = [(0.5 + 0.001 * n, 0.01) for n in range(400)] + [(9.0, 0.01)] * 100
    tree = ET.fromstring(plot("t", [run("a", moments, 10.0)]))
    assert len(tree.findall(f"{SVG}polygon")) == 2


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(0.0, "wall time in ms"), (0.02, "wall time in ms"), (90.0, "wall time in s")],
)
def test_units(seconds: float, unit: str) -> None:
    """A short run is told in milliseconds; one of no time at all, or without tasks, is drawn, too."""
    for moments in ([], [(seconds, seconds)]):
        tree = ET.fromstring(plot("t", [run("a", moments, seconds)]))
        assert unit in [element.text for element in tree.iter(f"{SVG}text")]


def test_latency_levels_are_named() -> None:
    """From microseconds to seconds."""
    moments = [(1.0, 0.00005), (2.0, 20.0)]
    tree = ET.fromstring(plot("t", [run("a", moments, 30.0)]))
    texts = [element.text for element in tree.iter(f"{SVG}text")]
    for level in ("10 µs", "1 ms", "100 ms", "1 s", "100 s"):
        assert level in texts
