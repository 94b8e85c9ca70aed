"""The crew: all workers of an executor, from the first start to the last join.

What its one lock guards is said where it is made; it is taken when a worker blocks, comes back or
leaves, never on the way of a call that does neither.

Lending. While a worker's call waits for a token, a spare worker of the same lane stands in for it.
The spare begins as a vacancy on the list of the idle: a thread is started only when there is something
for it to do. When the wait is over, the spare ends after the call it has; so for the length of that
call, and no longer, a lane may run one call more than it has regular workers.

Why this never deadlocks: a lane always has a worker that does not wait. At the cap of spares the last
such worker of a lane is refused its wait (``DeadlockError``) unless the wait has a timeout. So whatever
is queued for a lane is run, and every wait ends that does not lead back to itself; one that does is a
ring of tokens that wait for each other, and is refused, too.
"""

from __future__ import annotations

import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import Context
from time import perf_counter
from typing import Any, Final

from tokengate_executor.engine.claims import fail_waiting, host_of, orphan, profile_of
from tokengate_executor.engine.gate import BROKEN, Gate, Profile, Refusal, Route
from tokengate_executor.engine.lanes import Lane
from tokengate_executor.engine.router import Router
from tokengate_executor.engine.workers import Worker
from tokengate_executor.errors import DeadlockError
from tokengate_executor.token import Token
from tokengate_executor.waiting import current_thread

__all__ = ["Crew"]


