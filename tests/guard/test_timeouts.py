"""Run timeouts and slow calls, under a clock and timers that the test moves by hand."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor import (
    RetryPolicy,
    Token,
    TokenGateExecutor,
    TokenKilledError,
    TokenState,
    TokenTimeoutError,
    current_token,
)

if TYPE_CHECKING:
    from tests.guard.conftest import ByHand


class InTurn:
    """A call that is another one each time it is run."""

    def __init__(self, *calls: Stuck) -> None:
        self.calls = iter(calls)

    def __call__(self) -> object:
        """Run the next."""
        return next(self.calls)()


class Stuck:
    """A call that stays until it is let go, each time it is run, and then returns or raises."""

    def __init__(self, outcome: object = 7) -> None:
        self.outcome = outcome
        self.started = threading.Semaphore(0)
        self.release = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, *_: object) -> object:
        """Stay."""
        self.threads.append(threading.current_thread())
        self.started.release()
        stay_here(self.release)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def wait_until_started(self) -> None:
        """Wait for the next run."""
        assert self.started.acquire(timeout=30)


def stay_here(release: threading.Event) -> None:
    """Be the line that a live stack shows."""
    release.wait(30)


@contextmanager
def letting_go(*calls: Stuck) -> Iterator[None]:
    """In the end let the calls end, whatever happened."""
    try:
        yield
    finally:
        for call in calls:
            call.release.set()


def until_late(executor: TokenGateExecutor, calls: int) -> None:
    """Wait for so many calls to have ended after their time."""
    while sum(worker.late for worker in executor._crew.workers) < calls:
        pass
    while executor.statistics().abandoned:
        pass


@pytest.fixture
def one(by_hand: ByHand) -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker, whose calls may run for five seconds."""
    with by_hand.executor(1, timeout=5) as executor:
        yield executor


# -- the token -------------------------------------------------------------------------------------


