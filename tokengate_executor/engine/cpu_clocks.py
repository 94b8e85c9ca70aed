"""How much CPU time the worker threads have used.

Guarantees
    * ``note`` and ``seconds`` take no lock and never wait.
    * A thread that has ended, or is about to, is never asked: each tells its clock while it runs.

Assumes
    * Setting, popping and copying a dict are atomic: true with the GIL, and what free-threaded CPython
      does by a lock in each dict.
    * The clock of a thread that has ended gives an error, or stands still; where the system has no such
      clocks, nearly all that the process does is done by its workers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["CpuClocks"]

_clock_of: Final[Callable[[int], int] | None] = getattr(time, "pthread_getcpuclockid", None)


class CpuClocks:
    """The CPU clocks of one executor's threads, where the system has them.

    Attributes:
        is_exact: whether each thread has its own clock. If not, the whole process is measured.
    """

    def __init__(self) -> None:
        self.is_exact: Final = _clock_of is not None
        self.renew()

    def renew(self) -> None:
        """Begin without threads: at first, and in a forked child."""
        # Thread → its clock, and how far that was when it was read last.
        self._clocks: dict[threading.Thread, tuple[int, float]] = {}
        self._process = time.process_time()

    def note(self) -> None:
        """From here on the calling thread counts."""
        if _clock_of is not None:
            clock = _clock_of(threading.get_ident())
            self._clocks[threading.current_thread()] = clock, time.clock_gettime(clock)

    def seconds(self) -> float:
        """CPU time that was used since this was asked for the last time."""
        if not self.is_exact:
            before, self._process = self._process, time.process_time()
            return self._process - before
        used = 0.0
        for thread, (clock, before) in self._clocks.copy().items():
            try:
                after = time.clock_gettime(clock)
            except OSError:
                after = before
            if thread.is_alive():
                self._clocks[thread] = clock, after
            else:
                self._clocks.pop(thread, None)  # its clock may become another thread's
            used += max(0.0, after - before)
        return used
