"""Figures about tasks of which it is known when they began and ended: pure functions of times.

``concurrency_ratio`` and ``overlap`` tell how many tasks were under way. A task that waits for the
interpreter lock, a core or its data is under way, too: neither says that anything got faster.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Span", "Spread", "concurrency_ratio", "most_at_once", "overlap", "percentile"]

Span: TypeAlias = tuple[float, float]
"""When a task began and ended, in seconds."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How far values lie apart; all 0 if there are none.

    Attributes:
        shortest, mean, longest: of the values.
        p50, p95: half of the values, and 95 of 100, are not above.
        deviation: the standard deviation of all the values.
        total: their sum.
    """

    shortest: float
    mean: float
    p50: float
    p95: float
    longest: float
    deviation: float
    total: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of values, in any order."""
        ordered = sorted(values)
        if not ordered:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        return cls(
            shortest=ordered[0],
            mean=statistics.fmean(ordered),
            p50=percentile(ordered, 50),
            p95=percentile(ordered, 95),
            longest=ordered[-1],
            deviation=statistics.pstdev(ordered),
            total=math.fsum(ordered),
        )


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """Return the smallest value that ``per_cent`` of all are not above (the nearest rank).

    It is always one of the values, so that of few nothing is invented between them.

    Args:
        ordered: the values, ascending; at least one.
        per_cent: above 0, at most 100.
    """
    return ordered[max(math.ceil(per_cent * len(ordered) / 100), 1) - 1]


def concurrency_ratio(spans: Iterable[Span], seconds: float) -> float:
    """Return the sum of the task times over the wall time: how many were under way on average."""
    return math.fsum(end - start for start, end in spans) / seconds if seconds > 0 else 0.0


def overlap(spans: Iterable[Span], seconds: float) -> float:
    """Return the share of the wall time in which two tasks or more were under way, from 0 to 1."""
    steps = _steps(spans)
    together = math.fsum(
        later - moment for (moment, under_way), (later, _) in pairwise(steps) if under_way > 1
    )
    return together / seconds if seconds > 0 else 0.0


def most_at_once(spans: Iterable[Span]) -> int:
    """Return how many tasks were under way together at most."""
    return max((under_way for _moment, under_way in _steps(spans)), default=0)


def _steps(spans: Iterable[Span]) -> list[tuple[float, int]]:
    """Return the moments at which a task begins or ends, each with how many are under way then.

    Of tasks that begin at the moment at which others end, none overlaps with these.
    """
    changes: list[tuple[float, int]] = []
    for start, end in spans:
        if end > start:
            changes += [(start, 1), (end, -1)]
    changes.sort()
    steps: list[tuple[float, int]] = []
    under_way = 0
    for moment, change in changes:
        under_way += change
        steps.append((moment, under_way))
    return steps
