"""Bounds: how many tokens may wait, and who waits for one of their places.

Guarantees
    * There are never more tokens inside than places, not for a moment.
    * ``try_enter`` and ``leave`` take no lock: they may be called wherever ``submit`` may.
    * A place that is free while somebody waits for one wakes somebody.

Assumes
    * As in ``engine.gate``: ``append``, ``pop`` and ``remove`` of a deque are atomic, in one order.

Why no wake-up is lost: ``leave`` frees the place and *then* looks for somebody who waits. Whoever waits
lists itself and *then* tries once more. Whichever came second sees the other. One who is woken and
finds the place taken by a newcomer lists itself again, in front.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

__all__ = ["Bound", "Waiter"]


class Waiter(Protocol):
    """Somebody who waits for a place: a lock that is held, or what wakes a coroutine."""

    def release(self) -> object:
        """Wake it up. Called once for each time that it was listed. ``False``: it has gone away."""
        ...


class Bound:
    """So many places for tokens that wait."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.renew()

    def renew(self) -> None:
        """Begin with all places free: at first, and in a forked child."""
        # One item for each free place: a counter that can be changed in any thread without a lock.
        self._free: deque[None] = deque([None] * self.size)
        self._waiters: deque[Waiter] = deque()

    @property
    def pending(self) -> int:
        """How many places are taken."""
        return self.size - len(self._free)

    @property
    def waiters(self) -> int:
        """How many wait for a place."""
        return len(self._waiters)

    def try_enter(self) -> bool:
        """Take a place, if one is free."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def leave(self) -> None:
        """Free a place, and wake one who waits for it."""
        self._free.append(None)
        self._wake_one()

    def enter_or_list(self, waiter: Waiter, *, again: bool) -> bool:
        """Take a place, or list the waiter, in front if it was listed before; true: it has a place.

        One that is listed is woken by its ``release``, and is then listed no more.
        """
        if self.try_enter():
            return True
        (self._waiters.appendleft if again else self._waiters.append)(waiter)
        if not self._free or not self.try_enter():
            return False
        if not self.withdraw(waiter):
            self.pass_on()  # it was woken meanwhile, for a place that it does not need
        return True

    def withdraw(self, waiter: Waiter) -> bool:
        """It waits no more; false: it has been woken, and has to pass that on or use it."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def pass_on(self) -> None:
        """One that was woken does not use the place: wake another, if there is a place."""
        if self._free:
            self._wake_one()

    def wake_all(self) -> None:
        """Everybody who waits is to see that there is nothing to wait for."""
        while self._wake_one():
            pass

    def _wake_one(self) -> bool:
        while True:
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                return False
            if waiter.release() is not False:
                return True
