"""The pacer: when it looks, what it sees, and what it does to the crew."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from tokengate_executor import (
    AffinityPolicy,
    ConvergencePolicy,
    Event,
    InvalidOptionError,
    Token,
    TokenGateExecutor,
    WorkersAdapted,
    WorkerStopped,
)
from tokengate_executor.engine import pacer as pacer_module
from tokengate_executor.policies.convergence import Decision, Sample

QUICK = ConvergencePolicy(interval=0.01, tolerated_wait=0.0, shrink_after=0.05)

_CLOCKS = ("token", "engine.settlement", "engine.pacer")


class Adapted(SimpleQueue[WorkersAdapted]):
    """A listener that keeps the changes."""

    def __call__(self, event: Event) -> None:
        """Keep it, if it is one."""
        if isinstance(event, WorkersAdapted):
            self.put(event)

    def next(self) -> WorkersAdapted:
        """The next one; wait for it, if it is not told yet."""
        return self.get(timeout=30)

    def until(self, workers: int) -> WorkersAdapted:
        """The next one that leads to so many workers."""
        while True:
            event = self.next()
            if event.after == workers:
                return event


class Wanted:
    """Stands in for the rule: wants what it is told to want."""

    def __init__(self) -> None:
        self.seen: list[Sample] = []
        self.wanted: int | None = None

    def next(self, sample: Sample) -> Decision:
        """Keep the sample."""
        self.seen.append(sample)
        return Decision(self.wanted or sample.workers, "told so")


class ByHand:
    """Timers and clock of one executor with convergence: nothing moves but by the test."""

    thread = None

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.rule = Wanted()
        self.executor: TokenGateExecutor

    def make(self, *args: Any, **kwargs: Any) -> TokenGateExecutor:
        """An executor for which this is in the place of timers, clock and rule."""
        kwargs.setdefault("convergence", ConvergencePolicy(interval=1.0))
        self.executor = TokenGateExecutor(*args, **kwargs)
        assert self.executor._pacer is not None
        self.executor._pacer._controller = self.rule  # type: ignore[assignment]
        return self.executor

    def look(self, wanted: int | None = None, late: float = 0.0) -> Sample:
        """Let the next moment come, and return what was seen then."""
        self.rule.wanted = wanted
        ((when, action),) = self.timers
        self.timers.clear()
        self.now = when + late
        action()
        return self.rule.seen[-1]

    def set(
        self, when: float, action: Callable[[], object], _is_moot: Callable[[], bool] = bool
    ) -> None:
        """Note it."""
        self.timers.append((when, action))

    def start(self) -> None:
        """Do without a thread."""

    close = join = renew = start


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[ByHand]:
    """Return timers and a clock that the test moves."""
    by_hand = ByHand()
    monkeypatch.setattr("tokengate_executor.engine.assembly.Timers", lambda *_: by_hand)
    for module in _CLOCKS:
        monkeypatch.setattr(f"tokengate_executor.{module}.perf_counter", lambda: by_hand.now)
    yield by_hand
    by_hand.executor.shutdown(cancel_futures=True)


@contextmanager
def running(executor: TokenGateExecutor, calls: int) -> Iterator[list[Token[Any]]]:
    """So many calls that run, each on a worker, until the end of the block."""
    release = threading.Event()
    started = threading.Semaphore(0)

    def stay() -> None:
        started.release()
        release.wait(30)

    tokens = [executor.submit(stay) for _ in range(calls)]
    try:
        for _ in range(calls):
            assert started.acquire(timeout=30)
        yield tokens
    finally:
        release.set()
        for token in tokens:
            token.result(30)


# -- off, and arguments -----------------------------------------------------------------------------


def test_off_by_default() -> None:
    """Then there is no pacer, no timer, and nothing in the way of a worker's thread."""
    with TokenGateExecutor(2) as executor:
        executor.submit(pow, 2, 2).result()
        assert executor.convergence is None
        assert executor._pacer is None
        assert executor._crew.initializer is None
        assert executor.gate.timers.thread is None