class Crew:
    """All workers of one executor."""

    def __init__(
        self,
        *,
        gate: Gate,
        router: Router,
        max_workers: int,
        max_spare_workers: int,
        name_prefix: str,
        initializer: Callable[..., object] | None,
        initargs: Sequence[Any],
        pin_lanes: bool,
        history_size: int,
    ) -> None:
        self.gate: Final = gate
        self.router: Final = router
        self.max_workers: Final = max_workers
        self.max_spare_workers: Final = max_spare_workers
        self.name_prefix: Final = name_prefix
        self.initializer = initializer
        self.initargs = initargs
        self.pin_lanes: Final = pin_lanes
        self.history_size: Final = history_size
        self.generation = 0
        gate.fail_unserved = self.fail_unserved
        self._hire()

    def _hire(self) -> None:
        """Make the regular workers, dealt over the lanes, all of them idle, none started."""
        # Guards spares, _free_spares, each lane's regulars, spares and blocked, and each worker's
        # leaving and waits_for. Nothing is called under it that takes another lock.
        self._lock = allocate_lock()
        lanes = self.gate.lanes
        for lane in lanes:
            lane.regulars = lane.spares = lane.blocked = 0
        self.regulars: list[Worker] = []
        for index in range(self.max_workers):
            lane = lanes[index % len(lanes)]
            lane.regulars += 1
            self.regulars.append(Worker(self, index + 1, lane, is_spare=False))
        self.spares: list[Worker] = []
        self._free_spares: list[Worker] = []
        self.router.idle[:] = reversed(self.regulars)

    @property
    def workers(self) -> list[Worker]:
        """All there are, spare ones included, started or not."""
        return self.regulars + self.spares

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads that were started, those that have ended included."""
        return [worker.thread for worker in self.workers if worker.thread is not None]

    def name_of_worker(self, worker: Worker) -> str:
        """As the standard library names them: from 0."""
        return f"{self.name_prefix}_{worker.number - 1}"

    # -- starting ---------------------------------------------------------------------------------

    def start(self, worker: Worker, route: Route | None) -> None:
        """Start the thread of a worker that was roused for the first time.

        The route is that of the token it is roused for; ``None``: a call that waits needs a spare.

        Raises:
            RuntimeError: the system gives no thread, and no worker that runs could serve the route.
        """
        thread = _thread(worker.run, self.name_of_worker(worker))
        worker.thread = thread
        try:
            thread.start()
        except RuntimeError:
            worker.thread = None
            self.router.idle.insert(0, worker)
            # A call that wants to wait is told, as nobody might come to what it waits for. The gate
            # takes a submitter's token back and tells the submitter, if nobody would come to that.
            if route is None or not self._is_served(route):
                raise

    def _is_served(self, route: Route) -> bool:
        """Whether a worker that runs may run the route's tokens."""
        return any(
            worker.thread is not None and worker.lane.may_run(route) for worker in self.workers
        )

    def fail_unserved(self, error: RuntimeError) -> None:
        """Fail what waits and no worker could ever take, as there are no threads to be had.

        Its submitter saw no idle worker because another submitter was about to start the first
        one, and relied on that.
        """
        for route in self.gate.routes.values():
            if route.backlog and not self._is_served(route):
                self._fail_all(self.gate.drain([route.backlog]), error)

    def _fail_all(self, tokens: list[Token[Any]], error: RuntimeError) -> None:
        for token in tokens:
            if fail_waiting(token, error):
                self.gate.count_failed_unstarted()
            else:
                self.gate.bury_drained(token)

    # -- lending ----------------------------------------------------------------------------------

    def may_run(self, worker: Worker, token: Token[Any]) -> bool:
        """Whether the worker's lane may run this token of the same executor."""
        profile = profile_of(token)
        return (
            isinstance(profile, Profile)
            and profile.gate is self.gate
            and worker.lane.may_run(profile.route)
        )

    @contextmanager
    def lending(
        self, worker: Worker, token: Token[Any] | None, timeout: float | None
    ) -> Generator[None, None, None]:
        """See ``waiting.Host``."""
        lane = worker.lane
        with self._lock:
            if token is not None and timeout is None:
                if self._leads_back(worker, token):
                    raise DeadlockError(
                        f"{token.operation} would be waited for by itself: "
                        "the tokens wait for each other in a ring"
                    )
                worker.waits_for = token
            spare = self._spare_for(lane)
            if spare is not None:
                lane.spares += 1
            elif timeout is None and lane.regulars + lane.spares - lane.blocked <= 1:
                worker.waits_for = None
                raise DeadlockError(
                    f"every worker of lane {lane.number} would wait, and all "
                    f"{self.max_spare_workers} spare workers (max_spare_workers) are lent"
                )
            lane.blocked += 1
        generation = self.generation
        try:
            if spare is not None and spare.thread is None:
                self._offer(spare)
            yield
        finally:
            if generation == self.generation:
                self._take_back(worker, spare)

    def _leads_back(self, worker: Worker, token: Token[Any]) -> bool:
        """Whether what the token waits for is, in the end, this worker. Called with the lock held."""
        wanted: Token[Any] | None = token
        while wanted is not None:
            host = host_of(wanted)
            if not isinstance(host, Worker) or not wanted.running():
                return False
            if host is worker:
                return True
            wanted = host.waits_for
        return False

    def _spare_for(self, lane: Lane) -> Worker | None:
        """A spare worker of this lane, if there may be one more. Called with the lock held."""
        for spare in self.spares:
            # It runs and has not gone yet: it stays. One without a thread may be on its way off
            # the list of the idle, or be started this moment: it is somebody else's to move.
            if (
                spare.leaving
                and spare.lane is lane
                and spare.thread is not None
                and spare not in self._free_spares
            ):
                spare.leaving = False
                return spare
        for spare in self._free_spares:
            if spare.lane is lane:
                self._free_spares.remove(spare)
                spare.leaving = False
                spare.thread = None
                return spare
        if len(self.spares) - len(self._free_spares) >= self.max_spare_workers:
            return None
        spare = Worker(self, self.max_workers + len(self.spares) + 1, lane, is_spare=True)
        self.spares.append(spare)
        return spare

    def _offer(self, spare: Worker) -> None:
        """List the spare as idle, and only then look whether there is something for it to do."""
        self.router.idle.insert(0, spare)
        if self.gate.has_work(spare.lane):
            try:
                self.router.idle.remove(spare)
            except ValueError:
                return  # roused by somebody else
            spare.rouse()

    def _take_back(self, worker: Worker, spare: Worker | None) -> None:
        """The wait is over: the spare ends, at once if it is idle, else after its present call."""
        with self._lock:
            worker.waits_for = None
            worker.lane.blocked -= 1
            if spare is None:
                return
            worker.lane.spares -= 1
            spare.leaving = True
        try:
            self.router.idle.remove(spare)
        except ValueError:
            return  # it is awake, and sees that it is to leave
        if spare.thread is None:
            with self._lock:
                self._free_spares.append(spare)
        else:
            spare.rouse()

    def may_leave(self, spare: Worker) -> bool:
        """Whether a spare that saw itself leaving is still to leave; then it is free from here on."""
        with self._lock:
            if not spare.leaving:
                return False
            self._free_spares.append(spare)
        # It may have been roused for a token that it does not take any more: pass that on.
        self.gate.rouse_for_the_rest()
        return True

    # -- ending -----------------------------------------------------------------------------------

    def close(self, refusal: Refusal) -> None:
        """Take no more calls; workers end when nothing is left. Takes no lock: also a finaliser's."""
        if self.gate.closed is None:
            self.gate.closed = refusal
        idle = self.router.idle
        while True:
            try:
                worker = idle.pop()
            except IndexError:
                return
            if worker.thread is not None:
                worker.rouse()

    def break_down(self) -> None:
        """An initializer failed: fail what waits, take no more."""
        self.gate.closed = BROKEN
        self.close(BROKEN)
        self._fail_all(self.gate.drain(self.gate.queues()), self.gate.refusal())

    def cancel_waiting(self) -> None:
        """Cancel everything that waits."""
        for token in self.gate.drain(self.gate.queues()):
            token.cancel()
            self.gate.bury_drained(token)

    def join(self) -> None:
        """Wait for all threads but the calling one; for those, too, that start meanwhile."""
        here = threading.current_thread()
        while True:
            alive = [t for t in self.threads if t is not here and t.is_alive()]
            if not alive:
                return
            for thread in alive:
                thread.join()

    # -- in a forked child ------------------------------------------------------------------------

    def begin_again(self) -> None:
        """In a forked child: no thread is left but this one, and every lock may be held for ever.

        A token that was on its way from a queue to a worker is in none of the places looked at
        here. It fails when somebody waits for it: see ``Profile.left_behind``.
        """
        inherited = [
            token
            for queue in self.gate.queues()
            for token in queue
            if not token.done() and not token.running()
        ]
        here = current_thread.host
        inherited += [
            worker.current
            for worker in self.workers
            if worker is not here and worker.current is not None
        ]
        for token in inherited:
            orphan(token)
        self.generation += 1
        self.gate.forked_at = perf_counter()
        self.gate.survivor = here if isinstance(here, Worker) else None
        self.gate.renew()
        self._hire()


def _thread(target: Callable[[], None], name: str) -> threading.Thread:
    """A thread with an empty context, which does not keep the interpreter from ending.

    Pending work is finished at exit all the same: ``engine.process`` waits for it.
    """
    options: dict[str, Any] = {"target": target, "name": name}
    if sys.version_info >= (3, 14):
        options["context"] = Context()
    try:
        return threading.Thread(daemon=True, **options)
    except RuntimeError:  # a subinterpreter that forbids daemon threads
        return threading.Thread(daemon=False, **options)
