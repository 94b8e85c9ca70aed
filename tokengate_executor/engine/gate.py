"""The gate: where every token waits until a lane takes it.

Guarantees
    * ``admit`` takes no lock, so it may be called from a signal handler, from ``__del__`` in the
      middle of another ``admit``, from a callback.
    * First in, first out within a lane for tokens of equal weight, whatever cancels meanwhile.
    * A token that was admitted before the gate closed is taken by some worker.

Assumes
    * ``append``, ``popleft``, ``copy`` and truth of a deque, ``append``, ``pop`` and ``remove`` of a
      list are atomic and take effect in one order that all threads agree on: true with the GIL, and
      what free-threaded CPython does by a lock in each of these objects.

Why no wake-up is lost: ``admit`` appends the token and *then* looks for an idle worker. A worker
lists itself as idle and *then* looks for tokens (``has_work``). Whichever came second sees the other.
A worker that moves tokens from one queue to another holds them out of sight for a moment, and another
may go idle in it: so whoever leaves tokens behind looks for an idle worker afterwards, too.

Why tokens wait here and not in the shortest mailbox: see ``docs/decisions/0002``.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures.thread import BrokenThreadPool
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.claims import claim, is_waiting, withdraw
from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.engine.lanes import Lane
    from tokengate_executor.engine.router import Router
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.policies.weights import Weight
    from tokengate_executor.token import Token

__all__ = ["Gate", "Profile", "Refusal", "Route"]

Refusal = tuple[type[RuntimeError], str]
"""Which exception a closed gate answers with."""

AFTER_SHUTDOWN: Final[Refusal] = (RuntimeError, "cannot schedule new futures after shutdown")
AFTER_EXIT: Final[Refusal] = (
    RuntimeError,
    "cannot schedule new futures after interpreter shutdown",
)
BROKEN: Final[Refusal] = (
    BrokenThreadPool,
    "A thread initializer failed, the thread pool is not usable anymore",
)

_COMPACT_AT_LEAST: Final = 64

_WAITING: Final = TokenState.WAITING
_EXECUTING: Final = TokenState.EXECUTING


class Route:
    """The backlog of one weight, and the lanes that may take from it.

    Attributes:
        index: which of the workers' counters by weight is this route's.
        rank: lane number → its place in the policy's order of preference, from 0; ``None`` for
            unweighted tokens, to which all lanes are equal.
    """

    __slots__ = ("backlog", "index", "rank", "weight")

    def __init__(self, index: int, weight: Weight | None, lanes: tuple[int, ...] | None) -> None:
        self.index = index
        self.weight: Weight | None = weight
        self.rank = None if lanes is None else {lane: rank for rank, lane in enumerate(lanes)}
        self.backlog: deque[Token[Any]] = deque()


class Profile:
    """The options of a call, resolved once: what a token keeps of the executor that took it."""

    __slots__ = ("gate", "log_unread_exceptions", "operation", "route", "weight", "weight_index")

    def __init__(
        self, gate: Gate, route: Route, operation: str | None, log_unread_exceptions: bool
    ) -> None:
        self.gate = gate
        self.route = route
        self.weight: Weight | None = route.weight
        self.weight_index = route.index
        self.operation = operation
        self.log_unread_exceptions = log_unread_exceptions

    def left_queue(self, *, cancelled: bool) -> None:
        """See ``token.Profile``."""
        gate = self.gate
        (gate.cancelled_shells if cancelled else gate.claimed_shells).append(None)

    def make_room(self) -> None:
        """See ``token.Profile``."""
        gate = self.gate
        if len(gate.cancelled_shells) >= gate.compact_at:
            gate.compact()

    def left_behind(self, submitted_at: float, host: object) -> bool:
        """See ``token.Profile``."""
        gate = self.gate
        return submitted_at < gate.forked_at and (host is None or host is not gate.survivor)


class Gate:
    """The backlogs, and whether the executor takes calls at all.

    Attributes:
        routes: weight → route.
        idle: the router's list of idle workers, read here.
        closed: why no more calls are taken, or ``None``. Written once, before the workers are told.
        forked_at, survivor: when this process was forked, in seconds of ``time.perf_counter``, and
            the worker whose call did it: the only one of then that goes on.
        filled: the lanes whose mailboxes may have something in them.
        cancelled_shells, claimed_shells: an entry for each token that stopped waiting while it was
            in a queue: by ``cancel``, or because somebody claimed it there. Their lengths are
            counters that can be changed in any thread without a lock.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        mailbox_size: int,
        sharers: int,
        router: Router,
    ) -> None:
        """``sharers``: how many workers share the backlogs."""
        self.routes: Final = {route.weight: route for route in routes}
        self.closed: Refusal | None = None
        self.mailbox_size: Final = mailbox_size
        self._batch_divisor: Final = 2 * sharers
        self._rouse: Final = router.rouse
        self.idle: Final = router.idle
        self.lanes: tuple[Lane, ...] = ()
        self._in_use: set[Route] = set()
        # The crew's, which knows the workers: fail what waits when there are no threads to be had.
        self.fail_unserved: Callable[[RuntimeError], None]
        self.forked_at = float("-inf")
        self.survivor: Worker | None = None
        self.renew()

    def renew(self) -> None:
        """Begin with empty queues and a free lock: at first, and in a forked child."""
        for route in self.routes.values():
            route.backlog = deque()
        for lane in self.lanes:
            lane.mailbox = deque()
        self.filled: tuple[Lane, ...] = ()
        self.cancelled_shells: deque[None] = deque()
        self.claimed_shells: deque[None] = deque()
        self.compact_at = _COMPACT_AT_LEAST
        self.cancelled_and_gone = 0
        self.failed_unstarted = 0
        # Guards taking out of the backlogs, putting into the mailboxes and stealing from them,
        # filled, the lanes' routes, compact_at, cancelled_and_gone and failed_unstarted. Putting into
        # a backlog needs no lock, nor does a worker that pops from its own lane's mailbox.
        self.lock = allocate_lock()

    def use(self, route: Route) -> None:
        """Before the first token of a route: its lanes look into its backlog from here on."""
        with self.lock:
            if route in self._in_use:
                return
            self._in_use.add(route)
            for lane in self.lanes:
                if route.rank is None or lane.number in route.rank:
                    lane.routes = (*lane.routes, route)

    # -- in ---------------------------------------------------------------------------------------

    def admit(self, token: Token[Any], route: Route) -> None:
        """Queue the token and rouse a worker for it, if one is idle. Takes no lock.

        Raises:
            RuntimeError: the gate is closed, or no thread can be started and none could serve it.
        """
        token._phase = _WAITING  # nobody else sees it yet
        route.backlog.append(token)
        if self.idle:
            try:
                self._rouse(route)
            except RuntimeError as error:
                taken_back = withdraw(token)
                self.fail_unserved(error)
                if taken_back:
                    raise
        # Closed between the caller's look and our append: the last worker may be gone. If one has
        # claimed the token all the same, it was in time.
        if self.closed is not None and withdraw(token):
            raise self.refusal()

    def refusal(self) -> RuntimeError:
        """What a closed gate answers."""
        kind, text = self.closed or AFTER_SHUTDOWN
        return kind(text)

    # -- out --------------------------------------------------------------------------------------

    def take(self, worker: Worker) -> Token[Any] | None:
        """The next token, claimed for this worker, or ``None``.

        From its lane's mailbox; else the oldest that waits at the gate for this lane, and with it
        a share of those behind it for the mailbox; else the first of another lane's mailbox.

        The mailbox is filled only when it is empty and from one backlog: its tokens are of one
        route, and what is older than they are has been taken before them.
        """
        mailbox = worker.lane.mailbox
        while mailbox:
            try:
                token = mailbox.popleft()
            except IndexError:
                break  # another worker was quicker
            # `claim`, written out: most calls come this way.
            lock = token._lock
            lock.acquire()
            if token._phase is _WAITING:
                token._phase = _EXECUTING
                lock.release()
                return token
            lock.release()
            if self.bury(token):
                worker.cancelled += 1
        return self._take_from_gate(worker)

    def _take_from_gate(self, worker: Worker) -> Token[Any] | None:
        lane = worker.lane
        while self.has_work(lane):
            lock = self.lock
            lock.acquire()
            try:
                route = self._oldest(lane)
                if lane.mailbox:  # filled meanwhile, for another worker of this lane
                    token, left = self._steal_from(lane)
                elif route is None:
                    token, left = self._steal(lane)
                else:
                    token, left = self._take_share(lane, route)
            finally:
                lock.release()
            if left is not None and self.idle:
                self._rouse(left)
            if token is None:
                continue
            if claim(token):
                return token
            if self.bury(token):
                worker.cancelled += 1
        return None

    def _oldest(self, lane: Lane) -> Route | None:
        """The route whose first token has waited longest, of those that this lane may run."""
        oldest: Route | None = None
        submitted_at = 0.0
        for route in lane.routes:
            backlog = route.backlog
            if backlog and (oldest is None or backlog[0].submitted_at < submitted_at):
                oldest = route
                submitted_at = backlog[0].submitted_at
        return oldest

    def _take_share(self, lane: Lane, route: Route) -> tuple[Token[Any], Route | None]:
        """The first token, and in the mailbox this lane's share of the rest; whether any is there.

        The share is small against what every worker could have, so that no lane holds tokens which
        another would have begun sooner; what it holds all the same can be stolen.
        """
        backlog = route.backlog
        token = backlog.popleft()
        share = min(len(backlog) // self._batch_divisor, self.mailbox_size)
        mailbox = lane.mailbox
        lane.mailbox_route = route
        for _ in range(share):
            follower = backlog.popleft()
            follower._lane = lane.number  # harmless if it was cancelled meanwhile
            mailbox.append(follower)
        if share and lane not in self.filled:
            self.filled = (*self.filled, lane)
        return token, route if share else None

    def _steal(self, lane: Lane) -> tuple[Token[Any] | None, Route | None]:
        """The first token of another lane's mailbox; what is left behind it is of the same route."""
        for other in self.filled:
            if not other.mailbox:  # only we fill it, so it stays empty until we have the lock again
                self.filled = tuple(one for one in self.filled if one is not other)
            elif other.mailbox_route in lane.routes:
                token, left = self._steal_from(other)
                if token is not None:
                    lane.stolen += 1
                    return token, left
        return None, None

    def _steal_from(self, lane: Lane) -> tuple[Token[Any] | None, Route | None]:
        mailbox = lane.mailbox
        try:
            return mailbox.popleft(), lane.mailbox_route if mailbox else None
        except IndexError:
            return None, None  # its own workers emptied it

    def has_work(self, lane: Lane) -> bool:
        """Whether ``take`` would find something; what is on the move counts for who moves it."""
        for route in lane.routes:
            if route.backlog:
                return True
        for other in self.filled:  # noqa: SIM110  a generator would take twice as long
            if other.mailbox and other.mailbox_route in lane.routes:
                return True
        return False

    # -- shells: tokens in a queue that no longer wait ---------------------------------------------

    def bury(self, token: Token[Any]) -> bool:
        """A worker met a token that it could not claim; whether it was a cancelled one."""
        cancelled = token.cancelled()
        shells = self.cancelled_shells if cancelled else self.claimed_shells
        shells.pop()
        return cancelled

    def compact(self) -> None:
        """Drop the shells of the backlogs, once they are many; FIFO is kept.

        Amortised: the next time comes when there are as many new shells as tokens were looked at.
        """
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
                    elif self.bury(token):
                        self.cancelled_and_gone += 1
                backlog.extendleft(reversed(waiting))
                kept += len(waiting)
            self.compact_at = max(_COMPACT_AT_LEAST, kept, 2 * len(self.cancelled_shells))
        finally:
            self.lock.release()
        self.rouse_for_the_rest()

    def rouse_for_the_rest(self) -> None:
        """Rouse a worker for each queue in which something is left."""
        try:
            for route in self.routes.values():
                if route.backlog and self.idle:
                    self._rouse(route)
            for lane in self.lanes:
                if lane.mailbox and self.idle:
                    self._rouse(lane.mailbox_route)
        except RuntimeError as error:
            self.fail_unserved(error)

    def drain(self, queues: list[deque[Token[Any]]]) -> list[Token[Any]]:
        """Take everything out of the queues, in order, for the caller to settle."""
        with self.lock:
            drained: list[Token[Any]] = []
            for queue in queues:
                while queue:
                    try:
                        drained.append(queue.popleft())
                    except IndexError:
                        break
        return drained

    def bury_drained(self, token: Token[Any]) -> None:
        """Account for a shell that was taken out by ``drain``."""
        if self.bury(token):
            with self.lock:
                self.cancelled_and_gone += 1

    def count_failed_unstarted(self) -> None:
        """Account for a token that was taken out by ``drain`` and failed."""
        with self.lock:
            self.failed_unstarted += 1

    def queues(self) -> list[deque[Token[Any]]]:
        """All queues, for whoever knows that nobody else uses them."""
        return [
            *(route.backlog for route in self.routes.values()),
            *(lane.mailbox for lane in self.lanes),
        ]

    # -- what is in it ------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many tokens wait, in the backlogs and the mailboxes together."""
        shells = len(self.cancelled_shells) + len(self.claimed_shells)
        queued = sum(len(route.backlog) for route in self.routes.values())
        return max(0, queued + sum(len(lane.mailbox) for lane in self.lanes) - shells)
