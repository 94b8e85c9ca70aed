"""``observe.histograms``: how long tokens waited and ran, counted by those who ran them."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor import Histogram, RetryPolicy, TokenGateExecutor, TokenTimeoutError
from tokengate_executor.observe.histograms import BOUNDS, Meter, histograms_of


def record(wait: float, run: float) -> Any:
    """Return what a worker notes of a token that waited and ran for so long."""
    return (None, 0, (None, ""), None, None, 0.0, wait, wait + run, None, 1)


def in_bucket(histogram: Histogram) -> dict[float, int]:
    """Upper bound → count, of the buckets that are not empty."""
    bounds = (*histogram.bounds, float("inf"))
    return {
        bound: count for bound, count in zip(bounds, histogram.counts, strict=True) if count > 0
    }


def total(executor: TokenGateExecutor) -> int:
    """How many tokens were counted; as many waited as ran."""
    lanes = executor.histograms().values()
    waited, ran = sum(one.wait.count for one in lanes), sum(one.run.count for one in lanes)
    assert waited == ran
    return ran


def test_bounds_are_inclusive() -> None:
    """What takes as long as a bound says is in its bucket; what takes longer than all, in the last."""
    ring: deque[Any] = deque(maxlen=2)
    meter = Meter(ring)
    for run in (0.0, 0.0001, 0.00011, 300.0, 301.0):
        meter.keep(record(0.0, run))
    assert len(ring) == 2
    (histograms,) = histograms_of([(1, meter)]).values()
    assert in_bucket(histograms.run) == {0.0001: 2, 0.00025: 1, 300.0: 1, float("inf"): 1}
    assert in_bucket(histograms.wait) == {0.0001: 5}
    assert histograms.run.total_seconds == pytest.approx(601.00021)


@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 1000))))
def test_merging(runs: list[tuple[int, float]]) -> None:
    """Whoever counted it, each is counted once, under its lane."""
    meters = [(1 + number % 3, Meter(deque())) for number in range(6)]
    for index, (lane, run) in enumerate(runs):
        meters[lane - 1 + 3 * (index % 2)][1].count(record(run, run))
    merged = histograms_of(meters)
    assert list(merged) == [1, 2, 3]
    for lane, histograms in merged.items():
        own = [run for number, run in runs if number == lane]
        assert histograms.run.count == histograms.wait.count == len(own)
        assert histograms.run.total_seconds == pytest.approx(sum(own))
        below = sum(count for bound, count in in_bucket(histograms.run).items() if bound <= 0.1)
        assert below == sum(run <= 0.1 for run in own)
    assert tuple(sorted(BOUNDS)) == BOUNDS


def test_nothing_before_it_is_wanted() -> None:
    """A worker keeps records by its ring alone until somebody measures; then both agree."""
    with TokenGateExecutor(1) as executor:
        executor.submit(pow, 2, 2).result()
        assert executor.histograms() == {}
        executor.measure()
        executor.measure()
        assert total(executor) == 0
        for _ in range(5):
            executor.submit(pow, 2, 2).result()
        assert total(executor) == 5
        assert len(executor.history()) == 6


def test_workers_that_come_later() -> None:
    """They are measured, too; so are callers that run calls themselves."""
    began, release = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        release.wait(20)

    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:
        executor.measure()
        executor.submit(hold)
        assert began.wait(20)
        executor.submit(pow, 2, 2)
        executor.submit(pow, 2, 2)
        release.set()
        executor.resize(3)
        for _ in range(10):
            executor.submit(pow, 2, 2).result()
    assert total(executor) == executor.statistics().completed == 13


def test_what_was_tried_again_and_cut_off() -> None:
    """A token is counted once: its wait for the first attempt, its last attempt's run."""
    release = threading.Event()

    def fail() -> None:
        raise ValueError("on purpose")

    retry = RetryPolicy(attempts=3, on=ValueError, delay=0.03, factor=1, jitter=None)
    with TokenGateExecutor(1, log_unread_exceptions=False) as executor:
        executor.measure()
        executor.options(retry=retry).submit(fail).exception()
        assert total(executor) == 1
        (histograms,) = (one for one in executor.histograms().values() if one.run.count)
        assert histograms.wait.total_seconds < 0.06  # not the time until the last attempt
        assert executor.history()[-1].waited_seconds == histograms.wait.total_seconds
        late = executor.options(timeout=0.05).submit(release.wait, 20)
        assert isinstance(late.exception(), TokenTimeoutError)
        release.set()
    assert total(executor) == 2
    assert sum(one.run.total_seconds for one in executor.histograms().values()) >= 0.05


@pytest.fixture
def rapid_switches() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("rapid_switches")
def test_begun_under_load() -> None:
    """Measuring that begins while workers run loses no record, and readers see counts grow only."""
    with TokenGateExecutor(4, history_size=10_000) as executor:
        tokens = [executor.submit(pow, 2, 2) for _ in range(1_000)]
        executor.measure()
        before = executor.statistics().completed
        tokens += [executor.submit(pow, 2, 2) for _ in range(3_000)]
        seen = [total_run(executor) for _ in range(50)]
        for token in tokens:
            token.result()
        assert seen == sorted(seen)
        assert 3_000 <= total(executor) <= 4_000
        assert total(executor) >= 4_000 - before - 4  # one a worker may be between
        assert len(executor.history()) == 4_000


def total_run(executor: TokenGateExecutor) -> int:
    """How many runs were counted."""
    return sum(one.run.count for one in executor.histograms().values())
