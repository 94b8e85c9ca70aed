"""The runs of coordinators, and which of them a call is for: ``run_here``.

A run is one life of a coordinator, from a start to its stop.

Guarantees
    * ``run_here`` finds one run, or raises at once. It never waits for a start.
    * ``run_here`` and ``CoordinatorRuns.end`` take no lock, so signal handlers and finalisers may call
      them.
    * Nothing here holds a run that was ended, nor its coordinator.

Assumes
    * Setting an item of a dict, ``pop`` and ``copy`` are atomic: true with the GIL, and what
      free-threaded CPython does by a lock in each dict.

Why no ended run stays on the list: ``begin`` lists a run *before* it is the coordinator's, and ``end``
takes the coordinator's run off the list, whichever it is. Whoever finds a run that is ended before the
call is submitted is refused by the run's gate, and looks again.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from tokengate_executor.engine.gate import BROKEN, Gate
from tokengate_executor.engine.workers import Worker
from tokengate_executor.errors import CoordinatorNotRunningError
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.options import TaskOptions
from tokengate_executor.view import ExecutorView
from tokengate_executor.waiting import current_thread

__all__ = ["CoordinatorRuns", "Run", "run_here"]


class Run:
    """One life of a coordinator.

    Attributes:
        executor: that runs its calls.
        is_stopped: whether the coordinator was told to stop.
    """

    __slots__ = ("_views", "executor", "is_stopped")

    def __init__(self, executor: TokenGateExecutor) -> None:
        self.executor: Final = executor
        self.is_stopped = False
        self._views: dict[TaskOptions, ExecutorView] = {}

    @property
    def gate(self) -> Gate:
        """The executor's."""
        return self.executor.gate

    @property
    def is_alive(self) -> bool:
        """Whether it was neither stopped nor shut down, nor broken by a failed initializer."""
        return not self.is_stopped and not self.gate.is_ending

    @property
    def takes_calls(self) -> bool:
        """Whether calls are for it: also for a broken one, whose executor says what is wrong."""
        return not self.is_stopped and (not self.gate.is_ending or self.gate.closed is BROKEN)

    def view(self, options: TaskOptions) -> ExecutorView:
        """The executor with these options.

        Raises:
            InvalidOptionError: a limit has no such name.
        """
        view = self._views.get(options)
        if view is None:
            view = self._views[options] = ExecutorView(self.executor, options)
        return view


class CoordinatorRuns:
    """The runs of one coordinator, one after the other.

    Attributes:
        last: the present run, or the last one; ``None``: there was none.
    """

    def __init__(self) -> None:
        self.last: Run | None = None
        self._reference: Final[weakref.ref[CoordinatorRuns]] = weakref.ref(self)
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """Have a free lock: at first, and in a forked child."""
        # Guards the making of a run, so that one at a time is made. A signal handler or finaliser may
        # take it again inside.
        self._lock = threading.RLock()

    def begin(self, make: Callable[[], TokenGateExecutor]) -> None:
        """Have a run that is alive; calls from this context are for it from here on."""
        with self._lock:
            before = self.last
            if before is None or not before.is_alive:
                run = Run(make())
                if self.last is before:
                    _homes[run.gate] = self._reference
                    _started[run.gate] = self
                    self.last = run
                else:  # a signal handler was quicker
                    run.executor.shutdown(wait=False)
                if before is not None:
                    _started.pop(before.gate, None)
        _were_some.append(None)
        others = (one for one in _started_here.get() if one is not self._reference)
        _started_here.set((*(one for one in others if one() is not None), self._reference))

    def end(self) -> Run | None:
        """No call is for the last run from here on; its executor is still to be shut down."""
        run = self.last
        if run is not None:
            run.is_stopped = True
            _started.pop(run.gate, None)
        return run


# The runs that were begun and not ended, by their gates, in the order of their beginnings.
_started: Final[dict[Gate, CoordinatorRuns]] = {}
# The coordinators of all runs, also of ended ones, whose last calls may still make others.
_homes: Final[weakref.WeakKeyDictionary[Gate, weakref.ref[CoordinatorRuns]]] = (
    weakref.WeakKeyDictionary()
)
# The coordinators that were started in this context, the last one last.
_started_here: Final[ContextVar[tuple[weakref.ref[CoordinatorRuns], ...]]] = ContextVar(
    "tokengate_coordinators", default=()
)
_all: Final[weakref.WeakSet[CoordinatorRuns]] = weakref.WeakSet()
_were_some: Final[deque[None]] = deque(maxlen=1)
"""Not empty once there was a run in this process."""


def run_here(operation: str) -> Run:
    """The run that a call is for.

    On the threads of a coordinator, that coordinator's. Elsewhere that of the coordinator which was
    started last in this context, of those that run; if there is none, of the one started last in this
    process.

    Args:
        operation: the name under which the call would be counted.

    Raises:
        CoordinatorNotRunningError: there is none.
    """
    worker = current_thread.guest or current_thread.host
    home = _homes.get(worker.crew.gate) if isinstance(worker, Worker) else None
    if home is not None:
        run = _open_run_of(home())
        if run is None:
            raise CoordinatorNotRunningError(operation, True)
        return run
    for reference in reversed(_started_here.get()):
        run = _open_run_of(reference())
        if run is not None:
            return run
    for gate, runs in reversed(_started.copy().items()):
        run = runs.last
        if run is not None and run.gate is gate:
            if run.takes_calls:
                return run
            _started.pop(gate, None)  # its executor was shut down, not the coordinator
    raise CoordinatorNotRunningError(operation, bool(_were_some))


def _open_run_of(runs: CoordinatorRuns | None) -> Run | None:
    run = None if runs is None else runs.last
    return run if run is not None and run.takes_calls else None


def _begin_again() -> None:
    """In a forked child, where coordinators go on with executors that begin afresh."""
    for runs in _all:
        runs.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)
