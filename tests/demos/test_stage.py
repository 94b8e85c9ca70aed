"""Where a job makes its calls: what is noted of them, and how they are stopped."""

from __future__ import annotations

import io
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor import TaskOptions, TokenGateExecutor
from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.stage import Call, PlainLoop, Stage, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokengate_executor.policies.weights import Weight

EXECUTORS = (PlainLoop, lambda: ThreadPoolExecutor(2), lambda: TokenGateExecutor(2))


def stage_on(executor: Executor, stream: io.StringIO | None = None, total: int = 1) -> Stage:
    """Return a stage that shows progress to the stream, if there is one."""
    return Stage(executor, Progress(stream, "work", total))


def call_of(function: Callable[..., Any], *arguments: Any, weight: Weight | None = None) -> Call:
    """Return a call; what is not said is not important."""
    return Call(function, arguments, TaskOptions(operation=f"work.{weight}", weight=weight))


def double(_stage: Stage, number: int) -> int:
    """Return twice the number."""
    return 2 * number


def fail(_stage: Stage) -> None:
    """Raise."""
    raise KeyError("no such thing")


# -- the plain loop -----------------------------------------------------------------------------------


def test_the_plain_loop_runs_a_call_where_it_is_made() -> None:
    """When ``submit`` returns the future is done."""
    with PlainLoop() as loop:
        future = loop.submit(threading.get_ident)
        assert future.done()
        assert future.result() == threading.get_ident()
        failed = loop.submit(int, "x")
        assert isinstance(failed.exception(), ValueError)


def test_ctrl_c_leaves_the_plain_loop() -> None:
    """It is no result of a call."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PlainLoop().submit(interrupt)


# -- tasks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", EXECUTORS)
def test_what_is_noted_of_a_task(make: Callable[[], Executor]) -> None:
    """When it was due, submitted, started and ended, by which thread, and that it did not fail."""
    with make() as executor:
        stage = stage_on(executor)
        assert stage.result_of(stage.submit(call_of(double, 4), due=-1.0)) == 8
        (task,) = stage.tasks
        assert -1.0 == task.due < 0 <= task.submitted <= task.started <= task.ended <= stage.now()
        assert task.submitted <= task.accepted <= stage.now()
        assert task.latency == pytest.approx(task.seconds + task.started - task.due)
        assert task.span == (task.started, task.ended)
        assert not task.failed
        here = threading.get_native_id()
        assert (task.thread == here) == stage.runs_in_place
        assert task.call.operation == "work.None"


@pytest.mark.parametrize("make", EXECUTORS)
def test_what_a_task_raises(make: Callable[[], Executor]) -> None:
    """Who waits for it gets it, and it is noted."""
    with make() as executor:
        stage = stage_on(executor)
        with pytest.raises(KeyError, match="no such thing"):
            stage.result_of(stage.submit(call_of(fail)))
        (task,) = stage.tasks
        assert task.failed
        assert task.ended >= task.started > 0


def test_without_a_moment_a_task_is_due_when_it_is_submitted() -> None:
    """Which is now."""
    stage = stage_on(PlainLoop())
    stage.submit(call_of(double, 1))
    (task,) = stage.tasks
    assert task.due == task.submitted


def test_a_call_without_an_operation() -> None:
    """It has the name of its function."""
    assert Call(double, (1,), TaskOptions()).operation == "double"


def test_options_reach_our_executor() -> None:
    """Each call has its own."""
    with TokenGateExecutor(2) as executor:
        stage = stage_on(executor)
        weights: tuple[Weight, ...] = ("light", "heavy", "light")
        for weight in weights:
            stage.result_of(stage.submit(call_of(double, 1, weight=weight)))
        assert [(one.operation, one.weight) for one in executor.history()] == [
            ("work.light", "light"),
            ("work.heavy", "heavy"),
            ("work.light", "light"),
        ]


def test_begin_anew() -> None:
    """What came before was preparation."""
    stage = stage_on(PlainLoop())
    while stage.now() < 0.01 or stage.cpu_seconds() < 0.001:
        sum(range(1000))
    before = stage.now()
    stage.begin()
    assert stage.now() < before


def test_run_here() -> None:
    """A part of a task is a task, too, on the same thread; what has it run is none."""
    with ThreadPoolExecutor(1) as executor:
        stage = stage_on(executor)

        def run_two() -> int:
            assert stage.run_here(call_of(double, 1)) == 2
            stage.run_here(call_of(double, 2))
            return threading.get_native_id()

        thread = stage.result_of(stage.submit_plain(run_two))
        assert [task.thread for task in stage.tasks] == [thread, thread]


@pytest.mark.parametrize(
    ("make", "in_place", "in_order"),
    list(zip(EXECUTORS, (True, False, False), (True, False, True), strict=True)),
)
def test_what_executors_can(make: Callable[[], Executor], in_place: bool, in_order: bool) -> None:
    """Ours is a subclass of the standard library's, and can what that cannot."""
    with make() as executor:
        stage = stage_on(executor)
        assert stage.runs_in_place == in_place
        assert stage.keeps_keys_in_order == in_order


