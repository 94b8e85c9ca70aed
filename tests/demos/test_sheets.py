"""How reports are laid out: what stands where, within how many columns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokengate_executor import TaskOptions
from tokengate_executor.demos.measures import concurrency_ratio
from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.sheets import (
    TERMS,
    bars,
    counted,
    duration,
    facts,
    heading,
    lanes,
    number_of,
    paced_verdict,
    paragraph,
    sparklines,
    task_figures,
    terms,
    timeline,
    verdict,
    ways_table,
)
from tokengate_executor.demos.stage import Call, Stage, Task
from tokengate_executor.demos.ways import WAYS, Measured, compared


def nothing(_stage: Stage) -> None:
    """Do nothing."""


def task(due: float, started: float, ended: float, thread: int = 1) -> Task:
    """Return a task that ran."""
    call = Call(nothing, (), TaskOptions(operation="work"))
    return Task(call, due, due, started=started, ended=ended, thread=thread)


def run(way: str, *tasks: Task, seconds: float = 10.0, cpu_seconds: float = 5.0) -> Measured:
    """Return a run of ten seconds."""
    return Measured(way, 2, seconds, cpu_seconds, tasks, [1, 2])


LOOP = run("plain loop", task(0, 0, 5), task(0, 5, 10))
OURS = run("TokenGateExecutor", task(0, 0, 4), task(0, 0, 5, 2), seconds=5.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0000 ms"),
        (0.0000016, "0.0016 ms"),
        (0.000123, "0.12 ms"),
        (0.00942, "9.42 ms"),
        (0.9999, "999.90 ms"),
        (1.3014, "1.301 s"),
        (3600.0, "3600.000 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """In seconds, or in milliseconds."""
    assert duration(seconds) == text


def test_numbers_of_things() -> None:
    """One is not many."""
    assert [number_of(number, "task") for number in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_prose_keeps_within_its_columns(columns: int) -> None:
    """And a number is not parted from its unit."""
    text = "It takes 12.5 ms or 1.301 s at 95 % of the time, again and again. " * 9
    lines = paragraph(text, columns)
    assert max(map(len, lines)) <= min(columns, 100)
    assert " ".join(lines) == " ".join(text.split())
    assert not [line for line in lines if line.startswith(("ms", "s ", "%"))]
    assert heading("TITLE", columns) == ["TITLE", "=" * min(columns, 100)]


def test_facts() -> None:
    """Values stand below one another; of many lines the first are shown."""
    assert facts({"a": "1", "longer": "2"}) == ["  a:       1", "  longer:  2"]
    many = facts({f"fact {number}": "" for number in range(50)})
    assert len(many) == 33
    assert many[-1] == "  and 18 more"


def test_task_figures() -> None:
    """The shortest, the longest, the sum, and what that is over the wall time."""
    figures = task_figures(OURS)
    assert figures["Shortest task"] == "4.000 s"
    assert figures["Longest task"] == "5.000 s"
    assert figures["Sum of task times"] == "9.000 s"
    assert figures["Concurrency ratio"] == "1.80 (tasks under way on average; 2 at most)"


def test_the_ways_side_by_side() -> None:
    """A column for each; the speed-up is against the first one's wall time."""
    lines = ways_table([LOOP, OURS], cores=2)
    assert lines[0].split() == ["plain", "loop", "TokenGateExecutor"]
    assert max(map(len, lines)) <= 80
    cells = {line[2:26].strip(): line[26:].split() for line in lines[1:]}
    assert cells["speed-up"] == ["1.00", "2.00"]
    assert cells["CPU use (of 2 cores)"] == ["0.50", "1.00"]
    assert cells["concurrency ratio"] == ["1.00", "1.80"]
    assert cells["overlap"] == ["0", "%", "80", "%"]
    assert cells["latency p50"] == ["5.000", "s", "4.000", "s"]
    assert cells["latency max"] == ["10.000", "s", "5.000", "s"]
    assert cells["threads that ran tasks"] == ["1", "2"]
    assert cells["failed tasks"] == ["0", "0"]
    assert cells["results"] == 2 * [LOOP.digest()]


def test_three_ways_fit_in_80_columns() -> None:
    """With times as long as an hour."""
    slow = [run(way.name, task(0, 0, 3600), seconds=3600.0, cpu_seconds=7200.0) for way in WAYS]
    assert max(map(len, ways_table(slow, cores=64))) <= 80


