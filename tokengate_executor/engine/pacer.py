"""The pacer: it looks at the crew at each interval, asks the rule, and resizes the crew.

Guarantees
    * Without a ``ConvergencePolicy`` there is none; with one, no call does more than it did without.
    * Workers that stay, and those that are still to leave, are together never more than ``max_workers``.
    * No timer is set before the first worker's thread starts; the last one ends with the executor.

Assumes
    * As ``engine.timers``: all but ``note_thread`` and ``report`` happens on the timers' thread.
    * What workers count is a moment old, see ``Worker``. So the time that one has spent in calls never
      grows by more than what has passed: what is seen too much of now is missing later.

It has no lock. When the executor is ending, workers do not leave, so nothing is made smaller then.
"""

# The engine is the governor's other half here; users see only the report.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tokengate_executor.engine.claims import host_of, is_waiting
from tokengate_executor.engine.cpu_clocks import CpuClocks
from tokengate_executor.observe.events import WorkersAdapted
from tokengate_executor.policies.convergence import Controller, ConvergencePolicy, Sample

if TYPE_CHECKING:
    from tokengate_executor.engine.crew import Crew
    from tokengate_executor.engine.waiting_room import WaitingRoom
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.token import Token

__all__ = ["ConvergenceReport", "Pacer"]

Q = TypeVar("Q")

_LOGGER: Final = logging.getLogger("tokengate_executor")

_CHANGES_KEPT: Final = 32
_HEADS_LOOKED_AT: Final = 4
"""Those at the head of a queue may be shells."""

_TENANTS_LOOKED_AT: Final = 64
"""That is enough to see that something waits."""


@dataclass(frozen=True, slots=True)
class ConvergenceReport:
    """How an executor adapts its number of workers.

    Attributes:
        policy: the bounds and numbers; its ``max_workers`` is not ``None``.
        current: how many calls may run at a time now.
        wanted: how many are wanted. More than ``current`` as long as workers that are to leave are still
            at work, and less when the executor is ending.
        reason: why, in words.
        by_lane: how many regular workers each lane has, in order of their numbers. They are dealt
            evenly, as an idle worker takes whatever its lane may run.
        sample: what was seen last; ``None``: nothing yet.
        changes: the last changes, the oldest first.
        is_cpu_exact: whether the CPU time is that of the workers; if not, it is that of the process.
    """

    policy: ConvergencePolicy
    current: int
    wanted: int
    reason: str
    by_lane: tuple[int, ...]
    sample: Sample | None
    changes: tuple[WorkersAdapted, ...]
    is_cpu_exact: bool

    def __str__(self) -> str:
        return (
            f"{self.policy}\n  {self.current} workers, {self.wanted} wanted: {self.reason}"
            f"\n  {self.sample or 'nothing was seen yet'}"
        )