def test_fails_on_time(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """At the moment, not when the call ends: with an error that says what it was."""
    call = Stuck()
    with letting_go(call):
        token = one.options(operation="red").submit(call)
        call.wait_until_started()
        timer = by_hand.next()
        assert timer.delay == 5.0
        timer.fire()
        assert token.state is TokenState.TIMEOUT
        assert token.settled_at == 1005.0
        error = token.exception(0)
        assert isinstance(error, TokenTimeoutError)
        assert isinstance(error, FutureTimeoutError)
        assert str(error) == "red ran for longer than 5 s (timeout)"
        assert (error.operation, error.timeout, error.queue_timeout) == ("red", 5, None)
        assert error.__traceback__ is None
        assert not token.cancel()


def test_the_time_begins_with_the_call(by_hand: ByHand) -> None:
    """What it waited in the queue does not count; the option goes before the executor's."""
    with by_hand.executor(1, timeout=5) as executor:
        executor.pause()
        token = executor.options(timeout=2).submit(int)
        by_hand.now += 100
        executor.resume()
        assert token.result(30) == 0
        assert by_hand.next().when == 1102.0


def test_a_call_that_ends_in_time(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Its timer comes to nothing."""
    token = one.submit(int)
    assert token.result(30) == 0
    by_hand.next().fire()
    assert token.state is TokenState.COMPLETED
    assert by_hand.is_unset
    now = one.statistics()
    assert (now.completed, now.timed_out, now.abandoned) == (1, 0, 0)


def test_one_timer_for_many_calls(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """A call that ends in time costs no timer of its own."""
    for _ in range(20):
        one.submit(int).result(30)
    by_hand.next()
    assert by_hand.is_unset


def test_callbacks_and_waiters(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Everybody is told at the moment, and once."""
    call = Stuck()
    told: list[object] = []
    raised: list[BaseException | None] = []
    with letting_go(call):
        token = one.submit(call)
        token.add_done_callback(told.append)
        waiter = threading.Thread(target=lambda: raised.append(token.exception(30)))
        waiter.start()
        call.wait_until_started()
        by_hand.next().fire()
        waiter.join(30)
        assert told == [token]
        assert isinstance(raised[0], TokenTimeoutError)
        assert wait([token], 0).done == {token}
    until_late(one, 1)
    assert told == [token]


@pytest.mark.parametrize("outcome", [7, ValueError("late"), SystemExit(1)])
def test_a_late_outcome_is_dropped(
    outcome: object,
    one: TokenGateExecutor,
    by_hand: ByHand,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the call comes to: the token stays as it is, the worker goes on, and it is logged."""
    caplog.set_level(logging.INFO)
    call = Stuck(outcome)
    with letting_go(call):
        token = one.options(operation="red").submit(call)
        call.wait_until_started()
        by_hand.next().fire()
        error = token.exception(0)
    until_late(one, 1)
    assert token.exception(0) is error
    assert token.state is TokenState.TIMEOUT
    assert "a call of red ended after its time; what it came to is dropped" in caplog.text
    assert one.submit(threading.current_thread).result(30).is_alive()
    now = one.statistics()
    assert (now.timed_out, now.completed, now.failed, now.submitted) == (1, 1, 0, 2)


def test_a_call_that_heeds_it(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """It finds that it was killed, and may end soon; that changes nothing for the token."""
    started, checked = threading.Event(), threading.Event()
    release = threading.Event()

    def work() -> None:
        here = current_token()
        assert here is not None
        started.set()
        release.wait(30)
        assert here.kill_requested
        try:
            here.checkpoint()
        except TokenKilledError:
            checked.set()
            raise

    token = one.submit(work)
    assert started.wait(30)
    requested = [token.kill_requested]
    by_hand.next().fire()
    requested.append(token.kill_requested)
    assert requested == [False, True]
    release.set()
    assert checked.wait(30)
    until_late(one, 1)
    assert token.state is TokenState.TIMEOUT
    now = one.statistics()
    assert (now.timed_out, now.cancelled) == (1, 0)


# -- what is seen ----------------------------------------------------------------------------------


def test_statistics_and_the_log(
    one: TokenGateExecutor, by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted as timed out and abandoned, and logged with the stack of its thread."""
    call = Stuck()
    with letting_go(call):
        one.options(operation="red").submit(call)
        call.wait_until_started()
        now = one.statistics()
        assert (now.executing, now.abandoned) == (1, 0)
        by_hand.next().fire()
        now = one.statistics()
        assert (now.timed_out, now.abandoned, now.executing, now.submitted) == (1, 1, 0, 1)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(
            "red ran for longer than 5 s (timeout); its thread goes on, unheard\n"
        )
        assert "in stay_here" in record.getMessage()
    until_late(one, 1)
    now = one.statistics()
    assert (now.timed_out, now.abandoned, now.executing, now.submitted) == (1, 0, 0, 1)


def test_the_guard_house_sees_it(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """As a timeout, once; the late end is no outcome."""
    call = Stuck()
    with letting_go(call):
        one.options(operation="red").submit(call)
        call.wait_until_started()
        by_hand.next().fire()
    until_late(one, 1)
    outcomes = one.guard_house._outcomes()["red"]
    assert [outcome[2] for outcome in outcomes] == ["timeout"]


# -- the thread ------------------------------------------------------------------------------------


def test_another_worker_stands_in(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """The slot goes to a new worker at once, and comes back when the call ends."""
    call = Stuck()
    with letting_go(call):
        one.submit(call)
        call.wait_until_started()
        waiting = one.submit(threading.current_thread)
        timer = by_hand.next()
        assert not waiting.done()
        timer.fire()
        assert waiting.result(30) not in call.threads
        now = one.statistics()
        assert (now.workers, now.spare_workers, now.max_workers) == (2, 1, 1)
    until_late(one, 1)
    while one.statistics().workers > 1:
        pass
    assert most_at_once(one, 3) == 1


def most_at_once(executor: TokenGateExecutor, calls: int) -> int:
    """How many of so many calls run at a time, if all of them stay as long as they can."""
    executor.pause()
    call = Stuck()
    tokens = [executor.submit(call) for _ in range(calls)]
    executor.resume()
    call.wait_until_started()
    while call.started.acquire(timeout=0.05):
        pass  # one more
    running = executor.statistics().executing
    call.release.set()
    wait(tokens, 30)
    return running


def test_no_more_than_the_cap(by_hand: ByHand) -> None:
    """At `max_spare_workers` nobody stands in: what waits is run when a call has ended after all."""
    calls = [Stuck(), Stuck()]
    with letting_go(*calls), by_hand.executor(2, timeout=5, max_spare_workers=1) as executor:
        for call in calls:
            executor.submit(call)
            call.wait_until_started()
        by_hand.next().fire()
        now = executor.statistics()
        assert (now.abandoned, now.timed_out) == (2, 2)
        assert executor.submit(int).result(30) == 0  # by the one that stands in
        third = Stuck()
        token = executor.options(timeout=1e6).submit(third)
        third.wait_until_started()
        waiting = executor.submit(int)
        assert waiting.state is TokenState.WAITING
        assert executor.statistics().workers == 3
        calls[0].release.set()
        assert waiting.result(30) == 0
        third.release.set()
        assert token.result(30) == 7


def test_nobody_stands_in_at_a_cap_of_none(by_hand: ByHand) -> None:
    """The token fails on time all the same."""
    call = Stuck()
    with letting_go(call), by_hand.executor(1, timeout=5, max_spare_workers=0) as executor:
        token = executor.submit(call)
        call.wait_until_started()
        waiting = executor.submit(int)
        by_hand.next().fire()
        assert token.state is TokenState.TIMEOUT
        assert waiting.state is TokenState.WAITING
        call.release.set()
        assert waiting.result(30) == 0


def test_a_stand_in_is_cut_off_too(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Another stands in for it, and so on; when all calls have ended there is one worker as before."""
    calls = [Stuck() for _ in range(3)]
    with letting_go(*calls):
        for number, call in enumerate(calls):
            token = one.submit(call)
            call.wait_until_started()
            by_hand.next().fire()
            assert token.state is TokenState.TIMEOUT
            assert one.statistics().abandoned == number + 1
    until_late(one, 3)
    assert most_at_once(one, 4) == 1
    now = one.statistics()
    assert (now.timed_out, now.submitted) == (3, 7)


def test_the_first_of_two_that_are_cut_off_comes_back(
    one: TokenGateExecutor, by_hand: ByHand
) -> None:
    """However the calls end, no more run at a time than may."""
    first, second = Stuck(), Stuck()
    with letting_go(first, second):
        for call in (first, second):
            one.submit(call)
            call.wait_until_started()
            by_hand.next().fire()
        first.release.set()
        while sum(worker.late for worker in one._crew.workers) < 1:
            pass
        while one.statistics().abandoned > 1:
            pass
        assert most_at_once(one, 4) == 1


def test_nobody_stands_in_for_one_that_is_to_leave(by_hand: ByHand) -> None:
    """A worker that `resize` has let go has no slot to give."""
    calls = [Stuck(), Stuck()]
    with letting_go(*calls), by_hand.executor(2, lanes=1, timeout=5) as executor:
        for call in calls:
            executor.submit(call)
            call.wait_until_started()
        executor.resize(1)
        by_hand.next().fire()
        assert most_at_once(executor, 4) == 1


def test_the_moment_of_its_end(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """A call that ends at that very moment ends in one of the two ways, and its worker lives."""
    crew = one._crew
    abandon, come_back = crew.abandon, crew.come_back
    call = Stuck()
    has_ended = threading.Event()
    died: list[BaseException] = []

    def abandon_late(*args: Any) -> Any:
        call.release.set()
        assert has_ended.wait(30)
        return abandon(*args)

    def come_back_and_tell(worker: Any) -> None:
        try:
            come_back(worker)
        except IndexError as error:  # which would be the end of the thread
            died.append(error)
        finally:
            has_ended.set()

    crew.abandon, crew.come_back = abandon_late, come_back_and_tell  # type: ignore[method-assign, assignment]
    token = one.submit(call)
    token.add_done_callback(lambda _: has_ended.set())
    call.wait_until_started()
    by_hand.next().fire()
    wait([token], 30)
    assert not died


# -- with the others -------------------------------------------------------------------------------

AGAIN = RetryPolicy(3, TimeoutError, delay=1, jitter=None)


def test_tried_again(by_hand: ByHand) -> None:
    """The next attempt has another thread and all of the time; what the first came to is dropped."""
    first = threading.Event()
    started = threading.Semaphore(0)
    runs: list[None] = []

    def work() -> str:
        runs.append(None)
        number = len(runs)
        started.release()
        if number == 1:
            first.wait(30)
        return f"of attempt {number}"

    with by_hand.executor(1, timeout=5, retry=AGAIN) as executor:
        token = executor.submit(work)
        assert started.acquire(timeout=30)
        by_hand.next().fire()
        assert token.state is TokenState.RETRYING
        assert not token.kill_requested
        now = executor.statistics()
        assert (now.retrying, now.abandoned, now.timed_out, now.submitted) == (1, 1, 0, 1)
        by_hand.next().fire()
        assert token.result(30) == "of attempt 2"
        first.set()
        until_late(executor, 1)
        assert token.result(0) == "of attempt 2"
    now = executor.statistics()
    assert (now.completed, now.retries, now.timed_out, now.submitted) == (1, 1, 0, 1)


def test_a_late_outcome_while_it_runs_again(by_hand: ByHand) -> None:
    """Neither its result nor its end is taken for the second attempt's."""
    outcomes = [Stuck("first"), Stuck("second")]
    with letting_go(*outcomes), by_hand.executor(1, timeout=5, retry=AGAIN) as executor:
        token = executor.submit(InTurn(*outcomes))
        outcomes[0].wait_until_started()
        by_hand.next().fire()
        by_hand.next().fire()
        outcomes[1].wait_until_started()
        outcomes[0].release.set()
        until_late(executor, 1)
        assert token.running()
        assert executor.statistics().executing == 1
        outcomes[1].release.set()
        assert token.result(30) == "second"


def test_every_attempt_is_cut_off(by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """Each on its own thread, each logged with its own stack; in the end the token times out, once."""
    calls = [Stuck() for _ in range(3)]
    with letting_go(*calls), by_hand.executor(1, timeout=5, retry=AGAIN) as executor:
        token = executor.submit(InTurn(*calls))
        moments = []
        for number, call in enumerate(calls):
            call.wait_until_started()
            moments.append(by_hand.next())
            moments[-1].fire()
            abandoned = [worker.abandoned for worker in executor._crew.workers]
            assert abandoned == [1] * (number + 1) + [0]
            if number < 2:
                moments.append(by_hand.next())
                moments[-1].fire()
        assert [timer.when - 1000 for timer in moments] == [5, 6, 11, 13, 18]
        error = token.exception(0)
        assert isinstance(error, TokenTimeoutError)
        assert len(error.__notes__) == 2
        assert error.__notes__[0].startswith("attempt 1: TokenTimeoutError: ")
        now = executor.statistics()
        assert (now.timed_out, now.abandoned, now.retries, now.submitted) == (1, 3, 2, 1)
        assert len({call.threads[0] for call in calls}) == 3
        for call in reversed(calls):
            call.release.set()
        until_late(executor, 3)
        assert most_at_once(executor, 3) == 1
    assert executor.statistics().submitted == 4
    assert caplog.text.count("its thread goes on, unheard") == 3


def test_the_key_of_a_call_that_was_cut_off(by_hand: ByHand) -> None:
    """Calls of a key run one at a time: the next begins when this one has really ended."""
    call = Stuck()
    with letting_go(call), by_hand.executor(2, timeout=5, limits={"db": 2}) as executor:
        view = executor.options(key="key", limits=("db",))
        token = view.submit(call)
        following = view.submit(int)
        call.wait_until_started()
        by_hand.next().fire()
        assert token.state is TokenState.TIMEOUT
        assert executor.options(key="other").submit(int).result(30) == 0
        assert following.state is TokenState.WAITING
        assert executor.statistics().limits["db"].used == 1
        call.release.set()
        assert following.result(30) == 0
    assert executor.statistics().limits["db"].used == 0


class Interruption(logging.Filter):
    """Has a call end while it is logged that it was cut off."""

    def __init__(self, executor: TokenGateExecutor, call: Stuck) -> None:
        super().__init__()
        self.executor = executor
        self.call = call

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the call go, and wait for its end."""
        if "its thread goes on" in record.getMessage():
            self.call.release.set()
            until_late(self.executor, 1)
        return True


def test_the_key_of_a_call_that_ends_as_it_is_cut_off(by_hand: ByHand) -> None:
    """Whichever comes first, the end of the call or that of its token: the key is free after both."""
    call = Stuck()
    logger = logging.getLogger("tokengate_executor")
    with letting_go(call), by_hand.executor(2, timeout=5, limits={"db": 1}) as executor:
        view = executor.options(key="key", limits=("db",))
        interruption = Interruption(executor, call)
        logger.addFilter(interruption)
        try:
            token = view.submit(call)
            following = view.submit(int)
            call.wait_until_started()
            by_hand.next().fire()
        finally:
            logger.removeFilter(interruption)
        assert token.state is TokenState.TIMEOUT
        try:
            assert following.result(5) == 0
        finally:
            following.cancel()


def test_shutdown_does_not_wait_for_it(by_hand: ByHand) -> None:
    """But for all else: what runs, and what waits, also for another attempt."""
    call, other = Stuck(), Stuck("other")
    again = [TimeoutError()]

    def work() -> str:
        if again:
            raise again.pop()
        return "again"

    with letting_go(call, other):
        executor = by_hand.executor(1, timeout=5)
        token = executor.submit(call)
        call.wait_until_started()
        by_hand.next().fire()
        retried = executor.options(retry=AGAIN).submit(work)
        retry = by_hand.next()
        while retry.when - by_hand.now != 1.0:
            retry = by_hand.next()  # that of the watchdog
        running = executor.options(timeout=1e6).submit(other)
        other.wait_until_started()
        waiting = executor.submit(int)
        stopper = threading.Thread(target=executor.shutdown)
        stopper.start()
        other.release.set()
        assert running.result(30) == "other"
        assert waiting.result(30) == 0
        assert stopper.is_alive()
        retry.fire()
        stopper.join(30)
        assert not stopper.is_alive()
        assert retried.result(0) == "again"
        assert token.state is TokenState.TIMEOUT
        assert call.threads[0].is_alive()
    call.threads[0].join(30)
    now = executor.statistics()
    assert (now.submitted, now.abandoned, now.workers) == (4, 0, 0)


def test_shutdown_at_the_cap(by_hand: ByHand) -> None:
    """Where nobody stands in, what waits is still run by the call's own thread, and waited for."""
    call = Stuck()
    with letting_go(call):
        executor = by_hand.executor(1, timeout=5, max_spare_workers=0)
        executor.submit(call)
        call.wait_until_started()
        waiting = executor.submit(int)
        by_hand.next().fire()
        executor.shutdown(wait=False)
        call.release.set()
        assert waiting.result(30) == 0
        executor.shutdown()


def test_shutdown_while_it_runs(by_hand: ByHand) -> None:
    """Who waits for its thread is told when it is given up."""
    call = Stuck()
    with letting_go(call):
        executor = by_hand.executor(1, timeout=5)
        token = executor.submit(call)
        call.wait_until_started()
        timer = by_hand.next()
        stopper = threading.Thread(target=executor.shutdown)
        stopper.start()
        while not executor._crew._joiners:
            pass
        timer.fire()
        stopper.join(30)
        assert not stopper.is_alive()
        assert token.state is TokenState.TIMEOUT
    call.threads[0].join(30)


def test_at_exit_nobody_waits_for_it() -> None:
    """The interpreter ends though the call does not; what waits is run before."""
    script = """
import logging, threading
from tokengate_executor import TokenGateExecutor
logging.disable()
executor = TokenGateExecutor(1)
stuck = executor.options(timeout=0.01).submit(threading.Event().wait)
executor.submit(print, " waited ", end="")  # in one piece, as both print at once
print(f" {type(stuck.exception(30)).__name__} ", end="", flush=True)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(ended.stdout.split()) == ["TokenTimeoutError", "waited"]


def test_it_is_in_the_history(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """As what it has come to, on the worker that still runs it."""
    call = Stuck()
    with letting_go(call):
        token = one.submit(call)
        call.wait_until_started()
        by_hand.next().fire()
        assert isinstance(token.exception(30), TokenTimeoutError)
        (record,) = one.history()
    assert (record.state, record.error) == (TokenState.TIMEOUT, "TokenTimeoutError")
    assert (record.token_id, record.worker, record.attempts) == (token.id, 1, 1)
    assert not record.success


def test_drain_does_not_wait_for_it(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """When it is cut off the drain is complete."""
    call = Stuck()
    with letting_go(call):
        token = one.submit(call)
        call.wait_until_started()
        timer = by_hand.next()
        reports: list[bool] = []
        drainer = threading.Thread(target=lambda: reports.append(one.drain(30).is_complete))
        drainer.start()
        while not one._gate.watchers:
            pass
        timer.fire()
        drainer.join(30)
        assert reports == [True]
        assert token.done()
        one.resume()


def test_drain_reports_an_attempt_once(by_hand: ByHand) -> None:
    """A token that runs again is one token, though an earlier attempt is still on its thread."""
    calls = [Stuck(), Stuck()]
    with letting_go(*calls), by_hand.executor(1, timeout=5, retry=AGAIN) as executor:
        token = executor.submit(InTurn(*calls))
        calls[0].wait_until_started()
        by_hand.next().fire()
        by_hand.next().fire()
        calls[1].wait_until_started()
        left = executor.drain(timeout=0).left
        executor.resume()
        for call in calls:
            call.release.set()
        assert [one.token_id for one in left] == [token.id]


# -- inside calls ------------------------------------------------------------------------------------


def test_a_child_is_cut_off(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Whoever waits for it goes on: it runs on a thread of its own."""
    call = Stuck()

    def parent() -> str:
        return type(one.options(timeout=2).submit(call).exception()).__name__

    with letting_go(call):
        token = one.options(timeout=1e6).submit(parent)
        call.wait_until_started()
        while not by_hand.is_unset:
            by_hand.next()
        by_hand.now += 2
        one._recovery.watchdog._look()
        assert token.result(30) == "TokenTimeoutError"
    until_late(one, 1)
    now = one.statistics()
    assert (now.completed, now.timed_out, now.submitted) == (1, 1, 2)


def test_a_parent_is_cut_off(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """While it waits for its child; the child goes on, and so does who waits otherwise."""
    call = Stuck("child")
    children: list[Token[Any]] = []

    def parent() -> object:
        children.append(one.options(timeout=1e6).submit(call))
        return children[0].result()

    with letting_go(call):
        token = one.submit(parent)
        call.wait_until_started()
        by_hand.next().fire()
        assert token.state is TokenState.TIMEOUT
        assert children[0].running()
        assert one.submit(int).result(30) == 0
        call.release.set()
        assert children[0].result(30) == "child"
    until_late(one, 1)
    assert most_at_once(one, 3) == 1


def test_shutdown_waits_for_a_child_inside_a_parent_that_was_cut_off(by_hand: ByHand) -> None:
    """The child's time is not over: it is not abandoned, wherever it runs."""
    call = Stuck("child")
    children: list[Token[Any]] = []
    with letting_go(call):
        executor = by_hand.executor(1)

        def parent() -> object:
            children.append(executor.submit(call))
            return children[0].result()

        token = executor.options(timeout=5).submit(parent)
        call.wait_until_started()
        assert call.threads[0] in executor._threads
        by_hand.next().fire()
        assert token.state is TokenState.TIMEOUT
        stopper = threading.Thread(target=executor.shutdown)
        stopper.start()
        stopper.join(0.2)
        was_waiting = stopper.is_alive()
        call.release.set()
        stopper.join(30)
        assert children[0].result(30) == "child"
    call.threads[0].join(30)
    assert was_waiting


def test_run_by_its_caller(by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """It is cut off on the caller's thread, which is not ours: nobody stands in for that."""
    held, call = Stuck(), Stuck()
    tokens: list[Token[Any]] = []
    with (
        letting_go(held, call),
        by_hand.executor(1, max_pending=1, on_full="caller_runs") as executor,
    ):
        executor.submit(held)
        held.wait_until_started()
        executor.submit(int)
        view = executor.options(timeout=5)
        caller = threading.Thread(target=lambda: tokens.append(view.submit(call)))
        caller.start()
        call.wait_until_started()
        by_hand.next().fire()
        now = executor.statistics()
        assert (now.timed_out, now.abandoned, now.executing, now.submitted) == (1, 1, 1, 3)
        assert now.spare_workers == 0
        assert "its thread goes on, unheard" in caplog.text
        call.release.set()
        caller.join(30)
        assert isinstance(tokens[0].exception(0), TokenTimeoutError)
        assert executor.statistics().abandoned == 0
        held.release.set()


# -- slow calls --------------------------------------------------------------------------------------


def test_a_slow_call_is_logged_once(by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """With its live stack and no arguments; it goes on, and its result counts."""
    call = Stuck()
    with letting_go(call), by_hand.executor(1, slow_after=5) as executor:
        token = executor.options(operation="red").submit(call, "secret")
        call.wait_until_started()
        timer = by_hand.next()
        assert timer.delay == 5.0
        by_hand.now += 5.25
        timer.fire()
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("red has been running for 5.2 s\n")
        assert "in stay_here" in record.getMessage()
        assert "secret" not in record.getMessage()
        assert by_hand.is_unset
        by_hand.now += 100
        executor._recovery.watchdog._look()
        assert len(caplog.records) == 1
        call.release.set()
        assert token.result(30) == 7
        now = executor.statistics()
        assert (now.completed, now.abandoned, now.timed_out) == (1, 0, 0)


def test_a_quick_call_is_not_logged(by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """The moment comes, and it is over."""
    with by_hand.executor(1) as executor:
        assert executor.options(slow_after=5).submit(int).result(30) == 0
        by_hand.next().fire()
        assert executor.submit(int).result(30) == 0
    assert not caplog.records
    assert by_hand.is_unset


def test_slow_first_and_then_too_late(by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """With both options, each at its moment."""
    call = Stuck()
    with letting_go(call), by_hand.executor(1, slow_after=2, timeout=5) as executor:
        token = executor.submit(call)
        call.wait_until_started()
        by_hand.next().fire()
        assert not token.done()
        assert by_hand.now == 1002.0
        by_hand.next().fire()
        assert token.done()
        assert by_hand.now == 1005.0
        first, second = (record.getMessage().splitlines()[0] for record in caplog.records)
        assert "has been running for 2.0 s" in first
        assert "ran for longer than 5 s" in second


def test_each_attempt_may_be_slow(by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each, with the stack of its own thread."""
    calls = [Stuck(TimeoutError()), Stuck()]
    with letting_go(*calls), by_hand.executor(1, slow_after=5, retry=AGAIN) as executor:
        token = executor.submit(InTurn(*calls))
        for call in calls:
            call.wait_until_started()
            by_hand.next().fire()
            call.release.set()
            if call is calls[0]:
                by_hand.next().fire()
        assert token.result(30) == 7
    assert caplog.text.count("has been running for 5.0 s") == 2


# -- at the end of the executor, and beside the end of the call --------------------------------------


def test_the_timers_go_on_for_one_that_is_tried_again(
    by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off while its executor ends: nothing is over before its last attempt is."""
    calls = [Stuck("first"), Stuck("second")]
    closed: list[TokenState] = []
    with letting_go(*calls):
        executor = by_hand.executor(1, timeout=5, retry=AGAIN)
        token = executor.submit(InTurn(*calls))
        monkeypatch.setattr(by_hand, "close", lambda: closed.append(token.state))
        calls[0].wait_until_started()
        executor.shutdown(wait=False)
        by_hand.next().fire()
        assert token.state is TokenState.RETRYING
        assert closed == []
        by_hand.next().fire()
        calls[1].wait_until_started()
        calls[1].release.set()
        assert token.result(10) == "second"
        executor.shutdown()
        assert set(closed) == {TokenState.COMPLETED}
        assert calls[0].threads[0].is_alive()
    calls[0].threads[0].join(30)


def test_it_ends_as_it_is_given_up(
    one: TokenGateExecutor, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is waited for again, whatever was still to be done about that it was not."""
    crew = one._crew
    come_back = crew.come_back
    lock = crew._lock
    call = Stuck()
    is_back = threading.Event()

    def come_back_and_tell(worker: Any) -> None:
        come_back(worker)
        is_back.set()

    class Lock:
        """The crew's; the call ends just after it was let go of for the first time."""

        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()
            if not call.release.is_set():
                call.release.set()
                assert is_back.wait(10)

    monkeypatch.setattr(crew, "come_back", come_back_and_tell)
    token = one.submit(call)
    call.wait_until_started()
    timer = by_hand.next()
    monkeypatch.setattr(crew, "_lock", Lock())
    timer.fire()
    monkeypatch.setattr(crew, "_lock", lock)
    assert token.state is TokenState.TIMEOUT
    assert call.threads[0] in crew._running
    assert crew.threads[0] is call.threads[0]


def test_a_parent_that_was_cut_off_is_waited_for_no_longer_than_its_child(by_hand: ByHand) -> None:
    """Once the child inside it has come to its end, nobody waits for its thread any more."""
    child, parent = Stuck("child"), Stuck()
    threads: list[threading.Thread] = []
    with letting_go(child, parent):
        executor = by_hand.executor(1)

        def run() -> None:
            executor.submit(child).result()
            parent()

        token = executor.options(timeout=5).submit(run)
        child.wait_until_started()
        threads += child.threads
        assert threads[0] in executor._crew._running
        by_hand.next().fire()
        assert token.state is TokenState.TIMEOUT
        assert threads[0] in executor._crew._running
        stopper = threading.Thread(target=executor.shutdown)
        stopper.start()
        child.release.set()
        parent.wait_until_started()
        stopper.join(10)
        assert not stopper.is_alive()
        assert parent.threads == threads
        assert threads[0].is_alive()
    threads[0].join(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork: no child to look at")
def test_it_forks_after_it_was_cut_off() -> None:
    """In the child, as in the parent, it ends unheard, and the executor works and can be shut down."""
    script = """
import logging, os, signal, threading
from tokengate_executor import TokenGateExecutor
logging.disable()
executor = TokenGateExecutor(2)
is_over = threading.Event()
statuses = []

def fork():
    assert is_over.wait(10)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        print(executor.options(timeout=1000).submit(pow, 2, 3).result(5), flush=True)
        executor.shutdown(wait=False)
        return  # and with this thread the process ends
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    has_forked.set()

has_forked = threading.Event()
token = executor.options(timeout=0.001).submit(fork)
print(type(token.exception(10)).__name__, flush=True)
is_over.set()
assert has_forked.wait(15)
print(statuses, executor.submit(pow, 3, 2).result(10), flush=True)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split() == ["TokenTimeoutError", "8", "[0]", "9"]
