"""What the metrics of the catalogue take from a reading: their numbers, by labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokengate_executor.policies.breaker import CircuitState
from tokengate_executor.policies.limits import RateLimit

if TYPE_CHECKING:
    from tokengate_executor.observe.statistics import ExecutorStatistics, LimitStatistics

__all__ = [
    "Point",
    "Reading",
    "by_word",
    "circuits",
    "depths",
    "limits_waiting",
    "one",
    "outcomes",
    "permits",
    "quarantined",
    "rejected",
    "started",
    "states",
    "steals",
    "workers",
]

Point = tuple[tuple[str, ...], float]
"""The values of a metric's labels, in order, and its own."""

_REASONS: Final = ("full", "blocked", "spike")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one executor said of itself when it was asked.

    Attributes:
        statistics: see there.
        circuits: operation → how many circuits are in which state: one, but for ``"other"``.
        quarantined: status → how many calls; ``None``: the quarantine cannot be read.
    """

    statistics: ExecutorStatistics
    circuits: Mapping[str, Mapping[CircuitState, int]]
    quarantined: Mapping[str, int] | None


def one(read: Callable[[ExecutorStatistics], float | None]) -> Callable[[Reading], list[Point]]:
    """The points of a metric without labels; none, if there is no number."""

    def points(reading: Reading) -> list[Point]:
        value = read(reading.statistics)
        return [] if value is None else [((), value)]

    return points


def by_word(
    read: Callable[[ExecutorStatistics], Mapping[str, float]],
) -> Callable[[Reading], list[Point]]:
    """The points of a metric with one label."""
    return lambda reading: [((word,), value) for word, value in read(reading.statistics).items()]


def outcomes(now: ExecutorStatistics) -> Mapping[str, float]:
    """Calls that came to their end, by how."""
    return {
        "completed": now.completed,
        "failed": now.failed,
        "cancelled": now.cancelled,
        "timed_out": now.timed_out,
    }


def states(now: ExecutorStatistics) -> Mapping[str, float]:
    """Calls that have not come to their end, by where they are."""
    return {
        "waiting": now.waiting,
        "executing": now.executing,
        "retrying": now.retrying,
        "quarantined": now.quarantined,
    }


def rejected(now: ExecutorStatistics) -> Mapping[str, float]:
    """Calls that were refused, by reason."""
    return {**dict.fromkeys(_REASONS, 0), **now.rejected_by_reason}


def depths(now: ExecutorStatistics) -> Mapping[str, float]:
    """Waiting calls, by where they wait."""
    in_mailboxes = {str(lane.number): lane.depth for lane in now.lanes}
    # Mailboxes may have cancelled ones that nobody has met yet.
    return {"gate": max(0, now.waiting - sum(in_mailboxes.values())), **in_mailboxes}


def workers(now: ExecutorStatistics) -> Mapping[str, float]:
    """Worker threads, by what they do."""
    return {
        "idle": now.idle_workers,
        "busy": now.busy_workers,
        "blocked": now.blocked_workers,
        "abandoned": now.abandoned_workers,
    }


def steals(now: ExecutorStatistics) -> Mapping[str, float]:
    """Calls that were taken from another lane, by lane."""
    return {str(lane.number): lane.stolen for lane in now.lanes}


def limits_waiting(now: ExecutorStatistics) -> Mapping[str, float]:
    """Calls that wait for a permit, by limit."""
    return {name: limit.waiting for name, limit in now.limits.items()}


def started(reading: Reading) -> list[Point]:
    """Attempts, by lane and weight."""
    return [
        ((str(lane.number), weight), count)
        for lane in reading.statistics.lanes
        for weight, count in lane.started_by_weight.items()
    ]


def permits(reading: Reading) -> list[Point]:
    """Permits, by limit and state."""
    return [
        ((name, state), count)
        for name, limit in reading.statistics.limits.items()
        for state, count in _permits_of(limit).items()
    ]


def _permits_of(limit: LimitStatistics) -> Mapping[str, float]:
    if isinstance(limit.spec, RateLimit):
        # No call holds them: they are used up, and come back with time.
        capacity = limit.spec.capacity
        return {"used": max(0, capacity - limit.free), "free": limit.free, "max": capacity}
    return {"used": limit.used, "free": limit.free, "max": limit.spec}


def circuits(reading: Reading) -> list[Point]:
    """Circuits, by operation and state."""
    return [
        ((operation, state.name.lower()), counts.get(state, 0))
        for operation, counts in reading.circuits.items()
        for state in CircuitState
    ]


def quarantined(reading: Reading) -> list[Point]:
    """Calls in the quarantine, by status."""
    return [((status,), count) for status, count in (reading.quarantined or {}).items()]