def test_the_upper_bound_is_max_workers() -> None:
    """The policy's, the executor's, or the default; it begins with ``min_workers``, so many lanes."""
    for executor, most in (
        (TokenGateExecutor(16, convergence=ConvergencePolicy()), 16),
        (TokenGateExecutor(16, convergence=ConvergencePolicy(max_workers=8)), 8),
        (TokenGateExecutor(convergence=ConvergencePolicy(max_workers=64)), 64),
        (TokenGateExecutor(convergence=ConvergencePolicy()), TokenGateExecutor()._max_workers),
    ):
        report = executor.convergence
        assert report is not None
        assert report.policy.max_workers == most
        assert executor.statistics().max_workers == report.current == report.wanted == 1
        assert len(executor.statistics().lanes) == 1
        assert report.sample is None
        assert report.changes == ()
        assert "nothing was seen yet" in str(report)
        executor.shutdown()


def test_more_lanes_need_more_workers_at_least() -> None:
    """Each lane keeps one."""
    policy = ConvergencePolicy(min_workers=3)
    with TokenGateExecutor(8, lanes=3, convergence=policy) as executor:
        assert executor.convergence is not None
        assert executor.convergence.by_lane == (1, 1, 1)
    for lanes in ({"lanes": 4}, {"policy": AffinityPolicy.staggered(4)}):
        with pytest.raises(InvalidOptionError, match="min_workers of at least 4"):
            TokenGateExecutor(8, convergence=policy, **lanes)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [{"min_workers": 5}, {"max_workers": 5}])
def test_bounds_beyond_max_workers(policy: dict[str, int]) -> None:
    """``max_workers`` is kept, so they are refused."""
    with pytest.raises(InvalidOptionError, match="bounds of at most 4"):
        TokenGateExecutor(4, convergence=ConvergencePolicy(**policy))


@pytest.mark.parametrize("wrong", [True, 4, "auto"])
def test_what_is_no_policy(wrong: Any) -> None:
    """It is named."""
    with pytest.raises(InvalidOptionError, match="a ConvergencePolicy or None"):
        TokenGateExecutor(convergence=wrong)


# -- what it sees -----------------------------------------------------------------------------------


def test_what_is_seen_of_calls_that_run_and_wait(by_hand: ByHand) -> None:
    """How many, for how long, and since when the oldest waits; what was seen once is not seen again."""
    executor = by_hand.make(2, convergence=ConvergencePolicy(min_workers=2, interval=1.0))
    with running(executor, 2):
        by_hand.now += 0.25
        waiting = [executor.submit(pow, 2, 2) for _ in range(3)]
        waiting[0].cancel()
        sample = by_hand.look()
        assert (sample.seconds, sample.workers, sample.used) == (1.0, 2, 2)
        assert sample.busy_seconds == pytest.approx(2.0)
        assert sample.busy_share == 1.0
        assert (sample.depth, sample.wait_seconds) == (2, 0.75)
        assert sample.completions == 0
        assert by_hand.look(late=2.0).busy_seconds == pytest.approx(6.0)
    for token in waiting[1:]:
        token.result(30)
    sample = by_hand.look()
    assert (sample.depth, sample.wait_seconds, sample.completions) == (0, 0.0, 4)
    assert sample.busy_seconds == 0.0
    sample = by_hand.look()
    assert (sample.used, sample.completions, sample.cpu_seconds) == (
        0,
        0,
        pytest.approx(0, abs=0.1),
    )


def test_the_first_timer_comes_with_the_first_thread(by_hand: ByHand) -> None:
    """Until then there is nothing to be seen, and only one is set at a time."""
    executor = by_hand.make(2)
    assert by_hand.timers == []
    for _ in range(3):
        executor.submit(pow, 2, 2).result(30)
    assert len(by_hand.timers) == 1


