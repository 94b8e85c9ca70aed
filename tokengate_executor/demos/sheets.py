"""What the demos' reports are laid out with: tables, bars, lines of time; in so many columns."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final

from tokengate_executor.policies.weights import WEIGHTS

from .figures import aligned, lanes_table, ranges
from .measures import concurrency_ratio, most_at_once, overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .stage import Task
    from .ways import Measured

__all__ = [
    "TERMS",
    "bars",
    "duration",
    "facts",
    "heading",
    "lanes",
    "number_of",
    "paced_verdict",
    "paragraph",
    "sparklines",
    "task_figures",
    "terms",
    "timeline",
    "verdict",
    "ways_table",
]

_INDENT: Final = "  "
_WIDEST: Final = 100
"""Columns: longer lines of prose are hard to read, however wide the terminal is."""

_MOST_ROWS: Final = 32
"""Of more tasks, chains or threads, the first are drawn."""

_BEFORE_UNIT: Final = re.compile(r"(?<=\d) (?=(?:ms|s)\b|%)")

_STEPS: Final = "▁▂▃▄▅▆▇█"
_WAITS: Final = "·"
_RUNS: Final = "█"

TERMS: Final[Mapping[str, str]] = {
    "speed-up": "the plain loop's wall time / this wall time",
    "CPU use": "CPU seconds of the process / wall time, in cores",
    "concurrency ratio": "sum of task times / wall time; waiting counts: no speed-up",
    "overlap": "share of the wall time with two or more tasks under way",
    "latency": "from when a task is due until it ends, waiting included",
    "results": "a digest of what all calls returned; must be equal",
}
"""Each term of the reports, in a line."""


def duration(seconds: float) -> str:
    """Return for example ``9.42 ms`` or ``1.301 s``."""
    if seconds >= 1:
        return f"{seconds:.3f} s"
    return f"{1000 * seconds:.{4 if seconds < 0.0001 else 2}f} ms"


def number_of(count: int, noun: str) -> str:
    """Return for example ``1 worker`` or ``2 workers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def heading(title: str, columns: int) -> list[str]:
    """Return a title with a line below."""
    return [title, "=" * min(columns, _WIDEST)]


def paragraph(text: str, columns: int) -> list[str]:
    """Return prose, broken into lines, but not between a number and its unit."""
    kept = _BEFORE_UNIT.sub("\u00a0", " ".join(text.split()))
    lines = textwrap.wrap(kept, min(columns, _WIDEST), break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]


def facts(rows: Mapping[str, str]) -> list[str]:
    """Return a line for each name and value, the values below one another."""
    width = max(map(len, rows)) + 2
    lines = [f"{_INDENT}{f'{name}:':{width}} {value}" for name, value in rows.items()]
    return [*lines[:_MOST_ROWS], *_and_more(lines)]


def task_figures(run: Measured) -> dict[str, str]:
    """Return how long the tasks of a run took, what that comes to together, and the wall time."""
    took = run.task_seconds()
    ratio = concurrency_ratio(run.spans, run.seconds)
    most = most_at_once(run.spans)
    return {
        "Wall time": duration(run.seconds),
        "Shortest task": duration(took.shortest),
        "Longest task": duration(took.longest),
        "Mean task": duration(took.mean),
        "Standard deviation": duration(took.deviation),
        "Sum of task times": duration(took.total),
        "Concurrency ratio": f"{ratio:.2f} (tasks under way on average; {most} at most)",
    }


def ways_table(ways: Sequence[Measured], cores: int) -> list[str]:
    """Return a table with a column for each way; the first is what the others are compared with."""
    latencies = [run.latency() for run in ways]
    first = ways[0].seconds
    table = [
        ("", *(run.way for run in ways)),
        ("wall time", *(duration(run.seconds) for run in ways)),
        ("speed-up", *(f"{first / run.seconds:.2f}" for run in ways)),
        ("CPU time", *(duration(run.cpu_seconds) for run in ways)),
        (f"CPU use (of {number_of(cores, 'core')})", *(f"{run.cpu_use:.2f}" for run in ways)),
        ("concurrency ratio", *(f"{concurrency_ratio(r.spans, r.seconds):.2f}" for r in ways)),
        ("overlap", *(f"{100 * overlap(run.spans, run.seconds):.0f} %" for run in ways)),
        ("latency p50", *(duration(latency.p50) for latency in latencies)),
        ("latency p95", *(duration(latency.p95) for latency in latencies)),
        ("latency max", *(duration(latency.longest) for latency in latencies)),
        ("threads that ran tasks", *(str(run.threads) for run in ways)),
        ("failed tasks", *(str(run.failed) for run in ways)),
        ("results", *(run.digest() for run in ways)),
    ]
    return [_INDENT + line for line in aligned(table)]


def paced_verdict(ways: Sequence[Measured], seconds: float) -> str:
    """Return in words what the figures say where tasks were due at a given pace."""
    medians = ", ".join(f"{duration(run.latency().p50)} ({run.way})" for run in ways)
    return (
        f"The last tasks were due after {duration(seconds)}, so no way can be done before, and the "
        f"speed-up says little. What differs is the latency: its median is {medians}."
    )


