"""The gate: whether and how a token comes in, and which one a worker takes.

Guarantees
    * ``admit`` takes no lock, so it may be called from a signal handler, from ``__del__`` in the
      middle of another ``admit``, from a callback.
    * A token that was admitted before the gate closed is taken by some worker.

Assumes
    * As ``engine.waiting_room``.

Why no wake-up is lost: ``admit`` appends the token and *then* looks for an idle worker. A worker
lists itself as idle and *then* looks for tokens (``has_work``). Whichever came second sees the other.
A worker that moves tokens from one queue to another holds them out of sight for a moment, and another
may go idle in it: so whoever leaves tokens behind looks for an idle worker afterwards, too.

Why tokens wait here and not in the shortest mailbox: see ``docs/decisions/0002``.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from concurrent.futures.thread import BrokenThreadPool
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.claims import (
    bring_back,
    claim,
    expire,
    fail_waiting,
    is_waiting,
    unclaim,
    withdraw,
)
from tokengate_executor.engine.routes import profile_of
from tokengate_executor.engine.waiting_room import WaitingRoom
from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokengate_executor.engine.bounds import Waiter
    from tokengate_executor.engine.routes import Route
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.token import Token

__all__ = ["AFTER_DRAIN", "AFTER_EXIT", "AFTER_SHUTDOWN", "BROKEN", "Gate", "Refusal"]

Refusal = tuple[type[RuntimeError], str]
"""Which exception a closed gate answers with."""

AFTER_SHUTDOWN: Final[Refusal] = (RuntimeError, "cannot schedule new futures after shutdown")
AFTER_EXIT: Final[Refusal] = (
    RuntimeError,
    "cannot schedule new futures after interpreter shutdown",
)
AFTER_DRAIN: Final[Refusal] = (
    RuntimeError,
    "cannot schedule new futures while the executor is drained: resume() opens it again",
)
BROKEN: Final[Refusal] = (
    BrokenThreadPool,
    "A thread initializer failed, the thread pool is not usable anymore",
)

_WAITING: Final = TokenState.WAITING
_EXECUTING: Final = TokenState.EXECUTING


class Gate(WaitingRoom):
    """Lets tokens in as long as it is open, and hands them to workers.

    Attributes:
        closed: why no more calls are taken, or ``None``.
    """

    closed: Refusal | None = None
    # The crew's, which knows the workers: whether the calling thread is one of them.
    is_own_worker: Callable[[], bool]

    # -- in -----------------------------------------------------------------------------------------

    def admit(self, token: Token[Any], route: Route) -> None:
        """Queue the token and rouse a worker for it, if one is idle. Takes no lock.

        Raises:
            RuntimeError: the gate is closed, or no thread can be started and none could serve it.
        """
        token._phase = _WAITING  # nobody else sees it yet
        route.backlog.append(token)
        # Closed between the caller's look and our append: nobody may come to it. If a worker has claimed
        # it all the same, it was in time. Closed from here on: whoever ends looks for it before.
        if self.closed is not None and self.is_refusing():
            refusal = self.refusal()
            if withdraw(token, refusal):
                raise refusal
            return
        if self.idle:
            try:
                self._rouse(route)
            except RuntimeError as error:
                taken_back = withdraw(token, error)
                self.fail_unserved(error)
                if taken_back:
                    raise

    def admit_timed(self, token: Token[Any], route: Route) -> None:
        """As ``admit``, for a token that is to start within a time."""
        self.admit(token, route)
        self.set_deadline(token)

    def set_deadline(self, token: Token[Any]) -> None:
        """End the token when its time is over and it still waits. Nothing here keeps it alive."""
        reference = weakref.ref(token)

        def end() -> None:
            late = reference()
            if late is not None and expire(late):
                self.timed_out += 1

        def is_moot() -> bool:
            waits = reference()
            return waits is None or not is_waiting(waits)

        timeout = profile_of(token).queue_timeout
        self.timers.set(token.submitted_at + (timeout or 0.0), end, is_moot)

    def readmit(self, token: Token[Any]) -> bool:
        """Queue a token that was away before all that wait; false: it has been settled meanwhile.

        It passes bounds and closed gates: it was let in long ago.
        """
        route = profile_of(token).route
        with self._locked():
            if not bring_back(token):
                return False
            if self.governor is not None or not self.mailboxes.put_first(token, route):
                route.backlog.appendleft(token)
            self.away.discard(token)
        self._rouse_each([route])
        if self.closed is BROKEN and fail_waiting(token, self.refusal()):
            self.count_failed()  # nobody is left to take it
        return True

    def admit_entered(self, token: Token[Any], route: Route) -> None:
        """``admit`` a token that has its place already."""
        self.admit(token, route)

    def admit_entered_timed(self, token: Token[Any], route: Route) -> None:
        """As ``admit_entered``, for a token that is to start within a time."""
        self.admit_entered(token, route)
        self.set_deadline(token)

    def enter_or_list(self, route: Route, waiter: Waiter, *, again: bool) -> bool:  # noqa: ARG002
        """Have a place for a token, or list the waiter until one may be free; here all is room."""
        return True

    # -- out ----------------------------------------------------------------------------------------

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
            worker.current = token
            # `claim`, written out: most calls come this way.
            lock = token._lock
            lock.acquire()
            if token._phase is _WAITING:
                token._phase = _EXECUTING
                lock.release()
                if self.governor is None:
                    return token
                self._give_back(token)
                worker.current = None
                break
            lock.release()
            worker.current = None
            if self.shells.bury(token):
                worker.cancelled += 1
        return self._take_from_gate(worker)

    def _give_back(self, token: Token[Any]) -> None:
        with self._locked():
            unclaim(token)
            profile_of(token).route.backlog.appendleft(token)

    def _take_from_gate(self, worker: Worker) -> Token[Any] | None:
        lane = worker.lane
        while self.governor is None:
            if not self.has_work(lane):
                return None
            token: Token[Any] | None = None
            left: Route | None = None
            lock = self.lock
            lock.acquire()
            try:
                if self.governor is None:
                    token, left = self.mailboxes.take(lane)
                    worker.current = token
                    if token is not None and not claim(token):
                        self.shells.bury_here(token)
                        worker.current = token = None
            finally:
                lock.release()
            if left is not None and self.idle:
                self._rouse(left)
            if token is not None:
                return token
        return self._take_governed(worker)

    def _take_governed(self, worker: Worker) -> Token[Any] | None:
        token = None
        is_over = False
        lock = self.lock
        lock.acquire()
        try:
            governor = self._sorted()
            if governor is not None:
                worker.current = token = governor.take(worker.lane)
                is_over = self.is_ending and not self._is_anything_left()
            routes = self._routes_to_rouse()
        finally:
            lock.release()
        if routes or self.posts:
            self._after_lock(routes)
        if is_over:
            self.end_idle()
        return token

    # -- open and closed ----------------------------------------------------------------------------

    def check_open(self) -> None:
        """For a submitter who saw that the gate is closed.

        Raises:
            RuntimeError: it is closed for this thread, too.
        """
        if self.is_refusing():
            raise self.refusal()

    def is_refusing(self) -> bool:
        """Whether this thread may submit nothing. While we drain, the calls that run still may."""
        return self.closed is not None and not (self.closed is AFTER_DRAIN and self.is_own_worker())

    def refusal(self) -> RuntimeError:
        """What a closed gate answers."""
        kind, text = self.closed or AFTER_SHUTDOWN
        return kind(text)

    @property
    def is_draining(self) -> bool:
        """Whether it is closed until ``resume``."""
        return self.closed is AFTER_DRAIN

    def close(self, refusal: Refusal) -> None:
        """Take no more calls; workers end when nothing is left. Takes no lock: also a finaliser's.

        What is paused goes on, as nobody could resume it and its tokens are to be settled.
        """
        if not self.is_ending:
            self.closed = refusal
            self.is_ending = True
        for bound in self.bounds:
            bound.wake_all()
        for act in self.at_close:
            act()
        self.end_if_over()

    def end_if_over(self) -> None:
        """The gate is closed, and something has left it: see whether the workers may end."""
        if self.governor is None:
            self.end_idle()
        else:
            self.posts.append(None)
            self._tend()
