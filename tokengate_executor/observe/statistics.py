"""What an executor has done and is doing, as one frozen record that adds up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING

from tokengate_executor.engine.claims import host_of
from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.engine.crew import Crew
    from tokengate_executor.engine.lanes import Lane
    from tokengate_executor.engine.limits import Limit
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.guard.recovery import Recovery
    from tokengate_executor.policies.limits import LimitSpec

__all__ = ["ExecutorStatistics", "LaneStatistics", "LimitStatistics", "gather"]


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """One lane.

    Attributes:
        number: from 1.
        cpus: the logical CPUs of its core.
        workers: threads that were started and have not ended, spare ones included.
        depth: tokens in its mailbox, cancelled ones that nobody has met yet included.
        executing: calls that run now.
        completed, failed, killed: calls that returned, that raised, and that heeded a kill.
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
    killed: int
    stolen: int
    started_by_weight: Mapping[str, int]
    busy_seconds: float
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class LimitStatistics:
    """One limit.

    Attributes:
        spec: an int: so many at once; a ``RateLimit``: so many in a time.
        used: permits that calls hold now; 0 for a rate limit, whose permits are used up.
        free: permits that calls could have now.
        waiting: calls that wait for a permit, cancelled ones that nobody has met yet included.
    """

    spec: LimitSpec
    used: int
    free: int
    waiting: int


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """The whole executor.

    At any quiet moment ``submitted == rejected + waiting + executing + retrying + quarantined +
    completed + failed + timed_out + cancelled``.
    While calls come and go each number is right on its own, a moment ago: they are gathered from
    the workers' own counters, without stopping anybody. ``submitted`` and what comes to an end may be
    short of something, but are never too high.

    Attributes:
        name: of the executor, which its threads' names begin with.
        uptime_seconds: since it was made.
        submitted: calls that were submitted, to a gate that was open.
        rejected: of these, how many were refused: because too many waited, their operation was blocked,
            or their arguments were a spike.
        rejected_by_reason: the same by reason: ``"full"``, ``"blocked"``, ``"spike"``.
        waiting: accepted calls that have not started, wherever they wait.
        parked: of these, how many wait for something else than a worker: a permit, their key, a
            paused operation to be resumed. Cancelled ones that nobody has met yet included.
        executing: calls that run now.
        retrying: calls that wait between two attempts.
        quarantined: calls that are held until somebody has reviewed them.
        completed, failed: calls that returned, that raised in the end.
        timed_out: calls that did not start within their ``queue_timeout``, or not end within their
            ``timeout``.
        cancelled: calls that were cancelled or killed.
        retries: how many times a call was tried again.
        abandoned: calls whose time was over, and that still run on a thread that nobody waits for.
        reviewed: calls that were let in though their arguments were unusually large.
        oldest_wait_seconds: for how long the oldest of the waiting calls has waited; 0.0: none does.
        longest_running_seconds: for how long the longest of the executing calls has run; 0.0: none does.
        unfinished_seconds: the sum for all of them. One that grows as fast as time does is stuck.
        pending: waiting calls that ``max_pending`` counts.
        capacity: the sum of the bounds of ``max_pending``; ``None``: it is not bounded.
        blocked_producers: threads and coroutines that wait until they may submit.
        limits: the limits by name, those of the storage tiers in use or waited for among them.
        is_paused: whether nothing starts at all.
        is_draining: whether nothing is accepted until ``resume``.
        is_shutdown: whether nothing is accepted any more.
        paused_operations: operations of which nothing starts.
        workers: threads that were started and have not ended, spare ones included.
        idle_workers: of these, how many have nothing to do.
        busy_workers: how many run a call, or are about to.
        blocked_workers: how many run a call that waits for a token.
        abandoned_workers: how many run a call that was given up.
        spare_workers: of these, how many stand in for a worker that waits for a token.
        max_workers: how many calls may run at a time.
        lanes: the lanes, in order of their numbers.
    """

    name: str
    uptime_seconds: float
    submitted: int
    rejected: int
    rejected_by_reason: Mapping[str, int]
    waiting: int
    parked: int
    executing: int
    retrying: int
    quarantined: int
    completed: int
    failed: int
    timed_out: int
    cancelled: int
    retries: int
    abandoned: int
    reviewed: int
    oldest_wait_seconds: float
    longest_running_seconds: float
    unfinished_seconds: float
    pending: int
    capacity: int | None
    blocked_producers: int
    limits: Mapping[str, LimitStatistics]
    is_paused: bool
    is_draining: bool
    is_shutdown: bool
    paused_operations: tuple[str, ...]
    workers: int
    idle_workers: int
    busy_workers: int
    blocked_workers: int
    abandoned_workers: int
    spare_workers: int
    max_workers: int
    lanes: tuple[LaneStatistics, ...]


