"""Made-up work: the same amount for the same arguments, and soon at an end when it is stopped."""

from __future__ import annotations

import threading
import time

import pytest

from tokengate_executor import TaskOptions
from tokengate_executor.demos.made_up import KINDS, WHAT_IT_IS, Kind, made_up_call
from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.stage import PlainLoop, Stage, StoppedError


def stage() -> Stage:
    """Return a stage."""
    return Stage(PlainLoop(), Progress(None, "", 0))


def outcome(kind: Kind, seed: int, milliseconds: float) -> object:
    """Do some work."""
    call = made_up_call(kind, seed, milliseconds, TaskOptions())
    return call.function(stage(), *call.arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_arguments_come_to_the_same(kind: Kind) -> None:
    """And others do not."""
    assert outcome(kind, 1, 0.5) == outcome(kind, 1, 0.5)
    assert outcome(kind, 1, 0.5) != outcome(kind, 2, 0.5)
    assert outcome(kind, 1, 0.5) != outcome(kind, 1, 0.6)
    assert WHAT_IT_IS[kind]


def test_known_results() -> None:
    """They do not depend on the machine, nor on the version of Python."""
    assert outcome("python", 1, 5.0) == "27fc77a9"
    assert outcome("hash", 1, 5.0) == "05e33de32617488b"


@pytest.mark.parametrize("kind", ["python", "hash"])
def test_twice_the_amount_takes_longer(kind: Kind) -> None:
    """Computing uses CPU time in proportion."""

    def cpu_seconds(milliseconds: float) -> float:
        began = time.thread_time()
        outcome(kind, 1, milliseconds)
        return time.thread_time() - began

    short = min(cpu_seconds(4) for _ in range(5))
    long = min(cpu_seconds(16) for _ in range(5))
    assert 2 < long / short < 8


def test_waiting_takes_its_time_and_no_cpu() -> None:
    """It waits, in fact."""
    began, cpu_began = time.perf_counter(), time.thread_time()
    outcome("wait", 1, 30.0)
    assert time.perf_counter() - began >= 0.03
    assert time.thread_time() - cpu_began < 0.02


def test_hashing_holds_no_lock() -> None:
    """Another thread goes on while it hashes, and would not if it held the interpreter lock."""
    call = made_up_call("hash", 1, 60, TaskOptions())
    thread = threading.Thread(target=call.function, args=(stage(), *call.arguments))
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
    assert turns > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_task_ends(kind: Kind) -> None:
    """Though hours of work are left."""
    call = made_up_call(kind, 1, 3_600_000.0, TaskOptions(operation="long"))
    assert call.operation == "long"
    here = stage()
    timer = threading.Timer(0.02, here.stop)
    timer.start()
    with pytest.raises(StoppedError):
        call.function(here, *call.arguments)
    timer.join()
