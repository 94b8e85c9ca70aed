"""Calls that are due at given moments: when they are made, and what they come to."""

from __future__ import annotations

import threading

import pytest

from tokengate_executor import TaskOptions, TokenGateExecutor
from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.releases import Release, count_calls, outcome_of, release_all
from tokengate_executor.demos.stage import Call, PlainLoop, Stage, StoppedError


def echo(stage: Stage, number: int) -> int:
    """Return the number, or fail if it is odd."""
    stage.check()
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def calls(*numbers: int) -> tuple[Call, ...]:
    """Return calls that echo."""
    return tuple(Call(echo, (number,), TaskOptions()) for number in numbers)


def stage_on(executor: PlainLoop | TokenGateExecutor) -> Stage:
    """Return a stage without progress."""
    return Stage(executor, Progress(None, "", 0))


def test_calls_are_made_when_they_are_due() -> None:
    """Not before; and they are due at that moment, however late they are."""
    with TokenGateExecutor(2) as executor:
        stage = stage_on(executor)
        releases = [Release(0.0, calls(0, 2)), Release(0.03, calls(4))]
        assert count_calls(releases) == 3
        assert release_all(stage, releases) == [0, 2, 4]
        assert [task.due for task in stage.tasks] == [0.0, 0.0, 0.03]
        assert stage.tasks[2].submitted >= 0.03


def test_who_is_late_does_not_skip() -> None:
    """The plain loop makes each call, one after the other, however long they take."""
    stage = stage_on(PlainLoop())

    def dawdle(stage: Stage) -> None:
        stage.wait(0.02)

    release_all(stage, [Release(at, (Call(dawdle, (), TaskOptions()),)) for at in (0, 0.001)])
    late = stage.tasks[1]
    assert late.due == 0.001
    assert late.started >= 0.02


def test_failures_are_outcomes() -> None:
    """With the type and the message; the others go on."""
    stage = stage_on(PlainLoop())
    assert release_all(stage, [Release(0.0, calls(1, 2))]) == [
        {"error": {"type": "ValueError", "message": "1 is odd"}},
        2,
    ]


def test_nothing_to_release() -> None:
    """It comes to nothing."""
    assert release_all(stage_on(PlainLoop()), []) == []
    assert count_calls([]) == 0


def test_a_stopped_task_is_no_outcome() -> None:
    """The run is over."""
    with TokenGateExecutor(1, log_unread_exceptions=False) as executor:
        stage = stage_on(executor)
        begun = threading.Event()

        def hold(stage: Stage) -> None:
            begun.set()
            stage.wait(600)

        future = stage.submit(Call(hold, (), TaskOptions()))
        assert begun.wait(30)
        stage.stop()
        with pytest.raises(StoppedError):
            outcome_of(stage, future)
