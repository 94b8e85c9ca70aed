"""``observe.events``: what is told of an executor, and that telling harms nothing."""

from __future__ import annotations

import logging
import threading
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from tokengate_executor import (
    BreakerPolicy,
    CircuitChanged,
    CircuitState,
    Event,
    GateDrained,
    GatePaused,
    GateResumed,
    InvalidOptionError,
    LimitChanged,
    RateLimit,
    TokenGateExecutor,
    TokenTimeoutError,
    WorkerAbandoned,
    WorkerStarted,
    WorkerStopped,
)
from tokengate_executor.observe.events import Announcer, announcer_for


class Heard(list[Event]):
    """A listener that keeps what it was told."""

    def __call__(self, event: Event) -> None:
        """Keep it."""
        self.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        """Those of one kind."""
        return [event for event in self if isinstance(event, kind)]


@pytest.mark.parametrize("wrong", [1, None, [print, "print"], "ab"])
def test_what_is_no_listener(wrong: Any) -> None:
    """It is named."""
    with pytest.raises(InvalidOptionError, match="listeners"):
        TokenGateExecutor(1, listeners=wrong)


def test_no_listener_is_no_announcer() -> None:
    """With nobody to tell there is nothing to be asked on the way of a call."""
    assert announcer_for([]) is None
    with TokenGateExecutor(1) as executor:
        assert executor.gate.announce is None
        assert executor.profile_for(len).herald is None


def test_an_iterator_of_listeners() -> None:
    """They are told in order, each of everything."""
    order: list[str] = []
    tell = announcer_for(iter([lambda _: order.append("one"), lambda _: order.append("two")]))
    assert tell is not None
    tell(Event(at=1.0))
    assert order == ["one", "two"]


