"""A tally: how often something happened, by reason, counted from any thread without a lock.

Assumes
    * ``append`` and ``popleft`` of a deque are atomic: true with the GIL, and what free-threaded CPython
      does by a lock in each deque.

What was added is appended; whoever asks, or adds when much has come together, folds it into the counts
under the lock. Who adds never waits: if the lock is taken, somebody folds already.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import Counter, deque
from contextlib import suppress
from typing import Final

__all__ = ["Tally"]

_MUCH: Final = 1024


class Tally:
    """Counts by reason."""

    __slots__ = ("_counts", "_lock", "_new")

    def __init__(self) -> None:
        self._new: deque[str] = deque()
        # Guards _counts.
        self._lock = allocate_lock()
        self._counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """It happened once more. Never waits."""
        self._new.append(reason)
        if len(self._new) >= _MUCH and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def counts(self) -> dict[str, int]:
        """How often it happened so far, by reason. No number is ever less than before."""
        with self._lock:
            self._fold()
            return dict(self._counts)

    def _fold(self) -> None:
        """Called with the lock held, by which only we take."""
        with suppress(IndexError):
            for _ in range(len(self._new)):
                self._counts[self._new.popleft()] += 1