class Pacer:
    """Adapts one crew's number of workers."""

    def __init__(self, crew: Crew, policy: ConvergencePolicy, *, cores: int) -> None:
        """``policy``: its ``max_workers`` is not ``None``; ``cores``: how many the process may use."""
        assert policy.max_workers is not None
        self._crew: Final = crew
        self._policy: Final = policy
        self._most: Final = policy.max_workers
        self._cores: Final = cores
        self._clocks: Final = CpuClocks()
        self.renew()
        crew.initializer = self._noting(crew.initializer)
        crew.at_fork.append(self.renew)

    def renew(self) -> None:
        """Begin with nothing seen: at first, and in a forked child."""
        self._clocks.renew()
        self._controller = Controller(self._policy, cores=self._cores, has_gil=_has_gil())
        # Its one item is for whoever sets the first timer. Taking it out is atomic.
        self._unstarted = [None]
        self._seen_at = 0.0
        self._attempts = 0
        # By worker: how many tokens it had started, and for how long it had run calls.
        self._seen: dict[Worker, tuple[int, float]] = {}
        self._set = self._wanted = self._crew.max_workers
        self._reason = "nothing was seen yet"
        self._sample: Sample | None = None
        self._changes: deque[WorkersAdapted] = deque(maxlen=_CHANGES_KEPT)

    # -- beginning --------------------------------------------------------------------------------

    def _noting(self, initializer: Callable[..., object] | None) -> Callable[..., object]:
        """What each worker thread calls first: it is noted, and then does what it would have done."""

        def begin(*initargs: Any) -> None:
            self.note_thread()
            if initializer is not None:
                initializer(*initargs)

        return begin

    def note_thread(self) -> None:
        """On the thread of a worker that has just begun."""
        try:
            self._clocks.note()
            self._start()
        except (OSError, RuntimeError):
            _LOGGER.exception("%s does not adapt its workers yet", self._crew.name_prefix)

    def _start(self) -> None:
        try:
            self._unstarted.pop()
        except IndexError:
            return
        self._look(perf_counter())  # from here on is counted
        try:
            self._set_timer()
        except RuntimeError:
            self._unstarted.append(None)
            raise

    def _set_timer(self) -> None:
        self._crew.gate.timers.set(perf_counter() + self._policy.interval, self._tick)

    # -- at each interval -------------------------------------------------------------------------

    def _tick(self) -> None:
        """On the timers' thread, on which other things depend: whatever is wrong, it goes on."""
        try:
            self._adapt(perf_counter())
            self._set_timer()
        except Exception:
            _LOGGER.exception(
                "%s stays with %d workers", self._crew.name_prefix, self._crew.max_workers
            )

    def _adapt(self, now: float) -> None:
        crew = self._crew
        if crew.max_workers != self._set:
            self._wanted = crew.max_workers  # somebody has resized it
        self._sample = sample = self._look(now)
        decision = self._controller.next(sample)
        self._wanted, self._reason = decision.wanted, decision.reason
        before = crew.max_workers
        after = min(self._wanted, max(before, self._most - len(crew.leavers)))
        if crew.gate.is_ending:
            after = max(before, after)
        self._set = after
        if after == before:
            return
        event = WorkersAdapted(at=now, before=before, after=after, reason=self._reason)
        self._changes.append(event)  # before anybody can see what comes of it
        try:
            crew.resize(after)
        except RuntimeError:
            _LOGGER.exception("%s has no thread for one more worker", crew.name_prefix)
        if crew.gate.announce is not None:
            crew.gate.announce(event)

    def _look(self, now: float) -> Sample:
        """What has happened since the last look."""
        crew = self._crew
        seconds = max(now - self._seen_at, 1e-6)
        used, busy, attempts = 0, 0.0, 0
        guests = crew.guests.copy()
        for worker in crew.workers:
            if worker in guests:
                continue  # its calls are on threads that are not ours
            started_before, spent_before = self._seen.get(worker, (0, 0.0))
            running = worker.executing()
            started = worker.started
            used += bool(running) or started > started_before
            passed = worker.busy_seconds + _seconds_of(running, worker, now) - spent_before
            passed = min(max(0.0, passed), seconds)
            busy += passed
            self._seen[worker] = started, spent_before + passed
            attempts += worker.completed + worker.failed + worker.killed
            attempts += worker.retried + worker.late
        blocked = _blocked_workers(crew)
        depth, oldest = _queue(crew.gate)
        sample = Sample(
            seconds=seconds,
            workers=self._wanted,
            used=used,
            busy_seconds=max(0.0, busy - blocked * seconds),
            cpu_seconds=self._clocks.seconds(),
            completions=max(0, attempts - self._attempts),
            depth=depth,
            wait_seconds=0.0 if oldest is None else max(0.0, now - oldest),
        )
        self._seen_at, self._attempts = now, attempts
        return sample

    # -- what is seen -----------------------------------------------------------------------------

    def report(self) -> ConvergenceReport:
        """How it stands; each number is right on its own, a moment ago."""
        crew = self._crew
        return ConvergenceReport(
            policy=self._policy,
            current=crew.max_workers,
            wanted=self._wanted,
            reason=self._reason,
            by_lane=tuple(lane.regulars for lane in crew.gate.lanes),
            sample=self._sample,
            changes=tuple(self._changes.copy()),
            is_cpu_exact=self._clocks.is_exact,
        )


def _has_gil() -> bool:
    is_enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is None or is_enabled()


def _blocked_workers(crew: Crew) -> int:
    """How many run a call that waits for a token. Lanes count those that were given up, too."""
    blocked = sum(lane.blocked for lane in crew.gate.lanes)
    given_up = sum(counted for worker in crew.workers for _, counted in worker.stand_ins.copy())
    return max(0, blocked - given_up)


def _seconds_of(running: list[Token[Any]], worker: Worker, now: float) -> float:
    """For how long the call has run that is on the worker's thread and was not given up."""
    if not running or host_of(running[0]) is not worker:
        return 0.0
    started_at = running[0].started_at
    return 0.0 if started_at is None else max(0.0, now - started_at)


def _queue(gate: WaitingRoom) -> tuple[int, float | None]:
    """How many tokens wait for a worker, and since when the oldest does; a moment ago, without a lock.

    Where a governor chooses, what has arrived and was not sorted in yet counts, too: some of it may turn
    out to wait for a permit when a worker asks for it.
    """
    governor = gate.governor
    if governor is not None and governor.is_paused:
        return 0, None
    depth = 0
    oldest = inf
    for queue in gate.queues():
        depth += len(queue)
        oldest = min(oldest, _oldest(queue, lambda token: token))
    if governor is not None:
        for tenant in islice(governor._turns.copy(), _TENANTS_LOOKED_AT):
            for heap in tenant.heaps.copy().values():
                depth += len(heap)
                oldest = min(oldest, _oldest(heap, lambda entry: entry[2]))
    return min(depth, gate.waiting), None if oldest == inf else oldest


def _oldest(queue: Sequence[Q], token_of: Callable[[Q], Token[Any]]) -> float:
    """When the first that waits was submitted, of those at the head, which others may take meanwhile."""
    for index in range(_HEADS_LOOKED_AT):
        try:
            token = token_of(queue[index])
        except IndexError:
            break
        if is_waiting(token):
            return token.submitted_at
    return inf
