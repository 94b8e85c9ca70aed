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

import logging
import sys
import threading
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Final, cast

from tokengate_executor.engine.bounded import BoundedGate
from tokengate_executor.engine.claims import fail_waiting, host_of, orphan, was_cut_off
from tokengate_executor.engine.gate import BROKEN, Gate
from tokengate_executor.engine.lanes import Lane
from tokengate_executor.engine.router import Router
from tokengate_executor.engine.routes import Profile, Route, profile_of
from tokengate_executor.engine.workers import Worker
from tokengate_executor.errors import DeadlockError
from tokengate_executor.observe.events import WorkerAbandoned
from tokengate_executor.token import Token
from tokengate_executor.waiting import current_thread

__all__ = ["Crew", "make_thread"]

_LOGGER: Final = logging.getLogger("tokengate_executor")

_LONGEST_START_SECONDS: Final = 1.0


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
        keep_alive: float | None,
        attempts_noted: int,
    ) -> None:
        self.gate: Final = gate
        self.router: Final = router
        self.max_workers = max_workers
        self.max_spare_workers: Final = max_spare_workers
        self.name_prefix: Final = name_prefix
        self.initializer = initializer
        self.initargs = initargs
        self.pin_lanes: Final = pin_lanes
        self.history_size: Final = history_size
        self.keep_alive: Final = keep_alive
        self.attempts_noted: Final = attempts_noted
        self.generation = 0
        self.is_measured = False
        self.made_at: Final = perf_counter()
        self.at_fork: list[Callable[[], None]] = []
        # Called, perhaps more than once, when nothing can happen any more. Must take no lock.
        self.at_end: list[Callable[[], object]] = []
        gate.fail_unserved = self.fail_unserved
        gate.is_own_worker = self.is_own_worker
        gate.end_timers = self.tell_ended
        if isinstance(gate, BoundedGate):
            gate.run_here = self.run_here
        self._hire()

    def _hire(self) -> None:
        """Make the regular workers, dealt over the lanes, all of them idle, none started."""
        # Guards regulars, leavers, retired, spares, _free_spares, guests, _hired, each lane's
        # regulars, spares and blocked, and each worker's leaving, waits_for, stand_ins and abandoned.
        # Inside it only the waiting room's lock is taken, to see who keeps a token from starting.
        self._lock = allocate_lock()
        self._hired = 0
        for lane in self.gate.lanes:
            lane.regulars = lane.spares = lane.blocked = 0
        self.spares: list[Worker] = []
        self._free_spares: list[Worker] = []
        # Regular workers that are to end after their present call, and those that have.
        self.leavers: list[Worker] = []
        self.retired: list[Worker] = []
        # They lend their counters to threads that are not ours, while these run a token; none of
        # them has a thread. Taken from the end and put back there, which is atomic.
        self.guests: list[Worker] = []
        self._free_guests: list[Worker] = []
        # For each thread that is being started, a lock that is held until it is.
        self._starting: deque[LockType] = deque()
        # Threads that run, or are being started, and were not given up. `add` and `discard` are atomic.
        self._running: set[threading.Thread] = set()
        # Those who wait for threads to end, and are told of each that does or is given up.
        self._joiners: list[SimpleQueue[None]] = []
        self.regulars = [self._engage() for _ in range(self.max_workers)]
        self.router.idle[:] = reversed(self.regulars)

    def _engage(self) -> Worker:
        """One more regular worker, on the lane that has the fewest. Called with the lock held."""
        lane = min(self.gate.lanes, key=lambda lane: lane.regulars)
        lane.regulars += 1
        for worker in self.retired:
            if worker.lane is lane:
                self.retired.remove(worker)
                worker.leaving = False
                worker.thread = None
                return worker
        return self._new_worker(lane)

    def _new_worker(self, lane: Lane, *, is_spare: bool = False) -> Worker:
        """Called with the lock held, or before anybody else can."""
        self._hired += 1
        return Worker(self, self._hired, lane, is_spare=is_spare)

    @property
    def workers(self) -> list[Worker]:
        """All there are or ever were, each with its counters."""
        lists = self.regulars, self.leavers, self.retired, self.spares, self.guests
        # One on its way from a list to the next may be seen in both.
        return list(dict.fromkeys(worker for one in lists for worker in one.copy()))

    def measure(self) -> None:
        """From here on every worker counts how long tokens waited and ran."""
        with self._lock:  # so that none is being made meanwhile
            self.is_measured = True
            for worker in self.workers:
                worker.measure()

    def is_own_worker(self) -> bool:
        """Whether the calling thread runs a call of this crew's, or is one of its workers."""
        return any(
            isinstance(one, Worker) and one.crew is self
            for one in (current_thread.host, current_thread.guest)
        )

    def is_any_busy(self) -> bool:
        """Whether a worker other than the calling one is not idle."""
        idle = self.router.idle.copy()
        host = current_thread.host
        with self._lock:
            employed = [*self.regulars, *self.leavers, *self.spares]
            employed = [worker for worker in employed if worker not in self._free_spares]
        return any(
            worker is not host
            and worker not in idle
            and not worker.abandoned
            and worker.thread in self._running
            for worker in employed
        )

    def run_here(self, token: Token[Any]) -> bool:
        """Run a token that nobody else has seen on the calling thread; false: it may not start.

        Raises:
            KeyboardInterrupt: from the call, if no worker runs it: it was meant for this thread.
        """
        gate = self.gate
        assert isinstance(gate, BoundedGate)  # no other has tokens run by their submitters
        host = current_thread.host
        if isinstance(host, Worker) and host.crew is self and host.current is not None:
            return gate.claim_here(token) and host.run_inside(token)
        try:
            guest = self._free_guests.pop()
        except IndexError:
            with self._lock:
                guest = self._new_worker(self.gate.lanes[0])
                self.guests.append(guest)
        outer, current_thread.guest = current_thread.guest, guest
        guest.current = token
        if not profile_of(token).is_in_place:
            gate.limbo.add(guest)
        try:
            # Claimed, and only then seen to be allowed: as a worker that takes from a mailbox.
            if not gate.claim_here(token):
                return False
            profile_of(token).attempt(guest, token)
        finally:
            guest.current = None
            current_thread.guest = outer
            self._free_guests.append(guest)
            gate.limbo.discard(guest)
            gate.tell_watchers()
            if gate.is_ending:
                gate.end_if_over()
        # One that is to be tried again has come to nothing yet.
        error = token.exception(0) if token.done() and not token.cancelled() else None
        if outer is None and current_thread.interrupt is not None:
            error, current_thread.interrupt = current_thread.interrupt, None
        if isinstance(error, KeyboardInterrupt):
            raise error
        return True

    # -- resizing ---------------------------------------------------------------------------------

    def resize(self, max_workers: int) -> None:
        """See ``TokenGateExecutor.resize``."""
        hired: list[Worker] = []
        let_go: list[Worker] = []
        with self._lock:
            self.max_workers = self.gate.mailboxes.sharers = max_workers
            while len(self.regulars) < max_workers:
                hired.append(self._engage())
                self.regulars.append(hired[-1])
            while len(self.regulars) > max_workers:
                worker = self._dispensable()
                self.leavers.append(worker)
                self.regulars.remove(worker)
                worker.lane.regulars -= 1
                worker.leaving = True
                let_go.append(worker)
        for worker in let_go:
            self._see_off(worker)
        for worker in hired:
            self._offer(worker)

    def _dispensable(self) -> Worker:
        """Of the lane that has the most: one without a thread, else the last. With the lock held."""
        lane = max(self.gate.lanes, key=lambda lane: lane.regulars)
        own = [worker for worker in self.regulars if worker.lane is lane]
        return next((worker for worker in own if worker.thread is None), own[-1])

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
        thread = make_thread(worker.run, self.name_of_worker(worker))
        # Listed until it is started, so that `join` waits for it.
        starting = allocate_lock()
        starting.acquire()
        self._starting.append(starting)
        try:
            worker.thread = thread
            self._running.add(thread)
            thread.start()
        except RuntimeError:
            worker.thread = None
            self.note_ended(thread)
            self.router.idle.insert(0, worker)
            # A call that wants to wait is told, as nobody might come to what it waits for. The gate
            # takes a submitter's token back and tells the submitter, if nobody would come to that.
            if route is None or not self._is_served(route):
                raise
        finally:
            self._starting.remove(starting)
            starting.release()
            self._tell_joiners()

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
        for token in self.gate.waiting_tokens():
            if not self._is_served(profile_of(token).route) and fail_waiting(token, error):
                self.gate.count_failed()

    def _fail_all(self, tokens: list[Token[Any]], error: RuntimeError) -> None:
        for token in tokens:
            if fail_waiting(token, error):
                self.gate.bury_failed(token)
            else:
                self.gate.bury_drained(token)

    # -- lending ----------------------------------------------------------------------------------

    def may_run(self, worker: Worker, token: Token[Any]) -> bool:
        """Whether the worker's lane may run this token of the same executor."""
        # It may be of another executor, or of none at all.
        profile = cast("object", profile_of(token))
        return (
            isinstance(profile, Profile)
            and profile.gate is self.gate
            and worker.lane.may_run(profile.route)
        )

    @contextmanager
    def lending(
        self, worker: Worker, token: Token[Any] | None, timeout: float | None
    ) -> Generator[None, None, None]:
        """See ``contracts.Host``."""
        is_endless = token is not None and timeout is None
        if is_endless:
            self.gate.catch_up()
        try:
            spare = self._lend(worker, token if is_endless else None, timeout)
        finally:
            if is_endless:
                self.gate.catch_up()
        generation = self.generation
        try:
            if spare is not None and spare.thread is None:
                self._offer(spare)
            yield
        finally:
            if generation == self.generation:
                self._take_back(worker, spare)

    def _lend(
        self, worker: Worker, token: Token[Any] | None, timeout: float | None
    ) -> Worker | None:
        """Note that the worker waits, for a token if it does so without end; returns its spare.

        Raises:
            DeadlockError: the wait could never end.
        """
        lane = worker.lane
        with self._lock:
            if token is not None and self._is_stuck(token, worker, frozenset()):
                raise DeadlockError(
                    f"{token.operation} would wait for itself: the tokens wait for each other "
                    "in a ring, or for a key or permit that one of them has"
                )
            spare = self._spare_for(lane)
            if spare is not None:
                lane.spares += 1
            elif timeout is None and lane.regulars + lane.spares - lane.blocked <= 1:
                raise DeadlockError(
                    f"every worker of lane {lane.number} would wait, and all "
                    f"{self.max_spare_workers} spare workers (max_spare_workers) are lent"
                )
            worker.waits_for = token
            lane.blocked += 1
        return spare

    def _is_stuck(self, token: Token[Any], worker: Worker, path: frozenset[Token[Any]]) -> bool:
        """Whether the token can never settle while this worker waits. Called with the lock held.

        One that runs cannot if its call waits for one that cannot. One that waits cannot if another
        has its key, or if all the permits of a limit are held, and whoever has them cannot settle.
        Those on the path to it are taken to be stuck: if nothing else lets them go on, they are.
        """
        if token in path:
            return True
        path |= {token}
        host = host_of(token)
        if isinstance(host, Worker) and token.running():
            return host is worker or (
                host.waits_for is not None and self._is_stuck(host.waits_for, worker, path)
            )
        profile: object = cast("object", profile_of(token))
        if not isinstance(profile, Profile) or profile.gate is not self.gate or token.done():
            return False
        head, limits = self.gate.obstacles_of(token)
        if head is not None and self._is_stuck(head, worker, path):
            return True
        running = [one for each in self.workers for one in each.executing() if one.running()]
        for limit, used in limits:
            holders = [one for one in running if limit in profile_of(one).limits]
            # One that has come to its end since is missing: its permit will come back.
            if len(holders) >= used and all(self._is_stuck(one, worker, path) for one in holders):
                return True
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
        spare = self._new_worker(lane, is_spare=True)
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
            dismissed = self._dismiss(spare)
        for one in dismissed:
            self._see_off(one)

    def _dismiss(self, spare: Worker | None) -> list[Worker]:
        """The spare, and those who stand in for it, are not needed. Called with the lock held."""
        dismissed: list[Worker] = [] if spare is None else [spare]
        for one in dismissed:  # which grows meanwhile
            one.lane.spares -= 1
            one.leaving = True
            one.lane.blocked -= sum(is_counted for _, is_counted in one.stand_ins)
            dismissed += [stand_in for stand_in, _ in one.stand_ins if stand_in is not None]
            one.stand_ins = [(None, False)] * len(one.stand_ins)
        return dismissed

    def _see_off(self, worker: Worker) -> None:
        """End one that is to leave, at once if it is idle, else after its present call."""
        try:
            self.router.idle.remove(worker)
        except ValueError:
            return  # it is awake, and sees that it is to leave
        if worker.thread is None:
            with self._lock:
                self._note_gone(worker)
        else:
            worker.rouse()

    def _note_gone(self, worker: Worker) -> None:
        """It has left, and may be taken on again. Called with the lock held."""
        if worker.is_spare:
            self._free_spares.append(worker)
        else:
            self.retired.append(worker)  # first, as others look at the lists without the lock
            self.leavers.remove(worker)

    def may_leave(self, worker: Worker) -> bool:
        """Whether one that saw itself leaving is still to leave; then it is gone from here on."""
        with self._lock:
            # At the end it stays as long as anybody does: it may be the last that has a thread.
            if not worker.leaving or self.gate.is_ending:
                return False
            self._note_gone(worker)
        self.gate.tell_watchers()
        # It may have been roused for a token that it does not take any more: pass that on.
        self.gate.rouse_for_the_rest()
        return True

    # -- giving up --------------------------------------------------------------------------------

    def abandon(self, worker: Worker, token: Token[Any], end: Callable[[], bool]) -> bool:
        """A call runs for too long: another worker stands in, and nobody waits for this one.

        Args:
            worker: whose thread it is on.
            token: whose call it is.
            end: ends the attempt, or says that it has ended by itself. Takes the token's lock. The call
                comes back only after this, so ``come_back`` finds what is noted here.

        Returns:
            what ``end`` did. The caller then calls ``tell_ended``, when it is known what becomes of the
            token.
        """
        with self._lock:
            if not end():
                return False
            worker.abandoned += 1
            spare: Worker | None = None
            # Else its thread is not ours, or its slot is no more: nobody need stand in.
            is_counted = worker not in self.guests and not worker.leaving
            if is_counted:
                spare = self._spare_for(worker.lane)
                if spare is not None:
                    worker.lane.spares += 1
                worker.lane.blocked += 1
            worker.stand_ins.append((spare, is_counted))
            self.gate.limbo.discard(worker)
            self._give_up(worker)
        if self.gate.announce is not None:
            self.gate.announce(
                WorkerAbandoned(
                    at=perf_counter(),
                    worker=worker.number,
                    lane=worker.lane_number,
                    is_spare=worker.is_spare,
                    token_id=token.id,
                    operation=token.operation,
                )
            )
        if spare is not None and spare.thread is None:
            try:
                self._offer(spare)
            except RuntimeError:
                _LOGGER.exception("no thread to stand in for %s", self.name_of_worker(worker))
            if spare.leaving:
                self._see_off(spare)  # the call came back before we had listed it
        return True

    def give_up(self, worker: Worker) -> None:
        """On its own thread, which has come back from a call inside one that may have been cut off."""
        with self._lock:
            self._give_up(worker)
        self.tell_ended()

    def _give_up(self, worker: Worker) -> None:
        """Wait for its thread no more, unless its innermost call may go on. With the lock held."""
        current = worker.current
        if worker.thread is not None and (
            current is None or host_of(current) is not worker or was_cut_off(current)
        ):
            self._running.discard(worker.thread)

    def come_back(self, worker: Worker) -> None:
        """On its own thread: a call that was given up has come to its end after all."""
        if worker.generation != self.generation:
            return  # it has forked, and this is the child
        with self._lock:
            spare, is_counted = worker.stand_ins.pop()
            worker.abandoned -= 1
            if worker.thread is not None:
                self._running.add(worker.thread)
                if worker.abandoned and worker.outer:
                    self._running.discard(worker.thread)  # it comes back to one that was given up
        if is_counted:
            self._take_back(worker, spare)

    def note_ended(self, thread: threading.Thread) -> None:
        """The thread has nothing more to do."""
        self._running.discard(thread)
        self.tell_ended()

    def tell_ended(self) -> None:
        """Something may be over, as a thread has ended or is given up: for all who wait for that."""
        self.end_timers()
        self.gate.tell_watchers()
        self._tell_joiners()

    def _tell_joiners(self) -> None:
        for joiner in tuple(self._joiners):
            joiner.put(None)

    def end_timers(self) -> None:
        """End the timers' thread, and whatever else goes on, if nothing can happen any more.

        Takes no lock.
        """
        gate = self.gate
        if (
            gate.is_ending
            and not self._running
            and not self._is_guest_busy()
            and not gate.may_one_come_back()
            and not gate.waiting
            and not self._running  # again: what was away may have been given to one meanwhile
        ):
            gate.timers.close()
            for act in self.at_end:
                act()

    def _is_guest_busy(self) -> bool:
        """Whether a thread that is not ours runs a call, and was not given up."""
        given_up = sum(guest.abandoned > 0 for guest in self.guests.copy())
        return len(self._free_guests) + given_up < len(self.guests)

    def break_down(self) -> None:
        """An initializer failed: fail what waits, take no more."""
        self.gate.close(BROKEN)
        self.gate.closed = BROKEN
        self._fail_all(self.gate.drain_all(), self.gate.refusal())
        for token in self.gate.away.copy():
            if fail_waiting(token, self.gate.refusal()):
                self.gate.count_failed()
        self.gate.end_if_over()

    def cancel_waiting(self) -> None:
        """Cancel everything that waits; what runs is not tried again."""
        self.gate.is_final = True
        interrupt: BaseException | None = None
        away, drained = self.gate.away.copy(), self.gate.drain_all()
        for token in (*away, *drained):
            try:
                token.cancel()
            except BaseException as error:  # of a callback: the rest is cancelled all the same
                interrupt = error
        for token in drained:
            self.gate.bury_drained(token)
        self.gate.end_if_over()
        if interrupt is not None:
            try:
                raise interrupt
            finally:
                interrupt = None

    def join(self) -> None:  # noqa: C901  each case is said where it is
        """Wait for all threads but the calling one and those that were given up.

        For those, too, that start meanwhile, and for what is to be tried again.
        """
        here = threading.current_thread()
        if current_thread.guest in self.gate.limbo:
            return  # we are inside a call that is to be tried again perhaps, so nobody ends before us
        timers = self.gate.timers.thread
        if timers is not None and here is timers:
            return  # we are told of a call whose time was over, and nobody ends before we are through
        changes: SimpleQueue[None] = SimpleQueue()
        self._joiners.append(changes)
        try:
            while True:
                for starting in self._starting.copy():
                    with starting:
                        pass  # a thread was being started this moment, and now it is listed
                if self._running - {here}:
                    changes.get()
                    continue
                if self._is_one_coming():
                    # Told when it is started; or nobody will start it, as an interrupt came between.
                    with suppress(Empty):
                        changes.get(timeout=_LONGEST_START_SECONDS)
                        continue
                given_up = [worker.thread for worker in self.workers if worker.abandoned]
                for thread in self.threads:
                    if thread is not here and thread not in given_up:
                        thread.join()  # it has said that it ends
                if (
                    here in self.threads
                    or here in self._running  # about to end, and its worker is a vacancy again
                    or current_thread.guest in self.guests
                ):
                    return  # a call of ours is still to end, and the timers with it
                self.gate.timers.join()
                if not self._starting and not self._running:
                    return
        finally:
            self._joiners.remove(changes)

    def _is_one_coming(self) -> bool:
        """Whether somebody is about to start a worker: has taken it off the idle, or is to do so."""
        idle = self.router.idle.copy()
        with self._lock:
            employed = [
                *self.regulars,
                *(one for one in self.spares if one not in self._free_spares),
            ]
        return self.gate.waiting > 0 or any(
            worker.thread is None and worker not in idle for worker in employed
        )

    # -- in a forked child ------------------------------------------------------------------------

    def begin_again(self) -> None:
        """In a forked child: no thread is left but this one, and every lock may be held for ever.

        A token that was on its way from a queue to a worker is in none of the places looked at
        here. It fails when somebody waits for it: see ``Profile.left_behind``.
        """
        governor = self.gate.governor
        queued = [token for queue in self.gate.queues() for token in queue]
        queued += [] if governor is None else [token for token, _ in governor.entries()]
        queued += self.gate.away.copy()
        inherited = [token for token in queued if not token.done() and not token.running()]
        here = current_thread.host
        inherited += [
            token for worker in self.workers if worker is not here for token in worker.executing()
        ]
        for token in inherited:
            orphan(token)
        self.generation += 1
        self.gate.forked_at = perf_counter()
        self.gate.survivor = here if isinstance(here, Worker) else None
        self.gate.timers.renew()
        self.gate.renew()
        for act in self.at_fork:
            act()
        self._hire()


def make_thread(target: Callable[[], object], name: str) -> threading.Thread:
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
