"""Figures of times: percentiles, how many tasks were under way, for how long together."""

from __future__ import annotations

import random

import pytest

from tokengate_executor.demos.measures import (
    Span,
    Spread,
    concurrency_ratio,
    most_at_once,
    overlap,
    percentile,
)


@pytest.mark.parametrize(
    ("per_cent", "value"), [(1, 1), (10, 1), (11, 2), (50, 5), (95, 10), (100, 10)]
)
def test_percentile(per_cent: float, value: float) -> None:
    """The smallest value that so many per cent are not above."""
    assert percentile(range(1, 11), per_cent) == value


def test_percentile_of_one() -> None:
    """It is that one."""
    assert percentile([7.0], 0.1) == percentile([7.0], 100) == 7.0


def test_spread() -> None:
    """The order does not matter."""
    spread = Spread.of([4.0, 1.0, 3.0, 2.0])
    assert (spread.shortest, spread.longest) == (1.0, 4.0)
    assert (spread.mean, spread.total) == (2.5, 10.0)
    assert (spread.p50, spread.p95) == (2.0, 4.0)
    assert spread.deviation == pytest.approx(1.118, abs=0.001)


def test_spread_of_nothing() -> None:
    """All of it is 0."""
    assert Spread.of([]) == Spread(0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("spans", "ratio", "share", "most"),
    [
        ([], 0.0, 0.0, 0),
        ([(0, 10)], 1.0, 0.0, 1),
        ([(0, 5), (5, 10)], 1.0, 0.0, 1),
        ([(0, 10), (0, 10)], 2.0, 1.0, 2),
        ([(0, 6), (4, 10)], 1.2, 0.2, 2),
        ([(0, 10), (2, 4), (3, 8), (3, 3)], 1.7, 0.6, 3),
        ([(1, 2)], 0.1, 0.0, 1),
    ],
)
def test_under_way_together(spans: list[Span], ratio: float, share: float, most: int) -> None:
    """Of ten seconds: the mean number of tasks, the share with two or more, and the most."""
    assert concurrency_ratio(spans, 10.0) == pytest.approx(ratio)
    assert overlap(spans, 10.0) == pytest.approx(share)
    assert most_at_once(spans) == most


def test_overlap_counted_moment_by_moment() -> None:
    """Whatever the spans are, a count at every moment comes to the same."""
    source = random.Random(1)
    for _ in range(50):
        starts = [source.randrange(100) for _ in range(8)]
        spans = [(start, start + source.randrange(1, 30)) for start in starts]
        under_way = [sum(start <= now < end for start, end in spans) for now in range(130)]
        assert overlap(spans, 130) == pytest.approx(sum(n > 1 for n in under_way) / 130)
        assert concurrency_ratio(spans, 130) == pytest.approx(sum(under_way) / 130)
        assert most_at_once(spans) == max(under_way)


def test_no_time_at_all() -> None:
    """Nothing is divided by zero."""
    assert concurrency_ratio([(0, 0)], 0.0) == overlap([(0, 0)], 0.0) == 0.0