def test_an_initializer_still_runs(by_hand: ByHand) -> None:
    """With its arguments, in each thread, before its first call."""
    here = threading.local()
    executor = by_hand.make(2, initializer=setattr, initargs=(here, "value", 7))
    assert executor.submit(getattr, here, "value").result(30) == 7


def test_those_who_wait_for_tokens_are_not_busy(by_hand: ByHand) -> None:
    """Their spares are, in their place."""
    executor = by_hand.make(2, convergence=ConvergencePolicy(min_workers=1, interval=1.0))
    inside = threading.Event()
    release = threading.Event()

    def inner() -> None:
        inside.set()
        release.wait(30)

    def outer() -> None:
        # With a timeout: it is not run in place.
        executor.submit(inner).result(timeout=30)

    token = executor.submit(outer)
    assert inside.wait(30)
    sample = by_hand.look()
    assert sample.used == 2
    assert sample.busy_seconds == pytest.approx(1.0)
    release.set()
    token.result(30)


def test_what_waits_for_something_else_is_no_reason(by_hand: ByHand) -> None:
    """Calls of a paused operation, those without a permit, and all while everything is paused."""
    executor = by_hand.make(4, limits={"db": 1})
    limited = executor.options(limits=("db",))
    with running(executor, 1):
        tokens = [limited.submit(pow, 2, n) for n in range(3)]
        assert by_hand.look().depth == 3  # no worker has asked for them yet
        executor.pause()
        assert by_hand.look().depth == 0
        executor.resume()
        executor.pause("builtins.pow")
        executor.resize(2)
        # Whoever takes this has looked at those before it, and parked them.
        assert executor.submit(abs, -1).result(30) == 1
        assert by_hand.look().depth == 0
        executor.resume("builtins.pow")
        assert [token.result(30) for token in tokens] == [1, 2, 4]


def test_a_governed_queue(by_hand: ByHand) -> None:
    """What is ready there counts, whatever its order, and the oldest that is seen says since when."""
    executor = by_hand.make(4)
    urgent = executor.options(priority=5)
    with running(executor, 1):
        tokens = [urgent.submit(pow, 2, n) for n in range(5)]
        by_hand.now += 0.5
        sample = by_hand.look()
        assert (sample.depth, sample.wait_seconds) == (5, 1.0)
        executor.gate.catch_up()  # sorted in: it is the governor's now
        sample = by_hand.look()
        assert (sample.depth, sample.wait_seconds) == (5, 2.0)
    assert [token.result(30) for token in tokens] == [1, 2, 4, 8, 16]


# -- what it does -----------------------------------------------------------------------------------


def test_it_resizes_the_crew_and_tells(by_hand: ByHand) -> None:
    """What it wants is done, told, and kept; what stays is not told."""
    adapted = Adapted()
    executor = by_hand.make(8, listeners=[adapted])
    executor.submit(pow, 2, 2).result(30)
    by_hand.look(wanted=6)
    assert executor._max_workers == 6
    by_hand.look(wanted=6)
    by_hand.look(wanted=2)
    report = executor.convergence
    assert report is not None
    assert (report.current, report.wanted, report.reason) == (2, 2, "told so")
    assert report.sample is by_hand.rule.seen[-1]
    assert [(event.before, event.after) for event in report.changes] == [(1, 6), (6, 2)]
    assert [adapted.next() for _ in range(2)] == list(report.changes)
    assert adapted.empty()
    assert report.changes[0].reason == "told so"
    assert "2 workers, 2 wanted: told so" in str(report)


def test_a_resize_by_hand(by_hand: ByHand) -> None:
    """The rule is told of it, and goes on from there."""
    executor = by_hand.make(8)
    executor.submit(pow, 2, 2).result(30)
    by_hand.look(wanted=4)
    executor.resize(6)
    assert by_hand.look().workers == 6
    assert executor._max_workers == 6
    report = executor.convergence
    assert report is not None
    assert [event.after for event in report.changes] == [4]