# -- waiting, and progress ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", EXECUTORS)
def test_progress_is_shown(make: Callable[[], Executor]) -> None:
    """Each task that has ended is a step, also one that failed."""
    stream = io.StringIO()
    with make() as executor:
        stage = stage_on(executor, stream, total=4)
        futures = [stage.submit(call_of(double, number)) for number in range(3)]
        futures.append(stage.submit(call_of(fail)))
        for future in futures:
            stage.wait_for(future)
    assert stream.getvalue().splitlines()[-1] == "100% work 4/4"


def test_progress_of_tasks_that_nobody_waits_for_yet() -> None:
    """It is shown while another one is waited for."""
    stream = io.StringIO()
    with ThreadPoolExecutor(2) as executor:
        stage = stage_on(executor, stream, total=2)
        shown = threading.Event()
        write = stream.write

        def written(text: str) -> int:
            shown.set()
            return write(text)

        stream.write = written  # type: ignore[method-assign]

        def wait_for_it(_stage: Stage) -> bool:
            return shown.wait(30)

        slow = stage.submit(call_of(wait_for_it))
        stage.submit(call_of(double, 1))
        assert stage.result_of(slow) is True


def test_waiting_has_an_end() -> None:
    """Whoever gives so many seconds gets them, and no more."""
    stage = stage_on(PlainLoop())
    never: Future[None] = Future()
    stage.wait_for(never, 0.01)
    assert stage.now() >= 0.01
    assert not never.done()


def test_wait_until() -> None:
    """A moment that is past is no reason to wait."""
    stage = stage_on(PlainLoop())
    stage.wait_until(0.02)
    assert stage.now() >= 0.02
    stage.wait_until(0.01)
    assert stage.now() < 10


# -- being stopped ------------------------------------------------------------------------------------


def test_tasks_of_a_stopped_stage_end() -> None:
    """Those that compute, when they ask; those that wait, at once."""
    with ThreadPoolExecutor(2) as executor:
        stage = stage_on(executor)
        begun = threading.Barrier(3)

        def compute(stage: Stage) -> None:
            begun.wait(30)
            while True:
                stage.check()

        def wait(stage: Stage) -> None:
            begun.wait(30)
            stage.wait(600)

        futures = [stage.submit(call_of(compute)), stage.submit(call_of(wait))]
        begun.wait(30)
        stage.stop()
        for future in futures:
            with pytest.raises(StoppedError):
                future.result(timeout=30)


def test_a_stage_that_is_not_stopped() -> None:
    """Asking it changes nothing."""
    stage = stage_on(PlainLoop())
    stage.check()
    stage.wait(0.0)
