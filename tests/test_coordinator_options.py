"""What a coordinator is made with: wrong options are errors at once, and right ones are kept."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tokengate_executor import (
    OperationsCoordinator,
    QuarantineStore,
    RetryPolicy,
    TokenGateExecutor,
    UnknownOptionError,
    task_token_guard,
)
from tokengate_executor.coordinator_options import ExecutorOptions, checked


def test_they_are_the_executors() -> None:
    """The names that type checkers know are those that the executor has."""
    assert set(ExecutorOptions.__annotations__) == set(
        inspect.signature(TokenGateExecutor).parameters
    )


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 0},
        {"initializer": "prepare"},
        {"lanes": 0},
        {"max_workers": 2, "lanes": 3},
        {"policy": "staggered"},
        {"mailbox_size": 0},
        {"max_pending": {"huge": 1}},
        {"on_full": "wait"},
        {"submit_timeout": 1, "on_full": "raise"},
        {"limits": {"db": 0}},
        {"ageing": 0},
        {"keep_alive": -1},
        {"convergence": True},
        {"history_size": -1},
        {"max_spare_workers": -1},
        {"retry": 3},
        {"timeout": -1},
        {"slow_after": "long"},
        {"breaker": True},
        {"spikes": True},
        {"quarantine": 5},
        {"listeners": 5},
        {"listeners": [5]},
        {"exit_policy": "hang"},
    ],
    ids=repr,
)
def test_a_wrong_value(options: dict[str, Any]) -> None:
    """Making the coordinator raises what making the executor raises."""
    with pytest.raises((ValueError, TypeError)) as theirs:
        TokenGateExecutor(**options)
    with pytest.raises(type(theirs.value)) as ours:
        OperationsCoordinator(**options)
    assert str(ours.value) == str(theirs.value)


def test_an_unknown_name() -> None:
    """The error names those that exist."""
    with pytest.raises(
        UnknownOptionError, match="unknown option 'workers': the options are max_wo"
    ):
        OperationsCoordinator(workers=3)  # type: ignore[call-arg]


def test_checking_does_nothing_else(tmp_path: Path) -> None:
    """No thread is started, no file made, no event told, and no name given away."""
    path = tmp_path / "calls.db"
    events: list[object] = []
    threads = set(threading.enumerate())
    with TokenGateExecutor(1) as before:
        coordinator = OperationsCoordinator(
            max_workers=2,
            retry=RetryPolicy(attempts=2, on=OSError),
            timeout=60.0,
            slow_after=50.0,
            quarantine=path,
            listeners=[events.append],
        )
    assert set(threading.enumerate()) == threads
    assert not path.exists()
    assert not events
    with TokenGateExecutor(1) as after:
        numbers = [int(one.name.rpartition("-")[2]) for one in (before, after)]
        assert numbers[1] == numbers[0] + 1
    with coordinator:
        assert path.exists()


def test_they_are_kept_as_they_were() -> None:
    """What is changed after the making changes nothing, and an iterator is not used up."""
    limits = {"db": 3}
    pending: dict[str | None, int] = {None: 5}
    events: list[object] = []

    def listeners() -> Iterator[Any]:
        yield events.append

    coordinator = OperationsCoordinator(
        max_workers=1, limits=limits, max_pending=cast("Any", pending), listeners=listeners()
    )
    limits["db"] = 0
    pending[None] = 0
    for _ in range(2):
        with coordinator:
            now = coordinator.statistics()
            assert (now.limits["db"].spec, now.capacity) == (3, 5)
            task_token_guard()(int)().get(timeout=30)
        assert events
        events.clear()


@pytest.mark.parametrize("quarantine", [True, False, None, QuarantineStore(), "calls.db"])
def test_quarantines_of_every_kind(quarantine: Any) -> None:
    """All that the executor takes are right."""
    assert checked({"quarantine": quarantine}) == {"quarantine": quarantine}
