"""A worker: one thread, its loop, and the counters that only it writes."""

from __future__ import annotations

import logging
from _thread import TIMEOUT_MAX, allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tokengate_executor.engine.lanes import pin_this_thread
from tokengate_executor.engine.routes import profile_of
from tokengate_executor.observe.events import Event, WorkerStarted, WorkerStopped
from tokengate_executor.observe.histograms import Meter
from tokengate_executor.observe.history import ByOperation, Notes, RawRecord
from tokengate_executor.options import name_of
from tokengate_executor.waiting import current_thread

if TYPE_CHECKING:
    import threading

    from tokengate_executor.engine.crew import Crew
    from tokengate_executor.engine.lanes import Lane
    from tokengate_executor.engine.routes import Profile, Route
    from tokengate_executor.token import Token

__all__ = ["Worker"]

E = TypeVar("E", bound=Event)

_FUTURES_LOGGER: Final = logging.getLogger("concurrent.futures")
_LOGGER: Final = logging.getLogger("tokengate_executor")

_DEEPEST_IN_PLACE: Final = 32
"""How many tokens one thread runs inside each other; deeper ones get a spare worker and its stack."""


class Worker:
    """One of the executor's threads. It is a ``contracts.Host`` to the tokens it runs.

    Attributes:
        generation: of the crew when it was made: it is another one in a forked child.
        number: from 1, in the order in which the crew made them.
        thread: ``None`` until the worker is first roused.
        started, completed, failed, killed: how many tokens it started, and of these how many
            returned, raised, and ended because they were killed.
        retried: of the started ones, how many are tried again.
        late: of the started ones, how many came to their end when their time was over.
        cancelled: how many cancelled tokens it met in the queue.
        started_by_weight: started ones by the routes' ``index``; unweighted ones are not counted again.
        busy_seconds, waited_seconds: sums over its tokens of run time and of time in the queue.
        ring: the last tokens it finished.
        keep: puts one more there; and counts it, if the crew is measured.
        meter: what then counts them. Guarded by the crew's lock.
        by_operation: the last attempts that it ended, by operation.
        notes: where it noted the last of them.
        current: the innermost token it runs.
        waits_for: the token that its call waits for, while it blocks. Guarded by the crew's lock.
        abandoned: how many calls on its thread were given up. Guarded by the crew's lock.
        stand_ins: for each of these the spare that stands in for it, or ``None``, and whether the lane
            counts it as blocked. Guarded by the crew's lock.
        leaving: a spare that is to end after its present call. Guarded by the crew's lock.

    The counters are written by the worker's own thread alone. A reader elsewhere sees each of them
    a moment old; they add up when nothing is going on.
    """

    __slots__ = (
        "_wake",
        "abandoned",
        "busy_seconds",
        "by_operation",
        "cancelled",
        "completed",
        "crew",
        "current",
        "failed",
        "generation",
        "is_spare",
        "keep",
        "killed",
        "lane",
        "lane_number",
        "late",
        "leaving",
        "meter",
        "notes",
        "number",
        "outer",
        "retried",
        "ring",
        "stand_ins",
        "started",
        "started_by_weight",
        "thread",
        "waited_seconds",
        "waits_for",
    )

    def __init__(self, crew: Crew, number: int, lane: Lane, *, is_spare: bool) -> None:
        self.crew = crew
        # The tokens around the current one: each waits for the next, which runs in place inside it.
        self.outer: list[Token[Any]] = []
        # Held; released once by whoever took this worker off the list of the idle.
        self._wake = allocate_lock()
        self._wake.acquire()
        self.generation = crew.generation
        self.number = number
        self.lane = lane
        self.lane_number = lane.number
        self.is_spare = is_spare
        self.leaving = False
        self.thread: threading.Thread | None = None
        self.current: Token[Any] | None = None
        self.waits_for: Token[Any] | None = None
        self.started = 0
        self.completed = 0
        self.failed = 0
        self.cancelled = 0
        self.killed = 0
        self.retried = 0
        self.late = 0
        self.abandoned = 0
        self.stand_ins: list[tuple[Worker | None, bool]] = []
        self.started_by_weight = [0] * len(crew.gate.routes)
        self.busy_seconds = 0.0
        self.waited_seconds = 0.0
        self.ring: deque[RawRecord] = deque(maxlen=crew.history_size)
        self.keep: Callable[[RawRecord], object] = self.ring.append
        self.meter: Meter | None = None
        if crew.is_measured:
            self.measure()
        self.by_operation = ByOperation(crew.attempts_noted)
        self.notes = Notes((None, ""), None, deque())

    def rouse(self, route: Route | None = None) -> None:
        """Called by whoever took this worker off the list of the idle, once.

        Raises:
            RuntimeError: its thread cannot be started, and no other could serve the route.
        """
        if self.thread is None:
            self.crew.start(self, route)
        else:
            self._wake.release()

    def measure(self) -> None:
        """From here on it counts how long tokens waited and ran. With the crew's lock held."""
        if self.meter is None:
            self.meter = Meter(self.ring)
            self.keep = self.meter.keep

    def note(self, fn: Callable[..., Any], profile: Profile) -> Notes:
        """Where to note an attempt; stays there for the next that is like it."""
        name = name_of(fn)
        records = self.by_operation[profile.operation or name]
        self.notes = notes = Notes(name, profile, records)
        return notes

    def run(self) -> None:
        """The thread's whole life."""
        generation: int = self.crew.generation
        thread = self.thread
        assert thread is not None  # it is this one; when it ends there may be another
        announce = self.crew.gate.announce
        try:
            if announce is not None:
                current_thread.host = self  # for listeners that wait
                announce(self._event(WorkerStarted))
                current_thread.host = None
            self._live()
        finally:
            if generation == self.crew.generation:  # else the call forked, and this is the child
                try:
                    if announce is not None:
                        announce(self._event(WorkerStopped))
                finally:
                    self.crew.note_ended(thread)

    def _event(self, kind: Callable[..., E]) -> E:
        return kind(
            at=perf_counter(), worker=self.number, lane=self.lane_number, is_spare=self.is_spare
        )

    def _live(self) -> None:
        crew = self.crew
        if crew.pin_lanes:
            try:
                pin_this_thread(self.lane.cpus)
            except OSError:
                _LOGGER.exception(
                    "cannot pin %s to CPUs %s", crew.name_of_worker(self), self.lane.cpus
                )
        if crew.initializer is not None:
            try:
                crew.initializer(*crew.initargs)
            except BaseException:
                _FUTURES_LOGGER.critical("Exception in initializer:", exc_info=True)
                crew.break_down()
                return
        current_thread.host = self
        self._work()

    def _work(self) -> None:
        crew = self.crew
        gate = crew.gate
        idle = crew.router.idle
        lane = self.lane
        generation: int = crew.generation
        while True:
            token = gate.take(self)
            if token is not None:
                token._profile.attempt(self, token)  # type: ignore[union-attr]  # who queues has one
                del token
                if generation != crew.generation:
                    return  # the call forked: this is the child, and the crew is not ours any more
                if self.leaving and crew.may_leave(self):
                    return
                continue
            # Idle first, and only then a last look: see engine.gate.
            idle.append(self)
            if (
                not self.leaving
                and not gate.has_work(lane)
                and not (gate.is_ending and self._is_over())
            ):
                if not self._sleep():
                    return
            else:
                try:
                    idle.remove(self)
                except ValueError:
                    # Somebody roused us meanwhile: the wake-up is ours to use up.
                    self._wake.acquire()
            if self._is_done():
                return

    def _sleep(self) -> bool:  # noqa: PLR0911  each return is another who was quicker
        """Until somebody rouses it; false: nobody did for so long that its thread ends."""
        keep_alive = self.crew.keep_alive
        if keep_alive is None:
            self._wake.acquire()
            return True
        if self._wake.acquire(timeout=min(keep_alive, TIMEOUT_MAX)):
            return True
        idle = self.crew.router.idle
        thread = self.thread
        try:
            idle.remove(self)
        except ValueError:
            self._wake.acquire()  # roused at this very moment
            return True
        # A vacancy again, and only then a last look: from here on another thread may be started.
        self.thread = None
        idle.insert(0, self)
        if not self.crew.gate.has_work(self.lane):
            return False
        try:
            idle.remove(self)
        except ValueError:
            return False
        if self._has_thread():
            # Another thread was started and has listed itself: it was that one's entry.
            self._wake.release()
            return False
        self.thread = thread
        return True

    def _has_thread(self) -> bool:
        return self.thread is not None

    def _is_done(self) -> bool:
        """Whether this awake worker ends: a spare that is not needed, or nothing can come any more."""
        return (self.leaving and self.crew.may_leave(self)) or self._is_over()

    def _is_over(self) -> bool:
        gate = self.crew.gate
        if not gate.is_ending or gate.is_left_for(self.lane):
            return False
        # Whoever sees the end passes it on: what was posted to say so may have been done by us.
        gate.end_idle()
        return True

    # -- when its own call waits: contracts.Host -----------------------------------------------------

    def run_in_place(self, token: Token[Any]) -> bool:
        """See ``contracts.Host``."""
        if (
            self.current is None
            or self.abandoned  # nobody may have to wait for this thread
            or len(self.outer) >= _DEEPEST_IN_PLACE
            or not self.crew.may_run(self, token)
            or not profile_of(token).is_in_place
            or not self.crew.gate.take_this(token)
        ):
            return False
        return self.run_inside(token)

    def run_inside(self, token: Token[Any]) -> bool:
        """Run a claimed token on this worker's own thread, inside the call that it runs."""
        current = self.current
        assert current is not None
        self.outer.append(current)
        self.current = token
        profile_of(token).attempt(self, token)
        self.current = self.outer.pop()
        if self.abandoned:
            self.crew.give_up(self)
        return True

    def executing(self) -> list[Token[Any]]:
        """The tokens whose calls are on this thread, a moment ago, the outermost first."""
        current = self.current
        return self.outer.copy() if current is None else [*self.outer, current]

    def lending(
        self, token: Token[Any] | None, timeout: float | None
    ) -> AbstractContextManager[None]:
        """See ``contracts.Host``."""
        return self.crew.lending(self, token, timeout)
