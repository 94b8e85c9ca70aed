"""What an executor has done and is doing, as one frozen record that adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ExecutorStatistics", "LaneStatistics"]


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """One lane.

    Attributes:
        number: from 1.
        cpus: the logical CPUs of its core.
        workers: threads that were started and have not ended, spare ones included.
        depth: tokens in its mailbox, cancelled ones that nobody has met yet included.
        executing: calls that run now.
        completed, failed: calls that returned, and that raised.
        stolen: calls that it took from another lane's mailbox.
        started_by_weight: calls that it started, by weight, ``"unweighted"`` among them.
        busy_seconds: sum of the run times; a call inside another's wait is counted once.
        waited_seconds: sum of the times from submission to start.
    """

    number: int
    cpus: tuple[int, ...]
    workers: int
    depth: int
    executing: int
    completed: int
    failed: int
    stolen: int
    started_by_weight: Mapping[str, int]
    busy_seconds: float
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """The whole executor.

    At any quiet moment ``submitted == waiting + executing + completed + failed + cancelled``.
    While calls come and go each number is right on its own, a moment ago: they are gathered from
    the workers' own counters, without stopping anybody.

    Attributes:
        submitted: calls that were accepted.
        waiting: accepted calls that have not started, wherever they wait.
        executing: calls that run now.
        completed, failed, cancelled: calls that returned, that raised, that were cancelled.
        workers: threads that were started and have not ended, spare ones included.
        idle_workers: of these, how many have nothing to do.
        spare_workers: of these, how many stand in for a worker that waits for a token.
        max_workers: how many calls may run at a time.
        lanes: the lanes, in order of their numbers.
    """

    submitted: int
    waiting: int
    executing: int
    completed: int
    failed: int
    cancelled: int
    workers: int
    idle_workers: int
    spare_workers: int
    max_workers: int
    lanes: tuple[LaneStatistics, ...]
