"""Those who wait for a token, and what happens when the one who waits is a worker.

A worker that blocked for a token of its own executor would take away the thread that the token may
need. So a token that blocks its caller asks ``current_thread.host`` first: a worker registers itself
there, and runs the token in place or has a spare worker lent for as long as it blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures._base import CANCELLED_AND_NOTIFIED
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.lifecycle import TokenState

if TYPE_CHECKING:
    from tokengate_executor.contracts import Host
    from tokengate_executor.token import Token

__all__ = ["Audience", "Callback", "Waiters", "current_thread", "current_token", "process"]

Callback = Callable[[Any], object]


class _CurrentThread(threading.local):
    """What the thread that looks at it is to us.

    Attributes:
        host: the worker whose thread it is.
        guest: whose counters it has been lent, while it runs a token though it is no worker.
        interrupt: of a listener, inside such a token's attempt; it goes on when that has ended.
    """

    host: Host | None = None
    guest: Host | None = None
    interrupt: KeyboardInterrupt | None = None


current_thread: Final = _CurrentThread()


def current_token() -> Token[Any] | None:
    """The token whose call this thread runs; ``None`` outside of calls.

    A long call asks it whether it should go on: ``current_token().checkpoint()`` raises
    ``TokenKilledError`` once somebody has killed the token, and ``kill_requested`` tells it.
    """
    host = current_thread.guest or current_thread.host
    return None if host is None else host.current


class _Process:
    """What tokens need to know of the process they are in."""

    is_forked = False
    """Whether it came by ``fork`` from one that had executors, and may hold tokens of theirs."""

    def __init__(self) -> None:
        self.renew_locks()

    def renew_locks(self) -> None:
        """At first, and in a forked child: threads that do not exist there may hold the old ones."""
        # Guards the numbering of tokens that are asked for their id before they start:
        # itertools.count does not promise to be atomic without the GIL.
        # One that a finaliser may take again which runs inside it, as that may submit.
        self.early_ids_lock = threading.RLock()


process: Final = _Process()


class _LendingEvent(threading.Event):
    """The event of a waiter that a worker's call made by ``wait`` or ``as_completed``."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def wait(self, timeout: float | None = None) -> bool:
        if self.is_set():
            return True
        with self._host.lending(None, timeout):
            return super().wait(timeout)


class Waiters(list[Any]):
    """The list that ``concurrent.futures.wait`` and ``as_completed`` append their waiter to.

    They append with every token's lock held, so no token can settle and nobody has set the waiter's
    event: that is the moment when it may still be exchanged for one that lends a spare worker.
    """

    __slots__ = ()

    def append(self, waiter: Any, /) -> None:
        """Add a waiter; it lends its worker's place while it waits."""
        host = current_thread.host
        if host is not None and type(waiter.event) is threading.Event:
            waiter.event = _LendingEvent(host)
        super().append(waiter)


class Audience:
    """Those who wait for one token; made when the first of them comes. Guarded by the token's lock.

    Attributes:
        callbacks: to be called once the token is settled.
        sleepers: locks, held, each with one thread asleep on it; releasing it wakes the thread.
        waiters: those of the standard library, which stay until they take themselves away.
    """

    __slots__ = ("callbacks", "sleepers", "waiters")

    def __init__(self, callbacks: list[Callback] | None = None) -> None:
        self.callbacks: list[Callback] = [] if callbacks is None else callbacks
        self.sleepers: list[Any] | None = None
        self.waiters: Waiters | None = None

    def tell(self, token: Token[Any], state: TokenState) -> Sequence[Callback]:
        """Wake everybody; returns the callbacks, which are to be run without the lock.

        A waiter takes its own lock or its event's inside the token's, never the other way round; it
        is the standard library's order too, and no waiter calls back.
        """
        if self.waiters is not None:
            for waiter in self.waiters:
                if state is TokenState.COMPLETED:
                    waiter.add_result(token)
                elif state.future_state is CANCELLED_AND_NOTIFIED:
                    waiter.add_cancelled(token)
                else:
                    waiter.add_exception(token)
        if self.sleepers is not None:
            for sleeper in self.sleepers:
                sleeper.release()
            self.sleepers = None
        callbacks = self.callbacks
        if not callbacks:
            return ()
        self.callbacks = []
        return callbacks