def test_events_are_frozen() -> None:
    """No listener can change what the next one is told."""
    event = GatePaused(at=1.0, operation=None)
    with pytest.raises(FrozenInstanceError):
        event.operation = "other"  # type: ignore[misc]


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit, KeyboardInterrupt])
def test_a_listener_that_fails(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises on a worker: the tokens settle, the others hear, one line is logged."""
    heard = Heard()

    def fail(_event: Event) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise error("on purpose")

    with TokenGateExecutor(2, listeners=[fail, heard]) as executor:
        tokens = [executor.submit(pow, 2, n) for n in range(20)]
        assert [token.result() for token in tokens] == [2**n for n in range(20)]
    assert len(heard) >= 60
    (record,) = [record for record in caplog.records if "listener" in record.message]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is error


def test_each_failing_listener_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Two that fail are two lines, however often they do."""

    def fail(_event: Event) -> None:
        raise ValueError("on purpose")

    tell = Announcer((fail, fail))
    for _ in range(3):
        tell(Event(at=0.0))
    assert len(caplog.records) == 2


def test_an_interrupt_of_the_main_thread_goes_on() -> None:
    """Ctrl-C while a listener runs is for the program, once all were told; nothing was submitted."""
    heard = Heard()

    def interrupt(_event: Event) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    with TokenGateExecutor(1, listeners=[interrupt, heard]) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.submit(pow, 2, 2)
        assert len(heard) == 2  # that it was handed over, and that it was refused
        assert executor.statistics().submitted == 0


def test_no_lock_is_held() -> None:
    """A listener may ask and steer the executor, whatever it is told of."""
    done: list[str] = []

    def steer(event: Event) -> None:
        executor.statistics()
        executor.tokens()
        executor.guard_house.circuits()
        executor.purge("nothing")
        done.append(type(event).__name__)

    with TokenGateExecutor(
        1, listeners=[steer], limits={"db": 1}, max_pending=5, max_spare_workers=4
    ) as executor:
        calls = executor.options(limits=("db",), timeout=30, operation="call")
        calls.submit(pow, 2, 2).result()
        executor.pause()
        waiting = calls.submit(pow, 2, 2)
        assert executor.kill(waiting.id) == 1
        executor.resume()
        executor.set_limit("db", 2)
        executor.guard_house.open("call")
        executor.guard_house.close("call")
        executor.drain(0)
        executor.resume()
    assert set(done) >= {
        "TokenSubmitted",
        "TokenStarted",
        "TokenSettled",
        "WorkerStarted",
        "WorkerStopped",
        "GatePaused",
        "GateResumed",
        "GateDrained",
        "LimitChanged",
        "CircuitChanged",
    }


def test_workers() -> None:
    """Each thread's beginning and end are told on it, before shutdown returns."""
    heard = Heard()
    threads: dict[Event, str] = {}

    def note(event: Event) -> None:
        threads[event] = threading.current_thread().name

    barrier = threading.Barrier(2)
    with TokenGateExecutor(2, "crew", listeners=[heard, note]) as executor:
        for token in [executor.submit(barrier.wait, 20) for _ in range(2)]:
            token.result()
    started, stopped = heard.of(WorkerStarted), heard.of(WorkerStopped)
    assert {one.worker for one in started} == {one.worker for one in stopped} == {1, 2}
    assert all(one.lane >= 1 and not one.is_spare for one in started)
    assert {threads[one] for one in (*started, *stopped)} == {"crew_0", "crew_1"}


def test_a_spare_says_so() -> None:
    """One that stands in for a worker that waits is told as a spare."""
    heard = Heard()

    def outer() -> int:
        return executor.submit(pow, 2, 3).result(timeout=20)

    with TokenGateExecutor(1, listeners=[heard]) as executor:
        assert executor.submit(outer).result() == 8
    assert [one.is_spare for one in heard.of(WorkerStarted)] == [False, True]


def test_an_abandoned_worker() -> None:
    """A call that runs for too long is told once, with its worker."""
    heard, release = Heard(), threading.Event()
    with TokenGateExecutor(1, listeners=[heard]) as executor:
        token = executor.options(timeout=0.01, operation="slow").submit(release.wait, 20)
        assert isinstance(token.exception(), TokenTimeoutError)
        release.set()
    (event,) = heard.of(WorkerAbandoned)
    assert (event.operation, event.token_id, event.worker) == ("slow", token.id, 1)


def test_the_gate() -> None:
    """Pauses, resumes and drains are told when they hold, and changes of limits with both values."""
    heard = Heard()
    rate = RateLimit(5, per=1.0)
    with TokenGateExecutor(1, listeners=[heard], limits={"db": 2, "api": rate}) as executor:
        executor.pause()
        executor.pause("parse")
        executor.resume()
        executor.resume("parse")
        executor.set_limit("db", 3)
        executor.set_limit("api", RateLimit(9, per=1.0))
        executor.pause()
        executor.submit(pow, 2, 2)
        report = executor.drain(0)
        executor.resume()
        with pytest.raises(InvalidOptionError):
            executor.set_limit("db", 0)
    assert [one.operation for one in heard.of(GatePaused)] == [None, "parse", None]
    assert [one.operation for one in heard.of(GateResumed)] == [None, "parse", None]
    (drained,) = heard.of(GateDrained)
    assert (drained.left, drained.seconds) == (1, report.seconds)
    assert [(one.name, one.before, one.after) for one in heard.of(LimitChanged)] == [
        ("db", 2, 3),
        ("api", rate, RateLimit(9, per=1.0)),
    ]


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


def test_circuits() -> None:
    """Each change is told once: opened by failures, by hand, half-open by time, closed."""
    heard = Heard()
    policy = BreakerPolicy(failure_rate=0.5, min_calls=2, open_for=1e-9, trial_calls=1)
    with TokenGateExecutor(
        1, listeners=[heard], breaker=policy, log_unread_exceptions=False
    ) as executor:
        calls = executor.options(operation="call")
        for _ in range(2):
            calls.submit(fail).exception()
        calls.submit(pow, 2, 2).result()  # the trial
        executor.guard_house.open("call")
        executor.guard_house.open("call")
        executor.guard_house.close("call")
        executor.guard_house.close("other")
    closed, open_, half = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
    changes = heard.of(CircuitChanged)
    assert [(one.before, one.after) for one in changes] == [
        (closed, open_),
        (open_, half),
        (half, closed),
        (closed, open_),
        (open_, closed),
    ]
    assert {one.operation for one in changes} == {"call"}
    assert (changes[0].failures, changes[0].calls) == (2, 2)
    assert (changes[3].failures, changes[3].calls) == (0, 0)
