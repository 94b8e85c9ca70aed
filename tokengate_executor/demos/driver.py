"""Run the corpus job through any executor, with a bounded number of calls in flight."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from .text import describe_error, escaped_path
from .work import NOT_PYTHON, WORKS, JsonObject, Weight

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from .scan import CorpusFile

TASKS_IN_FLIGHT: Final = 256
"""How many submitted calls may be unread at once; also the most workers that are of use."""

_ExecutorT = TypeVar("_ExecutorT", bound=Executor)


class Submit(Protocol):
    """Hand one call of the given weight to an executor."""

    def __call__(
        self, weight: Weight, function: Callable[[str], JsonObject], path: str, /
    ) -> Future[JsonObject]:
        """Return the future of ``function(path)``."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One executor's way through the job.

    Attributes:
        executor: name of the executor's class.
        seconds: from making the executor until the last result was taken.
        cpu_seconds: what the process's threads together computed meanwhile.
        tasks: number of calls.
        rows: one for each file.
    """

    executor: str
    seconds: float
    cpu_seconds: float
    tasks: int
    rows: list[JsonObject]

    @property
    def tasks_per_second(self) -> float:
        """How many calls were finished per second."""
        return self.tasks / self.seconds if self.seconds > 0 else 0.0


def count_tasks(files: Iterable[CorpusFile]) -> int:
    """Return how many calls ``run_job`` submits for ``files``."""
    return sum(work.suits(file.path) for file in files for work in WORKS)


def run_job(
    files: Iterable[CorpusFile],
    submit: Submit,
    *,
    on_task_done: Callable[[], object] = lambda: None,
    tasks_in_flight: int = TASKS_IN_FLIGHT,
) -> list[JsonObject]:
    """Do all work for all files and return one row for each file, in the order of ``files``.

    A call that fails leaves a description of its error in the row and stops nothing.

    Results are taken in the order of submission. That costs one lock per result, where
    ``wait(..., FIRST_COMPLETED)`` looks at every call in flight each time and would measure itself,
    and ``as_completed`` wants all calls at the start. A slow call at the head keeps new ones back,
    but only while all the others in flight have finished before it, which takes a call about as
    long as ``tasks_in_flight`` usual ones.

    Args:
        files: taken one at a time, as places in flight become free.
        submit: hands a call to the executor.
        on_task_done: called in this thread after each result was taken.
        tasks_in_flight: the most submitted calls whose results have not been taken.
    """
    rows: list[JsonObject] = []
    in_flight: deque[tuple[JsonObject, Weight, Future[JsonObject]]] = deque()

    def take_oldest() -> None:
        row, weight, future = in_flight.popleft()
        try:
            row[weight] = future.result()
        except Exception as error:  # every way to fail is a row
            row[weight] = {"error": {**describe_error(error)}}
        finally:
            # The future holds the error, whose traceback holds this frame: break the ring.
            del future
        on_task_done()

    for file in files:
        row = _new_row(file)
        rows.append(row)
        for work in WORKS:
            if not work.suits(file.path):
                row[work.weight] = {"skipped": NOT_PYTHON}
                continue
            while len(in_flight) >= tasks_in_flight:
                take_oldest()
            # The place is taken first, so that the row's order is the same whenever results come.
            row[work.weight] = None
            in_flight.append((row, work.weight, submit(work.weight, work.function, file.path)))
    while in_flight:
        take_oldest()
    return rows


@contextmanager
def ending_early_on_error(executor: _ExecutorT) -> Generator[_ExecutorT, None, None]:
    """Shut ``executor`` down; after an error or Ctrl-C, without the calls that still wait."""
    try:
        yield executor
    except BaseException:
        executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


def _new_row(file: CorpusFile) -> JsonObject:
    row: JsonObject = {"path": escaped_path(file.relative_path)}
    name = os.fsencode(file.relative_path)
    if row["path"] != name.decode("utf-8", "surrogateescape"):
        # Two names may look the same once escaped; their bytes tell them apart.
        row["path_bytes_hex"] = name.hex()
    return row