def gather(crew: Crew, recovery: Recovery) -> ExecutorStatistics:
    """What all parts of one executor's engine say of themselves."""
    gate = crew.gate
    workers = crew.workers
    running = [w for w in workers if w.thread is not None and w.thread.is_alive()]
    names = [route.weight or "unweighted" for route in gate.routes.values()]
    # Against the stream: a token that moves on meanwhile is missed for a moment, and not counted twice.
    # Those that are tried again go round in a circle; so they are taken off afterwards.
    retried_before = _retries(workers, recovery)
    rejected_by_reason = gate.rejected.counts()
    rejected = sum(rejected_by_reason.values())
    timed_out = gate.timed_out
    failed = len(gate.failed_unrun)
    cancelled = sum(worker.cancelled + worker.killed for worker in workers)
    cancelled += gate.shells.cancelled_and_gone + len(gate.cancelled_away)
    cancelled += len(gate.shells.cancelled)
    lanes = tuple(_of_lane(lane, workers, running, names) for lane in gate.lanes)
    executing = sum(lane.executing for lane in lanes)
    completed = sum(lane.completed for lane in lanes)
    failed += sum(lane.failed for lane in lanes)
    executing += _about_to_begin(workers)
    facts = gate.facts()
    waiting = facts.waiting
    away = [token.state for token in gate.away.copy()]
    retrying = away.count(TokenState.RETRYING)
    quarantined = away.count(TokenState.QUARANTINED)
    retries = _retries(workers, recovery)
    now = perf_counter()
    run_times = _run_times(workers, now)
    idle = sum(worker.thread is not None for worker in crew.router.idle.copy())
    given_up = sum(worker.abandoned > 0 for worker in running)
    stood_in_for = sum(counted for worker in workers for _, counted in worker.stand_ins.copy())
    blocked = max(0, sum(lane.blocked for lane in gate.lanes) - stood_in_for)
    return ExecutorStatistics(
        name=crew.name_prefix,
        uptime_seconds=now - crew.made_at,
        submitted=sum(
            (rejected, waiting, executing, retrying, quarantined),
            start=completed + failed + timed_out + cancelled + retried_before - retries,
        ),
        rejected=rejected,
        rejected_by_reason=MappingProxyType(rejected_by_reason),
        waiting=waiting,
        parked=facts.parked,
        executing=executing,
        retrying=retrying,
        quarantined=quarantined,
        completed=completed,
        failed=failed,
        timed_out=timed_out,
        cancelled=cancelled,
        retries=retries,
        abandoned=sum(worker.abandoned for worker in workers),
        reviewed=len(recovery.reviewed),
        oldest_wait_seconds=0.0 if facts.oldest is None else max(0.0, now - facts.oldest),
        longest_running_seconds=max(run_times, default=0.0),
        unfinished_seconds=sum(run_times),
        pending=sum(bound.pending for bound in gate.bounds),
        capacity=sum(bound.size for bound in gate.bounds) if gate.bounds else None,
        blocked_producers=sum(bound.waiters for bound in gate.bounds),
        limits=MappingProxyType({limit.name: _of_limit(limit, now) for limit in facts.limits}),
        is_paused=facts.is_paused,
        is_draining=gate.is_draining,
        is_shutdown=gate.is_ending,
        paused_operations=facts.paused_operations,
        workers=len(running),
        idle_workers=idle,
        busy_workers=max(0, len(running) - idle - blocked - given_up),
        blocked_workers=blocked,
        abandoned_workers=given_up,
        spare_workers=sum(worker.is_spare for worker in running),
        max_workers=crew.max_workers,
        lanes=lanes,
    )


def _retries(workers: Sequence[Worker], recovery: Recovery) -> int:
    return sum(worker.retried for worker in workers) + recovery.retried_after_timeout


def _about_to_begin(workers: Sequence[Worker]) -> int:
    """How many are claimed, and have not begun: listeners are told of them."""
    return len(
        {
            token
            for worker in workers
            for token in worker.executing()
            if token.running() and host_of(token) is None
        }
    )


def _run_times(workers: Sequence[Worker], now: float) -> list[float]:
    """For how long each call has run that runs now and was not given up."""
    return [
        max(0.0, now - token.started_at)
        for worker in workers
        for token in worker.executing()
        if token.running() and host_of(token) is worker and token.started_at is not None
    ]


def _of_lane(
    lane: Lane, workers: Sequence[Worker], running: Sequence[Worker], names: Sequence[str]
) -> LaneStatistics:
    own = [worker for worker in workers if worker.lane is lane]
    completed = sum(worker.completed for worker in own)
    failed = sum(worker.failed for worker in own)
    killed = sum(worker.killed for worker in own)
    started = sum(worker.started for worker in own)
    # In this order: what is abandoned is late afterwards.
    elsewhere = sum(worker.abandoned + worker.late + worker.retried for worker in own)
    return LaneStatistics(
        number=lane.number,
        cpus=lane.cpus,
        workers=sum(worker.lane is lane for worker in running),
        depth=len(lane.mailbox),
        executing=max(0, started - completed - failed - killed - elsewhere),
        completed=completed,
        failed=failed,
        killed=killed,
        stolen=lane.stolen,
        started_by_weight=_by_weight(own, names, started),
        busy_seconds=sum(worker.busy_seconds for worker in own),
        waited_seconds=sum(worker.waited_seconds for worker in own),
    )


def _by_weight(workers: Sequence[Worker], names: Sequence[str], total: int) -> Mapping[str, int]:
    """How many calls the workers started, by weight; unweighted ones are the rest."""
    started = {
        name: sum(worker.started_by_weight[index] for worker in workers)
        for index, name in enumerate(names)
    }
    started[names[0]] = max(0, total - sum(started.values()))
    return MappingProxyType(started)


def _of_limit(limit: Limit, now: float) -> LimitStatistics:
    return LimitStatistics(limit.spec, limit.used, max(0, limit.free(now)), len(limit))
