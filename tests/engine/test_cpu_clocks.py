"""The CPU clocks of worker threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tokengate_executor.engine import cpu_clocks
from tokengate_executor.engine.cpu_clocks import CpuClocks

HAS_CLOCKS = hasattr(time, "pthread_getcpuclockid")


def compute(seconds: float) -> None:
    """Use so much CPU time of this thread, at least."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@contextmanager
def noted(clocks: CpuClocks, seconds: float) -> Iterator[threading.Event]:
    """A thread that is noted, has used so much CPU time, and stays until the event, or the end."""
    is_done, may_end = threading.Event(), threading.Event()

    def run() -> None:
        clocks.note()
        compute(seconds)
        is_done.set()
        may_end.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert is_done.wait(30)
        yield may_end
    finally:
        may_end.set()
        thread.join()


@pytest.mark.skipif(not HAS_CLOCKS, reason="this system has no CPU clocks of threads")
def test_what_noted_threads_use() -> None:
    """It is counted once, and what other threads use is not."""
    clocks = CpuClocks()
    assert clocks.is_exact
    assert clocks.seconds() == 0.0
    compute(0.05)
    with noted(clocks, 0.02), noted(clocks, 0.02):
        used = clocks.seconds()
        assert 0.04 <= used < 0.05 + 0.04
        compute(0.05)
        assert clocks.seconds() < 0.02


@pytest.mark.skipif(not HAS_CLOCKS, reason="this system has no CPU clocks of threads")
def test_a_thread_that_has_ended() -> None:
    """It is not asked any more, and its clock is not somebody else's."""
    clocks = CpuClocks()
    with noted(clocks, 0.01):
        assert clocks.seconds() >= 0.01
    clocks.seconds()
    assert clocks._clocks == {}
    assert clocks.seconds() == 0.0


@pytest.mark.skipif(not HAS_CLOCKS, reason="this system has no CPU clocks of threads")
def test_a_clock_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may say so: then nothing more was used."""
    clocks = CpuClocks()
    with noted(clocks, 0.0):
        clocks.seconds()

        def is_gone(_clock: int) -> float:
            raise OSError

        monkeypatch.setattr(cpu_clocks.time, "clock_gettime", is_gone)
        assert clocks.seconds() == 0.0
        monkeypatch.undo()


def test_begin_again() -> None:
    """As in a forked child: no thread counts that was noted before."""
    clocks = CpuClocks()
    with noted(clocks, 0.01):
        clocks.renew()
        if clocks.is_exact:
            assert clocks.seconds() == 0.0


def test_without_such_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none, it is the time of the process, whoever used it."""
    monkeypatch.setattr(cpu_clocks, "_clock_of", None)
    clocks = CpuClocks()
    assert not clocks.is_exact
    clocks.note()
    compute(0.02)
    assert clocks.seconds() >= 0.02
    assert clocks.seconds() < 0.02