def test_terms() -> None:
    """A line each, within 80 columns; every term that needs one is in the table."""
    lines = terms()
    assert len(lines) == len(TERMS)
    assert max(map(len, lines)) <= 80
    table = "\n".join(ways_table([LOOP], cores=1))
    for term in TERMS:
        assert term in table
    assert "no speed-up" in TERMS["concurrency ratio"]


def test_verdicts() -> None:
    """What got faster is told apart from what was under way; at a given pace latency counts."""
    said = verdict([LOOP, OURS], cores=1)
    assert "1.8 tasks were under way on average" in said
    assert "1.00 of 1 core was busy" in said
    assert "2.00 times as fast as by the plain loop" in said
    assert concurrency_ratio(OURS.spans, OURS.seconds) == 1.8
    paced = paced_verdict([LOOP, OURS], 4.0)
    assert "due after 4.000 s" in paced
    assert "5.000 s (plain loop), 4.000 s (TokenGateExecutor)" in paced


# -- drawings -----------------------------------------------------------------------------------------


def test_a_timeline() -> None:
    """Dots where a task waits, blocks where it runs, in proportion to the wall time."""
    rows = [("one", [task(0, 0, 4.99)]), ("two", [task(0, 5, 9.99)])]
    assert timeline(rows, 10.0, 17) == ["  one  █████", "  two  ·····█████"]


def test_several_tasks_in_a_line() -> None:
    """Each with its own mark; one that runs hides one that waits."""
    first, second = task(0, 0, 3.99), task(0, 6, 9.99)
    marks = {id(first): "a", id(second): "b"}
    (line,) = timeline([("x", [first, second])], 10.0, 15, mark=lambda one: marks[id(one)])
    assert line == "  x  aaaa··bbbb"


def test_a_timeline_of_no_time() -> None:
    """Nothing is divided by zero, and a narrow terminal has one column."""
    assert timeline([("x", [task(0, 0, 0)])], 0.0, 3) == ["  x  █"]


def test_a_long_timeline_is_cut() -> None:
    """And says how much more there is."""
    lines = timeline([(f"{number:02}", [task(0, 0, 1)]) for number in range(40)], 1.0, 80)
    assert len(lines) == 33
    assert lines[-1] == "  and 8 more"


def test_bars() -> None:
    """As long as their counts, in proportion; a small count is seen, none is not."""
    lines = bars([("name", "n"), ("a", "10"), ("b", "1"), ("c", "0")], [10, 1, 0], 30)
    assert lines[0] == "  name   n"
    assert [line.count("█") for line in lines] == [0, 18, 2, 0]
    assert max(map(len, lines)) == 30
    assert bars([("name", "n"), ("a", "1000"), ("b", "1")], [1000, 1], 30)[2].count("█") == 1


def test_sparklines() -> None:
    """A sign for each part of the longest wall time; nothing where nothing ended."""
    head, loop, ours = sparklines([LOOP, OURS], 31)
    assert "10.000 s" in head
    assert loop == f"  {'plain loop':17}       █   █"
    assert ours == f"  {'TokenGateExecutor':17}      ██"
    many = [task(0, 0, 1), *(task(0, 0, 9) for _ in range(16))]
    assert sparklines([run("a", *many)], 15)[1] == "  a   ▁       █"


def test_counting_in_parts() -> None:
    """The last moment belongs to the last part."""
    assert counted([0.0, 0.9, 1.0, 3.9, 4.0], 4.0, 4) == [2, 1, 0, 2]
    assert counted([0.0], 0.0, 2) == [1, 0]


def test_lanes() -> None:
    """Our executor has a table of its lanes, within 80 columns; the other ways have none."""
    runs = compared(nothing, 4, 0, _silent)
    assert lanes(runs[0]) == []
    lines = lanes(runs[-1])
    assert lines[0].split()[:3] == ["lane", "workers", "light"]
    assert lines[-1].startswith("  Lanes for heavy 1")
    assert max(map(len, lines)) <= 80
    assert lanes(replace(runs[-1], policy=None)) == []


def _silent(label: str, total: int) -> Progress:
    return Progress(None, label, total)