def test_those_who_leave_and_those_who_come_are_within_the_bound(by_hand: ByHand) -> None:
    """Calls that still run on workers that are to leave count, until they have ended."""
    stopped = SimpleQueue[WorkerStopped]()
    executor = by_hand.make(
        4, listeners=[lambda e: isinstance(e, WorkerStopped) and stopped.put(e)]
    )
    executor.submit(pow, 2, 2).result(30)
    by_hand.look(wanted=4)
    with running(executor, 4):
        by_hand.look(wanted=1)
        assert executor._max_workers == 1
        by_hand.look(wanted=4)
        assert executor._max_workers == 1  # three are on their way out
        assert by_hand.look(wanted=4).workers == 4  # which the rule need not know
        report = executor.convergence
        assert report is not None
        assert (report.current, report.wanted) == (1, 4)
    for _ in range(3):
        stopped.get(timeout=30)
    by_hand.look(wanted=4)
    assert executor._max_workers == 4


def test_it_goes_on_while_the_executor_ends(by_hand: ByHand) -> None:
    """What is queued then gets more workers, too; nothing is made smaller any more."""
    executor = by_hand.make(4)
    with running(executor, 1):
        together = threading.Barrier(3)
        tokens = [executor.submit(together.wait, 30) for _ in range(3)]
        executor.shutdown(wait=False)
        by_hand.look(wanted=4)
        assert sorted(token.result(30) for token in tokens) == [0, 1, 2]
        by_hand.look(wanted=1)
        assert executor._max_workers == 4


