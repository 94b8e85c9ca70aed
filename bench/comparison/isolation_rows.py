"""The rows of ``isolation.py``, as data, and the verdicts.

Rows (`--rows` takes these names, comma separated)
    sleeping_flood_sleeps,  10,000 heavy calls that sleep 1 ms are submitted to 4 workers, 2 of which
    sleeping_flood_hashes   ``AffinityPolicy.isolated(2)`` keeps for light calls; then 20 light calls
                            go in one at a time. Each sleeps 5 ms, or hashes 9 MB without the GIL,
                            about 5 ms. Alone: nothing else was submitted.
    hashing_flood_sleeps,   the same with heavy calls that hash 1 MB, and 2 workers: with 2 cores,
    hashing_flood_hashes    one worker for the flood leaves the light lane's a core. Two heavy workers
                            and a light one would show how the system shares 2 cores among 3.
    paused                  10,000 calls of a paused operation wait; 500 round trips of no-ops of
                            another operation. Alone: it is paused, and none waits.
    one_permit              a call holds the only permit of a limit, and 10,000 wait for it; 500
                            round trips of calls that need none. Alone: it is held, and none waits.
    full_weight             heavy calls hold the heavy workers, 100 fill ``max_pending``, and 4
                            producers are blocked; 500 round trips of light no-ops. Alone: the heavy
                            workers are held, and nothing waits.
    tenants                 10,000 calls of a tenant wait, each sleeps 0.2 ms; 20 such calls of
                            another tenant, one at a time. Alone: each worker runs such a call, one
                            after the other, and none waits. Tenants take turns, so one call of the
                            other goes first: a quarter of a call's length with 4 workers, hence the
                            wider mark. Twice as many rounds.
    governor                no isolation but its price: 20,000 no-ops submitted and read with
                            ``options(priority=1)``. Alone: without options.

    ``paused``, ``one_permit`` and ``full_weight`` run on one CPU, with 4 times as many rounds.

    ThreadPoolExecutor gets 1,000 instead of 10,000 calls, and then one timed call, which waits for
    all of them: more would make the ratio greater in proportion, and the run longer.

Verdicts
    ``pass``, ``short``, ``unclear``, ``error`` as in ``rows``; ``-``: nothing is asked. A flood row is
    ``unclear`` instead of ``short`` if ThreadPoolExecutors that share nothing miss the mark too.
"""

from __future__ import annotations

import functools
import operator
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from .contenders import Call, results_of
from .scenes import (
    PLACES,
    PRODUCERS,
    Scene,
    Submit,
    busy,
    flooded,
    full,
    idle,
    isolated_weights,
    one_permit,
    paused,
    pool_for_each,
    prioritised,
    shared_pool,
    two_tenants,
    ungoverned,
)
from .workloads import (
    all_at_once,
    hash_nine_megabytes,
    hash_one_megabyte,
    no_operation,
    one_at_a_time,
    sleep_five_milliseconds,
)

MARK = 1.2
TENANTS_MARK = 1.5

# What a row's ratios are made of, where it has both cases.
RATIOS = {
    "ratio": ("beside", "alone"),
    "price": ("alone", "plain"),
    "stdlib": ("stdlib_beside", "stdlib_alone"),
    "pools": ("pools_beside", "pools_alone"),
}


@dataclass(frozen=True)
class Case:
    """One executor in one scene, and what is timed there; a sample is in seconds."""

    scene: Scene
    sample: Callable[[Submit], float]


@dataclass(frozen=True)
class IsolationRow:
    """One line of the table.

    Attributes:
        at_most: what ``beside / alone`` may be; ``None``: nothing is asked.
        cases: by name. ``beside``, ``alone``: the same calls with and without what must not delay
            them. ``plain``: on an executor without a governor and without a bound.
            ``stdlib_...``: on ThreadPoolExecutor. ``pools_...``: on two of them, one for the flood
            and one for the timed calls, with half of the workers each.
        reason: why ThreadPoolExecutor has no ``beside``, or what is different there.
        repeats: rounds for each one asked for: more for short samples that scatter.
    """

    name: str
    title: str
    at_most: float | None
    cases: dict[str, Case]
    reason: str = ""
    repeats: int = 1
    unit: str = "ms"


def sleep_one_millisecond() -> None:
    """Stand for a call that waits, for a disk or a network."""
    time.sleep(0.001)


def sleep_a_fifth_of_a_millisecond() -> None:
    """Stand for a short call that waits."""
    time.sleep(0.0002)


