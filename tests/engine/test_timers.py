"""Timers: the agenda under a clock of the test's own, and the thread under the real one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.engine.timers import Agenda, Timers


def never() -> bool:
    """No timer is moot."""
    return False


def thread(target: Callable[[], object], name: str) -> threading.Thread:
    """As the crew makes them."""
    return threading.Thread(target=target, name=name, daemon=True)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100))))
def test_each_is_done_once_and_not_before_its_moment(steps: list[tuple[float, float]]) -> None:
    """Whatever is set while time goes on, due actions come in order and all of them come."""
    agenda, done, now = Agenda(), list[float](), 0.0
    for after, pause in steps:
        agenda.add(now + after, lambda when=now + after: done.append(when), never)  # type: ignore[misc]
        now += pause
        before = len(done)
        while (action := agenda.due(now)) is not None:
            action()
        assert all(when <= now for when in done)
        assert done[before:] == sorted(done[before:])
        assert agenda.next_at() is None or agenda.next_at() > now  # type: ignore[operator]
    while (action := agenda.due(float("inf"))) is not None:
        action()
    assert len(done) == len(steps)
    assert len(agenda) == 0


def test_moot_entries_are_swept() -> None:
    """However many timers are set and become moot, few are kept."""
    agenda = Agenda()
    for _ in range(50_000):
        agenda.add(1e9, lambda: None, lambda: True)
    agenda.add(5.0, lambda: None, never)
    assert len(agenda) <= 1024 + 1
    assert agenda.next_at() == 5.0


def test_an_earlier_timer_overtakes_a_later_one() -> None:
    """The thread that sleeps for a late timer wakes for one that is set meanwhile."""
    timers = Timers("test", thread)
    done: list[float] = []
    finished = threading.Event()
    timers.set(perf_counter() + 3600, lambda: done.append(-1))
    began = perf_counter()

    def note() -> None:
        done.append(perf_counter() - began)
        finished.set()

    timers.set(began + 0.02, note)
    assert finished.wait(30)
    assert done[0] >= 0.02
    assert len(done) == 1
    timers.close()
    timers.join()


def test_no_thread_is_a_clear_error_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the system gives no thread, `start` says so; later it may."""
    timers = Timers("test", thread)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            timers.start()
    done = threading.Event()
    timers.set(0.0, done.set)
    assert done.wait(30)
    timers.close()
    timers.join()


def test_close_without_a_thread_is_harmless() -> None:
    """Timers that were never used are closed at once, and start no thread for it."""
    timers = Timers("test", thread)
    timers.close()
    timers.join()
    assert timers.thread is None
