"""The rows of the table, as data, and the verdicts.

Rows (`--rows` takes these names, comma separated)
    fan_out_4, fan_out_32   submit 20,000 no-ops from one thread, then read every result.
    producers_4             the same from 4 threads, 5,000 each, on 4 workers: from the first
                            thread's start to the last thread's end; 3 times as many rounds.
    one_at_a_time_p50, _p99 2,000 times submit, then result; percentiles of the single round trips.
                            The aim is measured, not fixed: two threads that wake each other
                            through two bare locks, the floor for any hand-over to a thread.
                            8 times as many rounds.
    map                     ``list(executor.map(identity, range(20_000)))``, chunk size 1.
    run_in_executor         5,000 ``loop.run_in_executor`` calls, gathered, on a running loop.
    arun                    the same by the executor's own verb ``arun``, against
                            ``run_in_executor`` where there is none.
    memory                  growth of the resident set while 100,000 calls are queued behind one
                            blocked worker, per call; a fresh process for each sample. It includes
                            what tracemalloc cannot see, such as locks. executor / reference: less
                            is better. The list that holds the futures is allocated beforehand.
    sleeping                200 calls that sleep 5 ms, on 8 workers; twice as many rounds.
    gil_releasing           80 calls that hash or compress 1 MB, on 4 workers.

Verdicts
    ``aim`` and ``pass``: the median reaches the aim, or what is asked at least. ``short``: it does
    not. ``unclear``: the median misses by at most 10 % and its interval reaches the mark, so this
    run cannot tell; take more rounds on a quieter machine. ``error``: it raised.
    In ``sleeping`` and ``gil_releasing`` 1.0 is the best there can be, and noise alone puts half of
    all medians below it: these two pass from 0.99.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from .contenders import Pool
from .workloads import (
    Metrics,
    fan_out,
    four_producers,
    gather_own_verb,
    gather_run_in_executor,
    gil_releasing_calls,
    map_items,
    resident_growth,
    round_trips,
    sleep_calls,
    two_lock_round_trips,
)

UNCLEAR_MARGIN = 0.1  # a median that misses its mark by more is short, however wide the noise


@dataclass(frozen=True)
class Measurement:
    """One timed workload; one or more rows show its metrics."""

    run: Callable[[Pool, int], Metrics]
    workers: int
    size: int
    quick_size: int
    floor: Callable[[int], Metrics] | None = None
    needs_executor: bool = False
    own_process: bool = False
    repeats: int = 1  # rounds for each one asked for: more for short samples that scatter


MEASUREMENTS = {
    "fan_out_4": Measurement(fan_out, 4, 20_000, 10_000),
    "fan_out_32": Measurement(fan_out, 32, 20_000, 10_000),
    "producers_4": Measurement(four_producers, 4, 20_000, 10_000, repeats=3),
    "one_at_a_time": Measurement(round_trips, 4, 2_000, 2_000, two_lock_round_trips, repeats=8),
    "map": Measurement(map_items, 4, 20_000, 10_000),
    "run_in_executor": Measurement(gather_run_in_executor, 4, 5_000, 2_000, needs_executor=True),
    "arun": Measurement(gather_own_verb, 4, 5_000, 2_000, needs_executor=True),
    "memory": Measurement(resident_growth, 1, 100_000, 20_000, own_process=True),
    "sleeping": Measurement(sleep_calls, 8, 200, 80, repeats=2),
    "gil_releasing": Measurement(gil_releasing_calls, 4, 80, 16),
}


@dataclass(frozen=True)
class Mark:
    """A ratio to reach, before Python 3.12 and from then on."""

    before_3_12: float
    since_3_12: float

    @property
    def here(self) -> float:
        """The ratio for the Python that runs this."""
        return self.since_3_12 if sys.version_info >= (3, 12) else self.before_3_12


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    measurement: str
    metric: str
    at_least: Mark
    aim: Mark | None  # None: the measurement's floor
    aim_note: str = ""  # why reaching the aim is not judged here
    less_is_better: bool = False
    tolerance: float = 0.0  # part of the mark that may be missing
    unit: str = "ms"


def both(ratio: float) -> Mark:
    """Make a mark that is the same for every Python."""
    return Mark(ratio, ratio)


ROWS = (
    Row(
        "fan_out_4", "20,000 no-ops, 4 workers", "fan_out_4", "seconds", Mark(4, 2.5), Mark(5, 3.5)
    ),
    Row("fan_out_32", "the same, 32 workers", "fan_out_32", "seconds", Mark(3, 2), Mark(4, 3)),
    Row("producers_4", "the same, 4 producers", "producers_4", "seconds", both(3), both(6)),
    Row(
        "one_at_a_time_p50", "one at a time, p50", "one_at_a_time", "p50", both(1), None, unit="µs"
    ),
    Row(
        "one_at_a_time_p99", "one at a time, p99", "one_at_a_time", "p99", both(1), None, unit="µs"
    ),
    Row("map", "map over 20,000 no-ops", "map", "seconds", Mark(3, 2.5), both(20)),
    Row(
        "run_in_executor",
        "5,000 run_in_executor, gathered",
        "run_in_executor",
        "seconds",
        both(1.3),
        both(4),
        aim_note="the aim is for an async verb of the package's own",
    ),
    Row("arun", "the same by our own arun", "arun", "seconds", both(4), both(5)),
    Row(
        "memory",
        "memory per queued call",
        "memory",
        "bytes",
        both(0.4),
        both(0.25),
        less_is_better=True,
        unit="B",
    ),
    Row(
        "sleeping",
        "200 sleeps of 5 ms, 8 workers",
        "sleeping",
        "seconds",
        both(1),
        both(1),
        tolerance=0.01,
    ),
    Row(
        "gil_releasing",
        "80 calls hash or compress 1 MB",
        "gil_releasing",
        "seconds",
        both(1),
        both(1),
        tolerance=0.01,
    ),
)


def verdict(row: Row, ratio: dict[str, float], aim: float | None) -> str:
    """Compare a row's median with its marks."""
    judged_aim = None if row.aim_note else aim
    at_least = row.at_least.here * (1 - row.tolerance)
    return judge(ratio, at_least, judged_aim, less_is_better=row.less_is_better)


def judge(
    ratio: dict[str, float], at_least: float, aim: float | None = None, *, less_is_better: bool
) -> str:
    """Compare a median with its marks; the module's docstring defines the words."""

    def reaches(value: float, mark: float) -> bool:
        return value <= mark if less_is_better else value >= mark

    median = ratio["median"]
    if reaches(median, at_least):
        return "aim" if aim is not None and reaches(median, aim) else "pass"
    slack = UNCLEAR_MARGIN if less_is_better else -UNCLEAR_MARGIN
    better_end = ratio["interval_low" if less_is_better else "interval_high"]
    if reaches(median, at_least * (1 + slack)) and reaches(better_end, at_least):
        return "unclear"
    return "short"
