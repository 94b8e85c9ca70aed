"""Timers: calls that are made at a moment, by one thread that sleeps until the next of them.

Guarantees
    * ``set`` takes no lock of ours and never waits: it may be called wherever ``submit`` may.
    * A timer is made once, not before its moment.

Assumes
    * ``queue.SimpleQueue.put`` may interrupt itself (documented: it is reentrant).

The thread starts with the first timer, or before. It ends when ``close`` is called; what is set then is
dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Final

__all__ = ["Agenda", "Timers"]

_SWEEP_AT_LEAST: Final = 1024
_LONGEST_SLEEP_SECONDS: Final = 3600.0

Action = Callable[[], object]
IsMoot = Callable[[], bool]


class Agenda:
    """What is to be done when: the timers' pure half, for one thread.

    An entry whose ``is_moot`` says so is dropped some time before its moment: the agenda is swept
    whenever it has twice as many entries as the last sweep left.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Action, IsMoot]] = []
        self._number = 0
        self._sweep_at = _SWEEP_AT_LEAST

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, when: float, action: Action, is_moot: IsMoot) -> None:
        """At that moment, the action; those of one moment in the order in which they came."""
        self._number += 1
        heappush(self._entries, (when, self._number, action, is_moot))
        if len(self._entries) >= self._sweep_at:
            self._entries = [entry for entry in self._entries if not entry[3]()]
            heapify(self._entries)
            self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._entries))

    def next_at(self) -> float | None:
        """The moment of the next entry."""
        return self._entries[0][0] if self._entries else None

    def due(self, now: float) -> Action | None:
        """Takes out one action whose moment has come."""
        if self._entries and self._entries[0][0] <= now:
            return heappop(self._entries)[2]
        return None


class Timers:
    """The agenda and its thread."""

    def __init__(self, name: str, make_thread: Callable[[Action, str], threading.Thread]) -> None:
        self._name = name
        self._make_thread = make_thread
        self.renew()

    def renew(self) -> None:
        """Begin without timers and without a thread: at first, and in a forked child."""
        self._posted: SimpleQueue[tuple[float, Action, IsMoot] | None] = SimpleQueue()
        # Its one item is for whoever starts the thread. Taking it out is atomic and takes no lock.
        self._unstarted = [None]
        self.thread: threading.Thread | None = None

    def set(self, when: float, action: Action, is_moot: IsMoot = bool) -> None:
        """Make the call at that moment, in seconds of ``time.perf_counter``, on the timers' thread.

        Args:
            when: the moment; one that is past is now.
            action: must neither raise nor wait.
            is_moot: whether the action would do nothing any more.

        Raises:
            RuntimeError: the system gives no thread.
        """
        self._posted.put((when, action, is_moot))
        self.start()

    def start(self) -> None:
        """Start the thread, if nobody has: before there is no good way to say that there is none.

        Raises:
            RuntimeError: the system gives no thread.
        """
        try:
            self._unstarted.pop()
        except IndexError:
            return
        thread = self._make_thread(self._run, f"{self._name}_timers")
        try:
            thread.start()
        except RuntimeError:
            self._unstarted.append(None)
            raise
        self.thread = thread

    def close(self) -> None:
        """End the thread, at once if it sleeps. Takes no lock."""
        self._posted.put(None)

    def join(self) -> None:
        """Wait for the thread that was closed, unless it is the calling one."""
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        agenda = Agenda()
        while True:
            next_at = agenda.next_at()
            wait = None if next_at is None else next_at - perf_counter()
            try:
                if wait is None:
                    posted = self._posted.get()
                else:
                    posted = self._posted.get(timeout=min(max(wait, 0.0), _LONGEST_SLEEP_SECONDS))
            except Empty:
                pass
            else:
                if posted is None:
                    return
                agenda.add(*posted)
            while (action := agenda.due(perf_counter())) is not None:
                action()
            action = None
