"""Where a job makes its calls, and what each of these did when.

A job is a function that gets a ``Stage``. What that does with the calls depends on its executor: the
plain loop runs each where it is made, the others on a thread of theirs.

Guarantees
    * Once a stage is stopped, tasks end with ``StoppedError`` when they next ask it.

Assumes
    * Tasks ask ``check`` every few milliseconds, and wait by ``wait`` only.
    * Progress is shown by the thread that made the stage.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from typing_extensions import override

from tokengate_executor import ExecutorView, TaskOptions, TokenGateExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .measures import Span
    from .progress import Progress
    from .work import JsonValue

__all__ = ["Call", "PlainLoop", "Stage", "StoppedError", "Task"]

P = ParamSpec("P")
T = TypeVar("T")

_BEAT: Final = 0.1
"""Seconds after which whoever waits for a task looks at the progress."""


class StoppedError(Exception):
    """The run that the task belongs to has been interrupted."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a job.

    Attributes:
        function: called with the stage first, then with the arguments. What it returns depends on these
            alone.
        arguments: the others.
        options: for ``TokenGateExecutor``; the operation among them names the call in reports.
    """

    function: Callable[..., JsonValue]
    arguments: tuple[Any, ...]
    options: TaskOptions

    @property
    def operation(self) -> str:
        """The name of what is called."""
        return self.options.operation or self.function.__name__


@dataclass(slots=True, eq=False)
class Task:
    """A call that was made; its times are in seconds since the run began.

    Attributes:
        call: what is called.
        due: when it was to begin, had there been a worker for it.
        submitted, accepted: when it was handed over, and when the way had taken it: the caller could
            go on then.
        started, ended: when it ran; 0 as long as it has not.
        thread: by which the system knows the thread that ran it.
        failed: whether it raised.
    """

    call: Call
    due: float
    submitted: float
    accepted: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    thread: int = 0
    failed: bool = False

    @property
    def span(self) -> Span:
        """When it began and ended."""
        return self.started, self.ended

    @property
    def seconds(self) -> float:
        """How long it took, from its start to its end."""
        return self.ended - self.started

    @property
    def latency(self) -> float:
        """How long it took from when it was due to its end."""
        return self.ended - self.due


class PlainLoop(Executor):
    """Runs each call at once, in the thread that makes it."""

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return a future that is settled already; what is no ``Exception`` is raised here."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # it is the future's, as in any executor
            future.set_exception(error)
        return future


class Stage:
    """Where a job makes its calls: one way, one run.

    Args:
        executor: that runs them.
        progress: told of each task that has ended.

    Attributes:
        tasks: all calls that were made, in that order.
    """

    def __init__(self, executor: Executor, progress: Progress) -> None:
        self.tasks: list[Task] = []
        self._executor = executor
        self._progress = progress
        self._home = threading.get_ident()
        self._ended: list[None] = []  # appended to by every thread; its length is what counts
        self._shown = 0
        self._stopped = threading.Event()
        self._views: dict[TaskOptions, Executor] = {}
        self.begin()

    def begin(self) -> None:
        """Begin to measure now: what came before was preparation."""
        self._began = perf_counter()
        self._cpu_began = process_time()

    def now(self) -> float:
        """Seconds since it began."""
        return perf_counter() - self._began

    def cpu_seconds(self) -> float:
        """What all threads of the process together have computed since it began."""
        return process_time() - self._cpu_began

    @property
    def runs_in_place(self) -> bool:
        """Whether a call has ended when ``submit`` returns."""
        return isinstance(self._executor, PlainLoop)

    @property
    def keeps_keys_in_order(self) -> bool:
        """Whether calls with the same ``key`` run one after the other, in the order of submission."""
        return self.runs_in_place or isinstance(self._executor, TokenGateExecutor)

    def submit(self, call: Call, due: float | None = None) -> Future[JsonValue]:
        """Have a call run.

        Args:
            call: what to run.
            due: when it was to begin; ``None``: now.
        """
        now = self.now()
        task = Task(call, now if due is None else due, now)
        self.tasks.append(task)
        future = self._door(call.options).submit(self._run, task)
        task.accepted = self.now()
        return future

    def run_here(self, call: Call) -> JsonValue:
        """Run a call as a part of the one that runs here, and note it as a task of its own."""
        now = self.now()
        task = Task(call, now, now, now)
        self.tasks.append(task)
        return self._run(task)

    def submit_plain(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have something run that is no task of the job's, but runs some by ``run_here``."""
        return self._executor.submit(fn, *args, **kwargs)

    def result_of(self, future: Future[T]) -> T:
        """Wait for a future's result, and show the progress meanwhile.

        Raises:
            Exception: what the call raised.
        """
        self.wait_for(future)
        return future.result()

    def wait_for(self, future: Future[Any], seconds: float = math.inf) -> None:
        """Wait until a future is done, but not longer than so many seconds; show the progress."""
        until = self.now() + seconds
        while not future.done() and (left := until - self.now()) > 0:
            wait((future,), min(left, _BEAT))
            self._show()
        self._show()

    def wait_until(self, moment: float) -> None:
        """Wait until so many seconds after the beginning; show the progress meanwhile."""
        while (left := moment - self.now()) > 0:
            self.wait(min(left, _BEAT))
            self._show()

    def stop(self) -> None:
        """Let the tasks end that run."""
        self._stopped.set()

    # -- for tasks ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise ``StoppedError`` if the run has been interrupted."""
        if self._stopped.is_set():
            raise StoppedError

    def wait(self, seconds: float) -> None:
        """Wait without computing.

        Raises:
            StoppedError: the run has been interrupted.
        """
        if self._stopped.wait(seconds):
            raise StoppedError

    # -- within -------------------------------------------------------------------------------------

    def _door(self, options: TaskOptions) -> Executor:
        if not isinstance(self._executor, TokenGateExecutor):
            return self._executor
        view = self._views.get(options)
        if view is None:
            # Two threads may make one each; that is a waste, and no fault.
            view = self._views[options] = ExecutorView(self._executor, options)
        return view

    def _run(self, task: Task) -> JsonValue:
        task.thread = threading.get_native_id()
        task.started = self.now()
        try:
            return task.call.function(self, *task.call.arguments)
        except BaseException:
            task.failed = True
            raise
        finally:
            task.ended = self.now()
            self._ended.append(None)
            if threading.get_ident() == self._home:
                self._show()

    def _show(self) -> None:
        while self._shown < len(self._ended):
            self._shown += 1
            self._progress.advance()
