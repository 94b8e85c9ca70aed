"""The ways to do a job: that they do the same, what is measured, and how they are interrupted."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tokengate_executor import TaskOptions
from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.stage import Call, Stage, Task
from tokengate_executor.demos.ways import (
    PLAIN_LOOP,
    THREAD_POOL,
    WAYS,
    Measured,
    Way,
    compared,
    measured,
    token_gate,
)

if TYPE_CHECKING:
    from tokengate_executor.demos.work import JsonValue

OURS = WAYS[-1]


def silent(label: str, total: int) -> Progress:
    """Return a progress that nobody sees."""
    return Progress(None, label, total)


def square(_stage: Stage, number: int) -> int:
    """Return the square."""
    return number * number


def hold_until(_stage: Stage, release: threading.Event) -> bool:
    """Wait."""
    return release.wait(30)


def squares(stage: Stage) -> JsonValue:
    """Do a job of five calls."""
    calls = [Call(square, (number,), TaskOptions(operation="square")) for number in range(5)]
    return [stage.result_of(future) for future in [stage.submit(call) for call in calls]]


def test_all_ways_come_to_the_same() -> None:
    """The results, and their digest; each run is measured."""
    runs = compared(squares, 3, 5, silent)
    assert [run.way for run in runs] == ["plain loop", "ThreadPoolExecutor", "TokenGateExecutor"]
    assert [run.workers for run in runs] == [1, 3, 3]
    for run in runs:
        assert run.results == [0, 1, 4, 9, 16]
        assert run.digest() == runs[0].digest()
        assert len(run.tasks) == len(run.spans) == 5
        assert 0 < max(task.ended for task in run.tasks) <= run.seconds
        assert run.cpu_seconds > 0
        assert 1 <= run.threads <= run.workers
        assert run.failed == 0
        assert run.task_seconds().total <= run.latency().total
    assert [run.statistics is not None for run in runs] == [False, False, True]
    assert [run.policy is not None for run in runs] == [False, False, True]


def test_other_results_have_another_digest() -> None:
    """However small the difference is."""
    one, other = (
        measured(PLAIN_LOOP, 1, lambda _stage, number=number: [1, number], silent("", 0))
        for number in (2, 3)
    )
    assert one.digest() != other.digest()


def test_more_workers() -> None:
    """A way may need more than the others, and says so."""
    way = Way("generous", THREAD_POOL.make, more_workers=4)
    assert measured(way, 2, squares, silent("", 5)).workers == 6


def test_a_bound() -> None:
    """So many may wait in our executor; then ``submit`` does."""
    release = threading.Event()
    submitted: list[float] = []

    def job(stage: Stage) -> None:
        held = Call(hold_until, (release,), TaskOptions())
        first = stage.submit(held)
        while not stage.tasks[0].started:
            stage.wait(0.001)
        second = stage.submit(held)
        threading.Timer(0.05, release.set).start()
        third = stage.submit(held)
        submitted.extend((stage.now(), float(release.is_set())))
        for future in (first, second, third):
            stage.result_of(future)

    measured(token_gate(max_pending=1), 1, job, silent("", 3))
    assert submitted[1], "the third call had to wait for a place"


def test_cpu_use() -> None:
    """CPU seconds over wall time; nothing is divided by zero."""

    def run(seconds: float) -> Measured:
        return Measured("a", 1, seconds, 3.0, (), None)

    assert run(2.0).cpu_use == 1.5
    assert run(0.0).cpu_use == 0.0


def test_failures_are_counted() -> None:
    """By what the tasks say."""
    call = Call(square, (1,), TaskOptions())
    tasks = [Task(call, 0.0, 0.0, failed=failed) for failed in (True, False, True)]
    assert Measured("a", 1, 1.0, 1.0, tasks, None).failed == 2


@pytest.mark.parametrize("way", WAYS)
def test_an_interruption_ends_a_run_at_once(way: Way) -> None:
    """Tasks that wait for their turn never begin, those that run end, and no thread is left."""
    began = time.monotonic()

    def hold(stage: Stage) -> None:
        if stage.runs_in_place:
            raise KeyboardInterrupt
        stage.wait(600)

    def job(stage: Stage) -> None:
        for _ in range(20):
            stage.submit(Call(hold, (), TaskOptions()))
        while sum(task.started > 0 for task in stage.tasks) < 2:
            stage.wait(0.001)
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        measured(way, 2, job, silent("", 20))
    assert set(threading.enumerate()) <= before
    assert time.monotonic() - began < 20


def test_progress_of_each_way() -> None:
    """A slow one is seen before its first task has ended; and it is closed in the end."""
    stream = io.StringIO()
    made: list[str] = []

    def shown(label: str, total: int) -> Progress:
        made.append(label)
        return Progress(stream, label, total, after=600)

    compared(squares, 2, 5, shown, (PLAIN_LOOP, OURS))
    assert stream.getvalue() == ""
    compared(squares, 2, 5, shown, (PLAIN_LOOP, OURS), slow=True)
    assert made == 2 * [PLAIN_LOOP.name, OURS.name]
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  0% plain loop 0/5"
    assert lines[-1] == "100% TokenGateExecutor 5/5"