def verdict(ways: Sequence[Measured], cores: int) -> str:
    """Return in words what the figures of the last way say, and what they do not."""
    loop, ours = ways[0], ways[-1]
    ratio = concurrency_ratio(ours.spans, ours.seconds)
    return (
        f"{ours.way}: {ratio:.1f} tasks were under way on average, {ours.cpu_use:.2f} of "
        f"{number_of(cores, 'core')} {'was' if cores == 1 else 'were'} busy, and all was done "
        f"{loop.seconds / ours.seconds:.2f} times as fast as by the {loop.way}."
    )


def lanes(run: Measured) -> list[str]:
    """Return a table of the lanes of our executor, and which weights may use which."""
    if run.statistics is None or run.policy is None:
        return []
    table = lanes_table(run.statistics.lanes, left_out=("cpus", "failed"))
    allowed = ", ".join(f"{weight} {ranges(run.policy.lanes_for(weight))}" for weight in WEIGHTS)
    return [
        *(_INDENT + line for line in table),
        f"{_INDENT}Lanes for {allowed}; the other ways know no weights.",
    ]


def terms(names: Sequence[str] = tuple(TERMS)) -> list[str]:
    """Return a line for each term."""
    width = max(map(len, names))
    return [f"{_INDENT}{name:{width}}  {TERMS[name]}" for name in names]


def timeline(
    rows: Sequence[tuple[str, Sequence[Task]]],
    seconds: float,
    columns: int,
    *,
    mark: Callable[[Task], str] = lambda _task: _RUNS,
) -> list[str]:
    """Return a line for each row of tasks: where they waited and where they ran, over the wall time.

    Args:
        rows: names, each with the tasks that are drawn in its line.
        seconds: the wall time.
        columns: of each line.
        mark: the sign with which a task is drawn where it ran.
    """
    drawn = rows[:_MOST_ROWS]
    names = max(len(name) for name, _tasks in drawn)
    room = max(min(columns, _WIDEST) - names - 2 * len(_INDENT), 1)

    def column_of(moment: float) -> int:
        return min(max(int(moment / seconds * room), 0), room - 1) if seconds > 0 else 0

    lines: list[str] = []
    for name, tasks in drawn:
        cells = [" "] * room
        for task in tasks:
            for column in range(column_of(task.due), column_of(task.started)):
                cells[column] = _WAITS if cells[column] == " " else cells[column]
        for task in tasks:
            sign = mark(task)
            for column in range(column_of(task.started), column_of(task.ended) + 1):
                cells[column] = sign
        lines.append(f"{_INDENT}{name:{names}}{_INDENT}{''.join(cells)}".rstrip())
    return [*lines, *_and_more(rows)]


def bars(rows: Sequence[tuple[str, ...]], counts: Sequence[int], columns: int) -> list[str]:
    """Return a table whose lines end with bars.

    Args:
        rows: the cells of each line, the head first; columns after the first are right-aligned.
        counts: how long the bars are, in proportion; one for each line but the head.
        columns: of each line.
    """
    lines = [_INDENT + line for line in aligned(rows)]
    room = max(min(columns, _WIDEST) - max(map(len, lines)) - 2, 1)
    most = max(counts, default=0) or 1
    head, *body = lines
    width = max(map(len, body), default=0)
    return [
        head,
        *(
            f"{line:{width}}  {_RUNS * max(round(room * count / most), int(count > 0))}"
            for line, count in zip(body, counts, strict=True)
        ),
    ]


def sparklines(ways: Sequence[Measured], columns: int) -> list[str]:
    """Return a line for each way: how many tasks ended in each part of the longest wall time."""
    names = max(len(run.way) for run in ways)
    room = max(min(columns, _WIDEST) - names - 2 * len(_INDENT), 1)
    longest = max(run.seconds for run in ways)
    counts = {run.way: counted([task.ended for task in run.tasks], longest, room) for run in ways}
    most = max(max(row) for row in counts.values()) or 1
    lines = [f"Tasks ended, over {duration(longest)} (each column {duration(longest / room)}):"]
    for name, row in counts.items():
        drawn = "".join(_STEPS[_step(count, most)] if count else " " for count in row)
        lines.append(f"{_INDENT}{name:{names}}{_INDENT}{drawn}".rstrip())
    return lines


def counted(moments: Sequence[float], seconds: float, parts: int) -> list[int]:
    """Return how many of the moments lie in each of so many equal parts of the time."""
    counts = [0] * parts
    for moment in moments:
        counts[min(max(int(moment / seconds * parts), 0), parts - 1) if seconds > 0 else 0] += 1
    return counts


def _and_more(rows: Sequence[object]) -> list[str]:
    more = len(rows) - _MOST_ROWS
    return [f"{_INDENT}and {more} more"] if more > 0 else []


def _step(count: int, most: int) -> int:
    return -(-count * len(_STEPS) // most) - 1
