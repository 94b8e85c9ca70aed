"""Histograms of how long tokens waited and ran: kept by each worker for itself, merged when read.

A worker keeps what it has settled by ``worker.keep``, which is its ring's ``append`` until somebody
wants histograms, and a meter's ``keep`` from then on: before, they cost nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokengate_executor.observe.history import RawRecord

__all__ = ["BOUNDS", "Histogram", "LaneHistograms", "Meter", "histograms_of"]

BOUNDS: Final[tuple[float, ...]] = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""The upper bounds of the buckets, in seconds; a last one has no bound."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something took how long.

    Attributes:
        bounds: the upper bounds of the buckets, in seconds, inclusive.
        counts: how many are in each bucket, and in the last those above all bounds. They only grow.
        total_seconds: the sum of all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total_seconds: float

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class LaneHistograms:
    """Of the tokens that a lane settled since it is measured.

    Attributes:
        wait: from submission to the start of the first attempt.
        run: of the last attempt.
    """

    wait: Histogram
    run: Histogram


class Meter:
    """Counts the tokens that one thread settles; that thread alone writes to it."""

    __slots__ = ("_ring", "run_counts", "run_seconds", "wait_counts", "wait_seconds")

    def __init__(self, ring: deque[RawRecord]) -> None:
        """``ring``: where to ``keep`` records."""
        self._ring = ring
        self.wait_counts = [0] * (len(BOUNDS) + 1)
        self.run_counts = [0] * (len(BOUNDS) + 1)
        self.wait_seconds = 0.0
        self.run_seconds = 0.0

    def keep(self, record: RawRecord) -> None:
        """Count it, and keep it in the ring."""
        self._ring.append(record)
        self.count(record)

    def count(self, record: RawRecord) -> None:
        """Count a token that has come to its end."""
        _, _, _, _, _, submitted_at, started_at, settled_at, _, _ = record
        wait = started_at - submitted_at
        run = settled_at - started_at
        self.wait_counts[bisect_left(BOUNDS, wait)] += 1
        self.wait_seconds += wait
        self.run_counts[bisect_left(BOUNDS, run)] += 1
        self.run_seconds += run


def histograms_of(meters: Iterable[tuple[int, Meter]]) -> Mapping[int, LaneHistograms]:
    """Merge what each of them counted, by the lane that it belongs to."""
    by_lane: dict[int, list[Meter]] = {}
    for lane, meter in meters:
        by_lane.setdefault(lane, []).append(meter)
    return MappingProxyType(
        {
            lane: LaneHistograms(
                _sum((meter.wait_counts, meter.wait_seconds) for meter in of_lane),
                _sum((meter.run_counts, meter.run_seconds) for meter in of_lane),
            )
            for lane, of_lane in sorted(by_lane.items())
        }
    )


def _sum(parts: Iterable[tuple[list[int], float]]) -> Histogram:
    counts = [0] * (len(BOUNDS) + 1)
    seconds = 0.0
    for own_counts, own_seconds in parts:
        counts = [sum(pair) for pair in zip(counts, own_counts, strict=True)]
        seconds += own_seconds
    return Histogram(BOUNDS, tuple(counts), seconds)
