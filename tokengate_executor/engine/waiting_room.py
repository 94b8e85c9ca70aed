"""The waiting room: everything that waits, and the one lock by which it changes hands.

Guarantees
    * ``post``, which says that a token is done, never waits for the lock.
    * When ``govern`` returns, no worker claims a token any more but by the governor's choice.

Assumes
    * ``append``, ``popleft``, ``copy`` and truth of a deque, ``append``, ``pop`` and ``remove`` of a
      list are atomic and take effect in one order that all threads agree on: true with the GIL, and
      what free-threaded CPython does by a lock in each of these objects.

Why no post is lost, though whoever posts does not wait for the lock: it appends and *then* tries the
lock; whoever holds that lets go of it and *then* looks for posts.

Why a token that a worker took from a mailbox cannot slip past ``govern``: the worker claims it and
*then* looks whether there is a governor. If it saw none, the claim was before ``govern`` returned. If it
sees one, it gives the token back unrun.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from heapq import nsmallest
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tokengate_executor.engine.claims import claim_in_queue, is_waiting
from tokengate_executor.engine.governor import Governor
from tokengate_executor.engine.mailboxes import Mailboxes
from tokengate_executor.engine.routes import profile_of
from tokengate_executor.engine.shells import Shells
from tokengate_executor.engine.tally import Tally
from tokengate_executor.policies.limits import STORAGE_LIMITS

if TYPE_CHECKING:
    from queue import SimpleQueue

    from tokengate_executor.engine.bounds import Bound
    from tokengate_executor.engine.lanes import Lane
    from tokengate_executor.engine.limits import Limit
    from tokengate_executor.engine.router import Router
    from tokengate_executor.engine.routes import Route
    from tokengate_executor.engine.timers import Timers
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.observe.events import Announcer
    from tokengate_executor.token import Token

__all__ = ["QueueFacts", "WaitingRoom"]

_NONE: Final[tuple[str, ...]] = ()

_LOOKS_PER_TOKEN: Final = 4
"""Many of those in a queue may be shells."""


class QueueFacts(NamedTuple):
    """What statistics tell of what waits, at one moment.

    Attributes:
        waiting: how many tokens wait, wherever they do.
        oldest: when the oldest token that waits was submitted, or ``None``.
        parked: how many tokens wait for something else than a worker.
        is_paused, paused_operations: what may not start.
        limits: those that the user named, and those of the storage tiers in use.
    """

    waiting: int
    oldest: float | None
    parked: int
    is_paused: bool
    paused_operations: tuple[str, ...]
    limits: list[Limit]


class WaitingRoom:
    """The backlogs and mailboxes, or instead of these the governor.

    Attributes:
        routes: weight → route.
        idle: the router's list of idle workers, read here.
        is_ending: nothing is accepted for good, and workers end when nothing is left.
        governor: decides who is next, if more than the order of arrival does.
        forked_at, survivor: when this process was forked, in seconds of ``time.perf_counter``, and
            the worker whose call did it: the only one of then that goes on.
        bounds: how many tokens may wait, if that is bounded.
        watchers: those who wait for all to be done, and are told when a worker may be idle.
        rejected: how many calls were refused, by reason.
        timed_out: how many tokens did not start, or not end, in time. Only the timers' thread writes
            to it.
        away: tokens that are in no queue, but will come back: they are to be tried again, or wait
            until somebody has reviewed them. Changed under each token's lock, or the room's.
        limbo: the guests that run a call whose token may be to come back, and were not given up.
        cancelled_away: an entry for each of them that was cancelled or killed there.
        failed_unrun: an entry for each token that failed without running, or without running again.
        is_final: nothing is tried again any more.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        mailbox_size: int,
        sharers: int,
        router: Router,
        *,
        limits: dict[str, Limit],
        ageing: float,
        timers: Timers,
    ) -> None:
        """``sharers``: how many workers share the backlogs."""
        self.routes: Final = {route.weight: route for route in routes}
        self.limits: Final = limits
        self.timers: Final = timers
        self.is_ending = False
        self.mailboxes: Final = Mailboxes(mailbox_size, sharers)
        self._ageing: Final = ageing
        self._rouse: Final = router.rouse
        self.idle: Final = router.idle
        self.lanes: tuple[Lane, ...] = ()
        self.bounds: tuple[Bound, ...] = ()
        self.watchers: list[SimpleQueue[None]] = []
        self._in_use: list[Route] = []
        # The crew's, which knows the workers: fail what waits when there are no threads to be had.
        self.fail_unserved: Callable[[RuntimeError], None]
        # And: end the timers' thread if no thread of a worker's is left.
        self.end_timers: Callable[[], None] = timers.close
        # What else is to be done when nothing is accepted any more. Must take no lock but a token's.
        self.at_close: list[Callable[[], None]] = []
        # Tells those who listen to what happens here; `None`: nobody does.
        self.announce: Announcer | None = None
        self.forked_at = float("-inf")
        self.survivor: Worker | None = None
        # Some options need a governor as long as the executor lives.
        self._is_governed_for_good = False
        self.renew()

    def renew(self) -> None:
        """Begin with empty queues and a free lock: at first, and in a forked child."""
        for route in self.routes.values():
            route.backlog = deque()
        self.mailboxes.renew(self.lanes)
        for limit in self.limits.values():
            limit.renew()
        self.shells = Shells()
        self.rejected = Tally()
        self.posts: deque[tuple[Token[Any], bool, bool] | None] = deque()
        self.away: set[Token[Any]] = set()
        self.limbo: set[Worker] = set()
        self.cancelled_away: deque[None] = deque()
        self.is_final = False
        self.failed_unrun: deque[None] = deque()
        # Whether posts were done since it was last looked whether that was all. Guarded by the lock.
        self._has_done_posts = False
        self.timed_out = 0
        # Guards taking out of the backlogs, putting into the mailboxes and stealing from them, the
        # own routes of the lanes, the governor and all that is in it, the limits, and of the
        # shells what they say. Putting into a backlog needs no lock, nor does a worker that pops
        # from its own lane's mailbox. Inside it only a token's lock is taken.
        self.lock = allocate_lock()
        self.governor: Governor | None = None
        if self._is_governed_for_good:
            self.govern()

    def use(self, route: Route) -> None:
        """Before the first token of a route: its lanes look into its backlog from here on. No lock."""
        if route in self._in_use:
            return
        self._in_use.append(route)
        for lane in self.lanes:
            if lane.may_run(route):
                lane.look_for(route)
        # Another submitter may have thought that this was done, and a worker have looked too early.
        self._rouse_each(one for one in self._in_use if one.backlog)

    # -- the lock -----------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """Hold the lock; afterwards do what was posted meanwhile, and rouse whom that concerns."""
        with self.lock:
            yield
            routes = self._routes_to_rouse()
            is_over = self._has_done_posts and self.is_ending and not self._is_anything_left()
            self._has_done_posts = False
        self._after_lock(routes)
        if is_over:
            self.end_idle()  # whoever posted the last of it has left that to us

    def _routes_to_rouse(self) -> list[Route]:
        """Called with the lock held."""
        governor = self.governor
        if governor is None or not governor.to_rouse:
            return []
        routes, governor.to_rouse = governor.to_rouse, []
        return routes

    def _after_lock(self, routes: list[Route]) -> None:
        """Called after the lock was let go of."""
        if routes:
            self._rouse_each(routes)
        if self.posts:
            self._tend()

    def _rouse_each(self, routes: Iterable[Route]) -> None:
        try:
            for route in routes:
                if self.idle:
                    self._rouse(route)
        except RuntimeError as error:
            self.fail_unserved(error)

    def post(self, token: Token[Any], *, held: bool, stays: bool = False) -> None:
        """A token of ordered options has run (``held``), or left the queue unrun. Never waits.

        One that ``stays`` is to be tried again, and remains the first of its key.
        """
        self.posts.append((token, held, stays))
        self._tend()

    def _tend(self) -> None:
        """Do what was posted, unless somebody else holds the lock, who then does it."""
        while self.posts and self.lock.acquire(blocking=False):
            try:
                self._sorted()
                routes = self._routes_to_rouse()
                is_over = self.is_ending and not self._is_anything_left()
            finally:
                self.lock.release()
            self._rouse_each(routes)
            if is_over:
                self.end_idle()

    def _do_posts(self) -> None:
        """Called with the lock held."""
        while self.posts:
            self._has_done_posts = True
            post = self.posts.popleft()
            if self.governor is None:
                continue
            if post is None:
                self.governor.lift_pauses()
            elif post[0].submitted_at > self.forked_at:  # else the permits went with the parent
                self.governor.finish(post[0], held=post[1], stays=post[2])

    def _sorted(self) -> Governor | None:
        """The governor, with all that has arrived and happened so far. Called with the lock held."""
        if self.posts:
            self._do_posts()
        governor = self.governor
        if governor is not None:
            for route in self._in_use:
                backlog = route.backlog
                while backlog:
                    governor.sort_in(backlog.popleft(), route)
        return governor

    # -- what is there to take ----------------------------------------------------------------------

    def has_work(self, lane: Lane) -> bool:
        """Whether ``take`` may find something; what is on the move counts for who moves it."""
        if self.governor is not None:
            with self._locked():
                governor = self._sorted()
                is_ready = governor is not None and governor.has_ready(lane)
            if governor is not None:
                self.tell_watchers()
                return is_ready
        for route in lane.routes:
            if route.backlog:
                return True
        return self.mailboxes.has_any(lane)

    def take_this(self, token: Token[Any]) -> bool:
        """Claim a queued token, for somebody who waits for it; false: it may not start now."""
        with self._locked():
            governor = self._sorted()
            taken = claim_in_queue(token) if governor is None else governor.take_this(token)
        if taken:
            profile_of(token).give_up_place(token)
        return taken

    def obstacles_of(self, token: Token[Any]) -> tuple[Token[Any] | None, list[tuple[Limit, int]]]:
        """Who has the key of a token that waits, and of which of its limits all permits are held.

        Rouses nobody and does nothing that was posted, so another lock may be held: the caller calls
        ``catch_up`` before, and again when it has let go of that lock.
        """
        with self.lock:
            governor = self.governor
            return (None, []) if governor is None else governor.obstacles_of(token)

    def catch_up(self) -> None:
        """Sort in what has arrived, do what was posted, and rouse whom that concerns."""
        if self.governor is not None:
            with self._locked():
                self._sorted()

    def is_left_for(self, lane: Lane) -> bool:
        """Whether this lane may have something to run, now or later."""
        if self.governor is None:
            # What comes back is queued before it is off this list: so look here first.
            return self.may_one_come_back() or self.has_work(lane)
        with self._locked():
            self._sorted()
            return self._is_anything_left()

    def may_one_come_back(self) -> bool:
        """Whether a token may be queued again."""
        return bool(self.limbo or self.away)  # in this order: from limbo they go away

    def _is_anything_left(self) -> bool:
        """Whether a token waits at the governor's, or will. Called with the lock held."""
        if self.may_one_come_back():
            return True
        governor = self.governor
        return governor is not None and any(is_waiting(token) for token, _ in governor.entries())

    # -- the governor -------------------------------------------------------------------------------

    def govern(self, *, for_good: bool = False) -> None:
        """From here on the governor chooses. ``for_good``: for options that stay in use."""
        if self.governor is not None and self._is_governed_for_good:
            return  # it stays so, and who says so again need not wait for the lock
        with self._locked():
            self._is_governed_for_good |= for_good
            if self.governor is None:
                self._begin_to_govern()

    def _begin_to_govern(self) -> None:
        """Called with the lock held."""
        self.governor = governor = Governor(
            ageing=self._ageing,
            limits=self.limits,
            bury=self.shells.bury_here,
            call_at=self._call_at,
            now=perf_counter,
        )
        for token, route in self.mailboxes.empty():
            governor.sort_in(token, route)

    def _ungovern(self) -> None:
        """Back to the order of arrival, if nothing needs more. Called with the lock held."""
        governor = self.governor
        if (
            governor is None
            or self._is_governed_for_good
            or governor.is_paused
            or governor.paused_operations
            or self.watchers  # who are told by workers that ask the governor
        ):
            return
        for token, route in reversed(governor.clear()):
            route.backlog.appendleft(token)
        self.governor = None

    def _call_at(self, when: float, action: Callable[[], object]) -> None:
        def act() -> None:
            with self._locked():
                action()

        self.timers.set(when, act)

    @contextmanager
    def steering(self) -> Generator[Governor, None, None]:
        """The governor, in order, for a verb that steers; afterwards only if it is still needed."""
        with self._locked():
            if self.governor is None:
                self._begin_to_govern()
            governor = self._sorted()
            assert governor is not None
            yield governor
            governor.to_rouse += governor.ready_routes()
            routes = self._routes_to_rouse()
            self._ungovern()
        self._rouse_each(routes)

    # -- looking after the queues -------------------------------------------------------------------

    def compact(self) -> None:
        """Drop the shells of the backlogs, once they are many; FIFO is kept."""
        if not self.lock.acquire(blocking=False):
            return  # Somebody takes or compacts; the next cancel tries again.
        try:
            kept = 0
            for route in self.routes.values():
                backlog = route.backlog
                waiting: list[Token[Any]] = []
                # Only we take; what is appended meanwhile stays behind what we put back.
                for _ in range(len(backlog)):
                    token = backlog.popleft()
                    if is_waiting(token):
                        waiting.append(token)
                    else:
                        self.shells.bury_here(token)
                backlog.extendleft(reversed(waiting))
                kept += len(waiting)
            if self.governor is not None:
                self.governor.drop_shells()
                kept += self.governor.size
            self.shells.note_kept(kept)
            routes = self._routes_to_rouse()
        finally:
            self.lock.release()
        self._after_lock(routes)
        self.rouse_for_the_rest()

    def rouse_for_the_rest(self) -> None:
        """Rouse a worker for each queue in which something is left."""
        if self.governor is not None:
            with self._locked():
                governor = self._sorted()
                if governor is not None:
                    governor.to_rouse += governor.ready_routes()
        self._rouse_each(route for route in self.routes.values() if route.backlog)
        self._rouse_each(lane.mailbox_route for lane in self.lanes if lane.mailbox)

    def tell_watchers(self) -> None:
        """A worker may be idle, or a token has left unrun: for who waits for all to be done."""
        for watcher in tuple(self.watchers):
            watcher.put(None)

    def end_idle(self) -> None:
        """Rouse all that are idle, to see that nothing can come any more. Takes no lock."""
        if self.may_one_come_back():
            return  # whoever ends the last of them comes here again
        for worker in self.idle.copy():
            if _is_vacant(worker):
                continue  # a vacancy: who comes back from being away may still need it
            try:
                self.idle.remove(worker)
            except ValueError:
                continue  # roused by somebody else
            if _is_vacant(worker):
                self.idle.insert(0, worker)  # it has ended meanwhile, for having been idle so long
            else:
                worker.rouse()
        self.end_timers()

    # -- emptying them ------------------------------------------------------------------------------

    def queues(self) -> list[deque[Token[Any]]]:
        """All queues but the governor's."""
        return [
            *(route.backlog for route in self.routes.values()),
            *(lane.mailbox for lane in self.lanes),
        ]

    def drain(self, queues: list[deque[Token[Any]]]) -> list[Token[Any]]:
        """Take everything out of the queues, in order, for the caller to settle."""
        with self._locked():
            drained: list[Token[Any]] = []
            for queue in queues:
                while queue:
                    try:
                        drained.append(queue.popleft())
                    except IndexError:
                        break
            return drained

    def drain_all(self) -> list[Token[Any]]:
        """Take everything out, for the caller to settle."""
        drained: list[Token[Any]] = []
        with self._locked():
            governor = self._sorted()
            if governor is not None:
                drained += [token for token, _ in governor.clear()]
        return drained + self.drain(self.queues())

    def bury_drained(self, token: Token[Any]) -> None:
        """Account for a shell that was taken out by ``drain``."""
        with self._locked():
            self.shells.bury_here(token)

    def bury_failed(self, token: Token[Any]) -> None:
        """Account for one that was taken out by ``drain`` and failed."""
        self.bury_drained(token)
        self.count_failed()

    def count_failed(self) -> None:
        """Account for one that failed unrun. Takes no lock."""
        self.failed_unrun.append(None)

    # -- what is in them ----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many tokens wait, wherever they do; with the lock held, never too many."""
        # Against the stream, and what is to be taken off before what it is in.
        shells = len(self.shells)
        governor = self.governor
        queued = 0 if governor is None else governor.size
        queued += sum(len(lane.mailbox) for lane in self.lanes)
        queued += sum(len(route.backlog) for route in self.routes.values())
        return max(0, queued - shells)

    def waiting_tokens(self) -> list[Token[Any]]:
        """Everything that waits, a moment ago."""
        with self._locked():
            found = [token for queue in self.queues() for token in queue.copy()]
            if self.governor is not None:
                found += [token for token, _ in self.governor.entries()]
        return [token for token in found if is_waiting(token)]

    def first_waiting(self, most: int) -> list[Token[Any]]:
        """Some of those that wait, from the heads of the queues, a moment ago."""
        looked_at = min(_LOOKS_PER_TOKEN * most, sys.maxsize)
        with self._locked():
            governor = self._sorted()
            found = [token for queue in self.queues() for token in _head(queue, looked_at)]
            if governor is not None:
                found += [token for token, _ in islice(governor.entries(), looked_at)]
        waiting = (token for token in dict.fromkeys(found) if is_waiting(token))
        return nsmallest(most, waiting, key=lambda token: token.submitted_at)

    def facts(self) -> QueueFacts:
        """What statistics tell of the queues, at one moment."""
        with self._locked():
            governor = self._sorted()
            waiting = self.waiting
            first = [queue[0] for queue in (queue.copy() for queue in self.queues()) if queue]
            entries: list[tuple[Any, ...]] = []
            if governor is None:
                parked, is_paused, operations = 0, False, _NONE
            else:
                entries = governor.copy_of_entries()
                parked, is_paused = governor.parked(), governor.is_paused
                operations = tuple(governor.paused_operations)
            limits = [
                limit
                for limit in self.limits.values()
                if limit.name not in STORAGE_LIMITS or limit.used or len(limit)
            ]
        # Without the lock, as they may be many.
        first += [token for *_, token, _ in entries]
        oldest = min((token.submitted_at for token in first if is_waiting(token)), default=None)
        return QueueFacts(waiting, oldest, parked, is_paused, operations, limits)


def _head(queue: deque[Token[Any]], most: int) -> Generator[Token[Any], None, None]:
    """The first of the queue, to which others append, and from which some pop, meanwhile."""
    for index in range(most):
        try:
            yield queue[index]
        except IndexError:
            return


def _is_vacant(worker: Worker) -> bool:
    """Whether rousing it starts a thread, a moment ago."""
    return worker.thread is None