def median_of(call: Call, count: int) -> Callable[[Submit], float]:
    """Make the sample that is the median of so many calls, one at a time."""

    def sample(submit: Submit) -> float:
        durations = one_at_a_time(submit, operator.methodcaller("result"), call, count)
        return statistics.median(durations)

    return sample


def make_rows(*, quick: bool) -> tuple[IsolationRow, ...]:
    """Make all rows; ``quick``: with a fifth of the calls."""
    share = 5 if quick else 1
    waiting, stdlib_waiting, no_operations = 10_000 // share, 1_000 // share, 20_000 // share
    fewer = f"{stdlib_waiting:,} calls wait there, all before the timed one"
    trips = median_of(no_operation, 500)

    def flood_row(name: str, title: str, heavy: Call, light: Call, workers: int) -> IsolationRow:
        one, many = median_of(light, 1), median_of(light, 20)
        cases = {}
        for prefix, doors, sample, count in (
            ("", isolated_weights, many, waiting),
            ("pools_", pool_for_each, many, waiting),
            ("stdlib_", shared_pool, one, stdlib_waiting),
        ):
            scene = functools.partial(flooded, doors, heavy, count, workers)
            cases[prefix + "beside"] = Case(scene, sample)
            cases[prefix + "alone"] = Case(functools.partial(idle, doors, workers), many)
        return IsolationRow(name, title, MARK, cases, fewer)

    def quiet_row(name: str, title: str, beside: Scene, alone: Scene, reason: str) -> IsolationRow:
        cases = {
            "beside": Case(beside, trips),
            "alone": Case(alone, trips),
            "plain": Case(functools.partial(idle, ungoverned, one_cpu=True), trips),
            "stdlib_alone": Case(functools.partial(idle, shared_pool, one_cpu=True), trips),
        }
        return IsolationRow(name, title, MARK, cases, reason, repeats=4, unit="µs")

    short = sleep_a_fifth_of_a_millisecond
    return (
        flood_row(
            "sleeping_flood_sleeps",
            "heavy sleep, light sleep",
            sleep_one_millisecond,
            sleep_five_milliseconds,
            workers=4,
        ),
        flood_row(
            "sleeping_flood_hashes",
            "heavy sleep, light hash",
            sleep_one_millisecond,
            hash_nine_megabytes,
            workers=4,
        ),
        flood_row(
            "hashing_flood_sleeps",
            "heavy hash, light sleep",
            hash_one_megabyte,
            sleep_five_milliseconds,
            workers=2,
        ),
        flood_row(
            "hashing_flood_hashes",
            "heavy hash, light hash",
            hash_one_megabyte,
            hash_nine_megabytes,
            workers=2,
        ),
        quiet_row(
            "paused",
            "an operation is paused",
            functools.partial(paused, waiting),
            functools.partial(paused, 0),
            "it cannot pause",
        ),
        quiet_row(
            "one_permit",
            "a limit of 1 is taken",
            functools.partial(one_permit, waiting),
            functools.partial(one_permit, 0),
            "what waits for a permit there holds a worker, and soon all of them",
        ),
        quiet_row(
            "full_weight",
            "a bounded weight is full",
            functools.partial(full, PLACES, PRODUCERS),
            functools.partial(full, 0, 0),
            "it has no bound",
        ),
        IsolationRow(
            "tenants",
            "another tenant waits",
            TENANTS_MARK,
            {
                "beside": Case(
                    functools.partial(flooded, two_tenants, short, waiting), median_of(short, 20)
                ),
                "alone": Case(functools.partial(busy, two_tenants, short), median_of(short, 20)),
                "stdlib_beside": Case(
                    functools.partial(flooded, shared_pool, short, stdlib_waiting),
                    median_of(short, 1),
                ),
                "stdlib_alone": Case(
                    functools.partial(busy, shared_pool, short), median_of(short, 20)
                ),
            },
            fewer,
            repeats=2,
        ),
        IsolationRow(
            "governor",
            f"{no_operations:,} no-ops, priority=1",
            None,
            {
                name: Case(
                    functools.partial(idle, doors),
                    lambda submit: all_at_once(submit, results_of, no_operation, no_operations),
                )
                for name, doors in (
                    ("beside", prioritised),
                    ("alone", ungoverned),
                    ("stdlib_alone", shared_pool),
                )
            },
            "it has no priorities",
        ),
    )
