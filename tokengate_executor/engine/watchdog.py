"""The watchdog: it looks at calls that may run too long, when the first of them may have.

Guarantees
    * A call is looked at when its moment has come, not before, and soon after it.
    * A call that ends in time costs an attribute, and no timer of its own.

Assumes
    * As ``engine.timers``. Reading and writing ``next_look`` is atomic.

Why no moment is missed: ``mind`` writes the token's moment and *then* reads ``next_look``. ``_look``
sets that to never and *then* reads the tokens' moments, and sets a timer for the nearest. Whichever came
second sees the other. Two that set a timer at once each set their own: one look too many does no harm.
"""

# The engine is the token's other half; users see only the class.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import faulthandler
import logging
import re
from math import inf
from tempfile import TemporaryFile
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.engine.claims import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tokengate_executor.engine.timers import Timers
    from tokengate_executor.engine.workers import Worker
    from tokengate_executor.token import Token

__all__ = ["Watchdog", "live_stack"]

_LOGGER: Final = logging.getLogger("tokengate_executor")

_HEADER: Final = re.compile(r"(?:Current thread|Thread) 0x(?P<ident>[0-9a-f]+)\b")


class Watchdog:
    """Looks after the calls of one executor that are to be looked after.

    Attributes:
        next_look: when it will look next, in seconds of ``time.perf_counter``.
    """

    def __init__(
        self,
        timers: Timers,
        workers: Callable[[], Iterable[Worker]],
        look_after: Callable[[Worker, Token[Any], float], float],
    ) -> None:
        """``look_after``: whose moment has come; returns when to look at that one again."""
        self._timers = timers
        self._workers = workers
        self._look_after = look_after
        self.renew()

    def renew(self) -> None:
        """Nothing is minded: at first, and in a forked child."""
        self.next_look = inf
        # The moments for which a look has set a timer that is still to come: of the timers' thread.
        self._set_by_looks: set[float] = set()

    def mind(self, token: Token[Any], when: float) -> None:
        """Look at this token, which runs now, at that moment. Takes no lock."""
        token._look_at = when
        if when < self.next_look:
            self.next_look = when
            self._timers.set(when, self._look)

    def _look_again(self, when: float) -> None:
        """On the timers' thread. Not two timers for a moment: each would set one for the next."""
        self.next_look = when
        if when not in self._set_by_looks:
            self._set_by_looks.add(when)
            self._timers.set(when, lambda: self._look_at(when))

    def _look_at(self, when: float) -> None:
        self._set_by_looks.discard(when)
        self._look()

    def _look(self) -> None:
        """On the timers' thread."""
        self.next_look = inf
        now = perf_counter()
        nearest = inf
        for worker in self._workers():
            for token in worker.executing():
                if host_of(token) is not worker:
                    continue  # its attempt here was given up, or has not begun
                started_at = token.started_at
                when: float = getattr(token, "_look_at", inf)
                if when <= now:
                    try:
                        when = self._look_after(worker, token, now)
                    except BaseException:
                        _LOGGER.exception("cannot look after %s", token.operation)
                        when = inf
                    token._look_at = when
                    if token.started_at != started_at:
                        # Tried again meanwhile, and perhaps minded just before we wrote.
                        token._look_at = when = now
                nearest = min(nearest, when)
        if nearest < self.next_look:
            self._look_again(nearest)


def live_stack(worker: Worker) -> str:
    """Where the worker's thread is now, the most recent call first; no values of variables.

    By `faulthandler`, which goes through the frames of a running thread in one go. Python code that does
    so is interrupted between two of them, while the thread goes on, and that can crash CPython 3.11.
    """
    thread = worker.thread
    if thread is None or thread.ident is None:
        return "(no stack)\n"
    try:
        with TemporaryFile("w+", encoding="utf-8", errors="replace") as dump:
            faulthandler.dump_traceback(dump, all_threads=True)
            dump.seek(0)
            return _part_of(thread.ident, dump)
    except OSError:
        return "(no stack: there is no room for a temporary file)\n"


def _part_of(ident: int, dump: Iterable[str]) -> str:
    """One thread's part of a dump of all."""
    stack: list[str] = []
    is_here = False
    for line in dump:
        header = _HEADER.match(line)
        if header is not None:
            is_here = int(header["ident"], 16) == ident
        elif is_here and line.strip():
            stack.append(line)
    return "".join(stack) or "(no stack)\n"