def test_there_is_no_thread_to_be_had(by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and looked at again at the next interval."""
    executor = by_hand.make(4)
    with running(executor, 1) as tokens:
        tokens.append(executor.submit(int, 1))
        start = threading.Thread.start
        with pytest.MonkeyPatch.context() as patch:

            def fail(_thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr(threading.Thread, "start", fail)
            by_hand.look(wanted=2)
        assert threading.Thread.start is start
        assert "has no thread for one more worker" in caplog.text
        assert len(by_hand.timers) == 1


def test_a_fault_ends_it_and_nothing_else(
    by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of workers stays, and the timers' other work goes on."""
    executor = by_hand.make(4)
    executor.submit(pow, 2, 2).result(30)
    by_hand.look(wanted=3)

    def fail(_sample: Sample) -> Decision:
        raise ZeroDivisionError

    by_hand.rule.next = fail  # type: ignore[method-assign]
    by_hand.look()
    assert "stays with 3 workers" in caplog.text
    assert by_hand.timers == []
    assert executor.submit(pow, 2, 2).result(30) == 4


def test_no_timer_can_be_set(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """As there is no thread for the timers: calls run all the same, and the next thread tries again."""
    stopped = SimpleQueue[WorkerStopped]()
    with TokenGateExecutor(
        2,
        keep_alive=0.0,
        convergence=QUICK,
        listeners=[lambda e: isinstance(e, WorkerStopped) and stopped.put(e)],
    ) as executor:
        timers = executor.gate.timers

        def fail(*_args: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(timers, "set", fail)
            assert executor.submit(pow, 2, 2).result(30) == 4
            assert "does not adapt its workers yet" in caplog.text
        stopped.get(timeout=30)
        assert executor.submit(pow, 2, 2).result(30) == 4
    assert timers.thread is not None


# -- for real ---------------------------------------------------------------------------------------


def test_calls_that_block_get_workers_and_idle_ones_go() -> None:
    """Eight calls can only meet if there are eight workers; and afterwards there is one again."""
    adapted = Adapted()
    with TokenGateExecutor(8, convergence=QUICK, listeners=[adapted]) as executor:
        together = threading.Barrier(8)
        tokens = [executor.submit(together.wait, 30) for _ in range(8)]
        assert sorted(token.result(30) for token in tokens) == list(range(8))
        assert adapted.until(8).after == 8
        assert "were enough for" in adapted.until(1).reason
        assert executor.statistics().max_workers == 1


def test_what_is_queued_at_shutdown_gets_workers() -> None:
    """The block ends at once, and its calls can only meet with as many workers."""
    together = threading.Barrier(4)
    with TokenGateExecutor(4, convergence=QUICK) as executor:
        tokens = [executor.submit(together.wait, 30) for _ in range(4)]
    assert sorted(token.result(0) for token in tokens) == [0, 1, 2, 3]


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_does_not_wait_for_an_interval(wait: bool) -> None:
    """However long it is."""
    policy = ConvergencePolicy(interval=60.0)
    executor = TokenGateExecutor(2, convergence=policy)
    assert executor.submit(pow, 2, 2).result(30) == 4
    thread = executor.gate.timers.thread
    assert thread is not None
    executor.shutdown(wait=wait)
    thread.join(30)
    assert not thread.is_alive()


def test_it_does_not_keep_the_executor() -> None:
    """With the last reference to the executor its threads end, and so do the timers."""
    executor = TokenGateExecutor(2, convergence=QUICK)
    executor.submit(pow, 2, 2).result(30)
    timers = executor.gate.timers.thread
    assert timers is not None
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    timers.join(30)
    assert not timers.is_alive()


def test_no_call_is_lost_while_the_number_changes() -> None:
    """At every hundredth of a second there is another number of workers; everything runs, once."""
    chance = random.Random(5)

    class AnyNumber(Wanted):
        def next(self, sample: Sample) -> Decision:
            self.wanted = chance.randint(2, 9)
            return super().next(sample)

    policy = ConvergencePolicy(min_workers=2, interval=0.01)
    adapted = Adapted()
    executor = TokenGateExecutor(
        9, lanes=2, convergence=policy, keep_alive=0.005, listeners=[adapted]
    )
    assert executor._pacer is not None
    executor._pacer._controller = AnyNumber()  # type: ignore[assignment]
    ran: deque[int] = deque()
    tokens: list[Token[None]] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with executor:
            while adapted.qsize() < 20:
                tokens += [executor.submit(ran.append, len(tokens) + n) for n in range(100)]
                tokens[-50].result(30)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(ran) == list(range(len(tokens)))
    assert all(token.done() for token in tokens)
    report = executor.convergence
    assert report is not None
    assert all(2 <= event.after <= 9 for event in report.changes)
    statistics = executor.statistics()
    assert statistics.submitted == statistics.completed == len(tokens)
    assert statistics.workers == 0


def _meet_in_child(executor: TokenGateExecutor) -> None:
    """In a forked child: end it with 0 if the executor adapts there."""
    status = 1
    try:
        executor.resize(1)  # else it begins with as many as the parent had
        together = threading.Barrier(3)
        tokens = [executor.submit(together.wait, 20) for _ in range(3)]
        met = sorted(token.result(20) for token in tokens)
        report = executor.convergence
        status = not (met == [0, 1, 2] and report is not None and report.changes)
    finally:
        os._exit(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork() -> None:
    """In the child it begins with nothing seen, and adapts."""
    with TokenGateExecutor(3, convergence=QUICK) as executor:
        together = threading.Barrier(3)
        for token in [executor.submit(together.wait, 30) for _ in range(3)]:
            token.result(30)
        child = os.fork()
        if not child:
            _meet_in_child(executor)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_gil_or_none() -> None:
    """What the interpreter says; before 3.13 there is one."""
    assert pacer_module._has_gil() in (True, False)


def test_workers_adapted_is_logged_as_what_happens_all_the_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the listener that is there already, with its numbers."""
    from tokengate_executor import LoggingListener

    caplog.set_level(logging.DEBUG, "tokengate_executor.events")
    LoggingListener()(WorkersAdapted(at=1.0, before=1, after=4, reason="calls wait"))
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == "WorkersAdapted before=1 after=4 reason=calls wait"
