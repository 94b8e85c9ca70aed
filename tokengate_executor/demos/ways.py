"""The ways to do a job, and how long it took in each.

Guarantees
    * When ``measured`` returns or raises, all threads of its executor have ended.
    * After Ctrl-C, tasks that wait for their turn never begin, and those that run end soon.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from tokengate_executor import TokenGateExecutor

from .driver import ending_early_on_error
from .measures import Spread
from .stage import PlainLoop, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokengate_executor import AffinityPolicy, ExecutorStatistics

    from .measures import Span
    from .progress import Progress
    from .stage import Task
    from .work import JsonValue

__all__ = [
    "PLAIN_LOOP",
    "THREAD_POOL",
    "WAYS",
    "Job",
    "Measured",
    "Shown",
    "Way",
    "compared",
    "measured",
    "token_gate",
]

Job: TypeAlias = "Callable[[Stage], JsonValue]"
"""It makes its calls on the stage, waits for them, and returns what they came to."""

Shown: TypeAlias = "Callable[[str, int], Progress]"
"""Makes the progress of a job, from what is being done and how many tasks that has."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do a job.

    Attributes:
        name: of it.
        make: makes its executor, for so many workers.
        more_workers: how many it needs beyond those that the others have.
    """

    name: str
    make: Callable[[int], Executor]
    more_workers: int = 0


def token_gate(*, max_pending: int | None = None) -> Way:
    """Return ours, in which so many tasks may wait; ``None``: any number."""
    # Of a run that is interrupted nobody reads what its tasks raise.
    return Way(
        TokenGateExecutor.__name__,
        partial(TokenGateExecutor, max_pending=max_pending, log_unread_exceptions=False),
    )


def _plain_loop(_workers: int) -> PlainLoop:
    return PlainLoop()


PLAIN_LOOP: Final = Way("plain loop", _plain_loop)
THREAD_POOL: Final = Way(ThreadPoolExecutor.__name__, ThreadPoolExecutor)
WAYS: Final = (PLAIN_LOOP, THREAD_POOL, token_gate())


@dataclass(frozen=True, slots=True)
class Measured:
    """A run of a job in one way.

    Attributes:
        way: its name.
        workers: how many calls might run at a time; 1 for the plain loop.
        seconds: from the beginning until the last result was taken.
        cpu_seconds: what the process's threads together computed meanwhile.
        tasks: the calls, in the order in which they were made.
        results: what the job came to.
        statistics, policy: of the executor, if it is one of ours.
    """

    way: str
    workers: int
    seconds: float
    cpu_seconds: float
    tasks: Sequence[Task]
    results: JsonValue
    statistics: ExecutorStatistics | None = None
    policy: AffinityPolicy | None = None

    @property
    def spans(self) -> list[Span]:
        """When each task began and ended."""
        return [task.span for task in self.tasks]

    @property
    def cpu_use(self) -> float:
        """How many cores the process kept busy, on average."""
        return self.cpu_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def threads(self) -> int:
        """How many threads ran tasks."""
        return len({task.thread for task in self.tasks})

    @property
    def failed(self) -> int:
        """How many tasks raised."""
        return sum(task.failed for task in self.tasks)

    def task_seconds(self) -> Spread:
        """How long the tasks took."""
        return Spread.of(task.seconds for task in self.tasks)

    def latency(self) -> Spread:
        """How long they took from when they were due."""
        return Spread.of(task.latency for task in self.tasks)

    def digest(self) -> str:
        """Return a few characters that are the same for the same results."""
        text = json.dumps(self.results, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def measured(way: Way, workers: int, job: Job, progress: Progress) -> Measured:
    """Do a job in one way.

    Raises:
        Exception: what the job raises.
    """
    workers += way.more_workers
    with ending_early_on_error(way.make(workers)) as executor:
        stage = Stage(executor, progress)
        try:
            results = job(stage)
        except BaseException:
            stage.stop()
            raise
        seconds, cpu_seconds = stage.now(), stage.cpu_seconds()
        ours = executor if isinstance(executor, TokenGateExecutor) else None
        return Measured(
            way=way.name,
            workers=1 if stage.runs_in_place else workers,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            tasks=tuple(stage.tasks),
            results=results,
            statistics=ours.statistics() if ours else None,
            policy=ours.policy if ours else None,
        )


def compared(
    job: Job,
    workers: int,
    tasks: int,
    shown: Shown,
    ways: Sequence[Way] = WAYS,
    *,
    slow: bool = False,
) -> tuple[Measured, ...]:
    """Do a job in each way.

    Args:
        job: what to do.
        workers: of each executor.
        tasks: how many the job has.
        shown: makes the progress of each way.
        ways: in which to do it, one after the other.
        slow: whether the progress is to be seen before the first task has ended.
    """
    runs: list[Measured] = []
    for way in ways:
        with shown(way.name, tasks) as progress:
            if slow:
                progress.show()
            runs.append(measured(way, workers, job, progress))
    return tuple(runs)
