"""Retries from end to end, under a clock, timers and dice that the tests move by hand."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor import (
    BreakerPolicy,
    ForkedError,
    RetryBudget,
    RetryPolicy,
    Token,
    TokenGateExecutor,
    TokenKilledError,
    TokenState,
    current_token,
)

if TYPE_CHECKING:
    from tests.guard.conftest import ByHand

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

PLAIN = RetryPolicy(3, ValueError, delay=0.5, jitter=None)
"""Two retries, after half a second and after another whole one."""


class Flaky:
    """A call that raises the given errors, one each time it is run, and then returns its number."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0

    def __call__(self, *_: object) -> int:
        """Raise the next error, or return how many times it was run."""
        self.runs += 1
        if len(self.errors) >= self.runs:
            raise self.errors[self.runs - 1]
        return self.runs


class Held:
    """A call that has started and stays until it is let go."""

    def __init__(self, executor: TokenGateExecutor) -> None:
        self.release = threading.Event()
        started = threading.Event()

        def stay() -> int:
            started.set()
            self.release.wait(30)
            return 7

        self.token = executor.submit(stay)
        assert started.wait(30)


def quiet(executor: TokenGateExecutor) -> None:
    """Have every worker come to the end of what it does: a call settles before its worker is free."""
    assert executor.drain(timeout=30).is_complete
    executor.resume()


@pytest.fixture
def one(by_hand: ByHand) -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker, whose calls are tried three times."""
    with by_hand.executor(1, retry=PLAIN) as executor:
        yield executor
        by_hand.fire_all()


# -- schedules -------------------------------------------------------------------------------------


def test_every_delay_of_the_schedule(by_hand: ByHand) -> None:
    """Each is the one before times the factor, up to the longest; the last attempt's result counts."""
    policy = RetryPolicy(6, ValueError, delay=0.5, factor=3, max_delay=10, jitter=None)
    with by_hand.executor(2) as executor:
        call = Flaky(*(ValueError(number) for number in range(5)))
        token = executor.options(retry=policy).submit(call)
        delays = []
        for attempts in range(1, 6):
            timer = by_hand.next()
            assert token.attempts == attempts
            delays.append(timer.delay)
            timer.fire()
        assert token.result(30) == 6
    assert delays == [0.5, 1.5, 4.5, 10.0, 10.0]
    assert by_hand.is_unset
    assert token.attempts == call.runs == 6


@pytest.mark.parametrize(
    ("jitter", "delays"),
    [
        ("full", [0.0, 2.0 * 0.25, 4.0 * 0.75]),
        ("equal", [0.5, 1.0 + 1.0 * 0.25, 2.0 + 2.0 * 0.75]),
        (None, [1.0, 2.0, 4.0]),
    ],
)
def test_jitter(jitter: Any, delays: list[float], by_hand: ByHand) -> None:
    """What is drawn decides how much of each delay is waited."""
    with by_hand.executor(1) as executor:
        executor._recovery.draw = iter([0.0, 0.25, 0.75]).__next__
        policy = RetryPolicy(4, ValueError, delay=1, jitter=jitter)
        token = executor.options(retry=policy).submit(Flaky(*[ValueError()] * 3))
        waited = []
        for _ in range(3):
            timer = by_hand.next()
            waited.append(timer.delay)
            timer.fire()
        assert token.result(30) == 4
    assert waited == delays


def test_a_delay_begins_when_the_attempt_has_ended(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Not when it started: a long call is not followed by its next attempt at once."""

    def work() -> None:
        by_hand.now += 60
        raise ValueError

    token = one.submit(work)
    assert by_hand.next().when == 1000.0 + 60 + 0.5
    assert token.cancel()


def test_executors_policy_and_an_options_own(by_hand: ByHand) -> None:
    """The executor's holds where a call says nothing of it; what a call says goes before."""
    with by_hand.executor(1, retry=PLAIN) as executor:
        token = executor.submit(Flaky(ValueError()))
        by_hand.next().fire()
        assert token.result(30) == 2
        once = executor.options(retry=RetryPolicy(1, ValueError)).submit(Flaky(ValueError()))
        assert isinstance(once.exception(30), ValueError)
        other = executor.options(retry=RetryPolicy(2, OSError)).submit(Flaky(ValueError()))
        assert isinstance(other.exception(30), ValueError)
        named = executor.options(operation="named").submit(Flaky(ValueError()))
        by_hand.next().fire()
        assert named.result(30) == 2
    assert by_hand.is_unset


def test_a_budgets_and_a_policys_defaults() -> None:
    """The documented schedule: a tenth of a second, doubled, at most thirty, full jitter, a budget."""
    policy = RetryPolicy(3, ValueError)
    assert (policy.delay, policy.factor, policy.max_delay) == (0.1, 2, 30)
    assert (policy.jitter, policy.timeout, policy.budget) == ("full", None, RetryBudget())


def test_no_attempt_begins_after_the_policys_timeout(by_hand: ByHand) -> None:
    """Where the next attempt would begin too late, the error at hand is the final one, and says so."""
    policy = RetryPolicy(9, ValueError, delay=1, jitter=None, timeout=3)
    with by_hand.executor(1) as executor:
        call = Flaky(*[ValueError("no")] * 9)
        token = executor.options(retry=policy).submit(call)
        by_hand.next().fire()  # at 1 s
        by_hand.next().fire()  # at 3 s, which is just in time
        error = token.exception(30)
    assert call.runs == 3
    assert error is not None
    assert "not tried again: 3 s (timeout) would be over" in error.__notes__


def test_on_may_be_a_function(by_hand: ByHand) -> None:
    """It is asked once for each error, and decides."""
    asked: list[BaseException] = []

    def is_worth_it(error: BaseException) -> bool:
        asked.append(error)
        return str(error) == "again"

    errors = [ValueError("again"), OSError("no more")]
    with by_hand.executor(1, retry=RetryPolicy(9, is_worth_it)) as executor:
        token = executor.submit(Flaky(*errors))
        by_hand.next().fire()
        assert token.exception(30) is errors[1]
    assert asked == errors


@pytest.mark.parametrize("raised", [LookupError("broken"), SystemExit(3)])
def test_on_may_fail(
    raised: BaseException, one: TokenGateExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the function raises: the error is final, that is logged, and the worker lives."""

    def is_worth_it(_: BaseException) -> bool:
        raise raised

    error = ValueError()
    token = one.options(retry=RetryPolicy(3, is_worth_it)).submit(Flaky(error))
    assert token.exception(30) is error
    assert "the retry policy of" in caplog.text
    assert one.submit(int).result(30) == 0


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()],
    ids=lambda error: type(error).__name__,
)
def test_what_asks_to_end_is_never_retried(error: BaseException, by_hand: ByHand) -> None:
    """Not even by a policy for every exception there is, nor by a function that says yes."""
    for on in (BaseException, lambda _: True):
        by_hand.made.clear()
        with by_hand.executor(1, retry=RetryPolicy(3, on)) as executor:
            call = Flaky(error)
            assert executor.submit(call).exception(30) is error
        assert call.runs == 1
    assert by_hand.is_unset


# -- the token -------------------------------------------------------------------------------------


def test_the_same_token_settles_once(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Whoever waits for it, in whatever way, is told of the last result, once."""
    token = one.submit(Flaky(ValueError(), ValueError()))
    told: list[object] = []
    token.add_done_callback(lambda settled: told.append(settled.result()))
    waited: list[int] = []
    waiter = threading.Thread(target=lambda: waited.append(token.result(30)))
    waiter.start()
    for _ in range(2):
        timer = by_hand.next()
        assert not told
        assert not wait([token], 0, FIRST_COMPLETED).done
        timer.fire()
    waiter.join(30)
    assert waited == [3]
    quiet(one)
    assert told == [3]
    assert token.state is TokenState.COMPLETED


def test_while_it_waits(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """It is RETRYING, pending to the standard library, and counted as such; no worker is held."""
    token = one.submit(Flaky(ValueError()))
    timer = by_hand.next()
    assert token.state is TokenState.RETRYING
    assert not token.running()
    assert not token.done()
    assert token.attempts == 1
    assert token.lane is None
    assert one.submit(int).result(30) == 0
    now = one.statistics()
    assert (now.retrying, now.executing, now.waiting) == (1, 0, 0)
    assert (now.retries, now.failed, now.completed, now.submitted) == (1, 0, 1, 2)
    timer.fire()
    assert token.result(30) == 2
    now = one.statistics()
    assert (now.retrying, now.completed, now.submitted, now.retries) == (0, 2, 2, 1)


def test_history_has_the_last_attempt(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """A token is one line of it, with the number of its attempts."""
    token = one.submit(Flaky(ValueError()))
    by_hand.next().fire()
    token.result(30)
    assert [(record.state, record.attempts) for record in one.history()] == [
        (TokenState.COMPLETED, 2)
    ]


def test_earlier_errors_are_notes(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """A line for each, in order, on the final exception; long texts are cut."""
    call = Flaky(ValueError("first"), ValueError("x" * 500), ValueError("last"))
    token = one.submit(call)
    by_hand.next().fire()
    by_hand.next().fire()
    error = token.exception(30)
    assert error is call.errors[2]
    assert error.__notes__ == [
        "attempt 1: ValueError: first",
        f"attempt 2: ValueError: {'x' * 200}…",
    ]
    assert not hasattr(call.errors[0], "__notes__")


class UnspeakableError(ValueError):
    """An error whose text cannot be had."""

    def __init__(self, raised: BaseException) -> None:
        self.raised = raised

    def __str__(self) -> str:
        raise self.raised


@pytest.mark.parametrize("raised", [LookupError(), SystemExit()])
def test_an_error_without_a_text(
    raised: BaseException, one: TokenGateExecutor, by_hand: ByHand
) -> None:
    """Is noted by its type; the worker lives, and the token goes on."""
    token = one.submit(Flaky(UnspeakableError(raised), ValueError(), ValueError()))
    by_hand.next().fire()
    by_hand.next().fire()
    error = token.exception(30)
    assert error is not None
    assert error.__notes__[0] == "attempt 1: UnspeakableError: (its text cannot be had)"


@dataclass(frozen=True)
class FrozenError(ValueError):
    """An error whose attributes cannot be set."""

    number: int


def test_a_frozen_error(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """It is retried, and has its notes, as any other."""
    errors = [FrozenError(number) for number in range(3)]
    token = one.submit(Flaky(*errors))
    by_hand.next().fire()
    by_hand.next().fire()
    error = token.exception(30)
    assert error is errors[2]
    assert [note[:22] for note in error.__notes__] == [
        "attempt 1: FrozenError",
        "attempt 2: FrozenError",
    ]


def test_a_frozen_error_where_nothing_is_supervised() -> None:
    """It is its token's, as with the standard library's executor."""
    assert said_by("""
import dataclasses

@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    number: int

def work():
    raise FrozenError(7)

token = TokenGateExecutor(1).submit(work)
try:
    say(token.exception(1))
except TimeoutError:
    os._exit(9)
""") == ["7"]


def test_an_error_that_takes_no_notes(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """It is the token's all the same."""
    last = ValueError()
    last.__notes__ = ("mine",)  # type: ignore[assignment]
    token = one.submit(Flaky(ValueError(), ValueError(), last))
    by_hand.next().fire()
    by_hand.next().fire()
    assert token.exception(30) is last
    assert one.submit(int).result(30) == 0


def test_traceback_has_no_frame_of_ours(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """It begins in the call, on whichever attempt."""

    def work() -> None:
        raise ValueError

    token = one.submit(work)
    by_hand.next().fire()
    by_hand.next().fire()
    error = token.exception(30)
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["work"]
    assert error.__context__ is None


class Argument:
    """What a weak reference can be made to."""


class OwnError(ValueError):
    """And an error to which one can."""


def fail(*_: object) -> None:
    """Raise an error that nobody else has."""
    raise ValueError


def test_the_call_is_let_go_of(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Arguments and errors of earlier attempts are free once the token is settled."""
    errors: list[weakref.ref[BaseException]] = []

    def work(_: Argument) -> int:
        error = OwnError()
        errors.append(weakref.ref(error))
        if len(errors) < 3:
            raise error
        return len(errors)

    argument = Argument()
    free = weakref.ref(argument)
    token = one.submit(work, argument)
    del argument
    by_hand.next().fire()
    timer = by_hand.next()
    assert free() is not None
    timer.fire()
    assert token.result(30) == 3
    quiet(one)
    del timer
    gc.collect()  # an error and its own frame are a ring
    assert free() is None
    assert [ref() for ref in errors] == [None, None, None]


def test_a_failure_is_free_of_what_was_before(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Nothing but the token holds the last error, and nothing holds those before it."""
    token = one.submit(Flaky())
    assert token.result(30) == 1
    references: list[weakref.ref[BaseException]] = []

    def work() -> None:
        error = OwnError()
        references.append(weakref.ref(error))
        raise error

    failing = one.submit(work)
    by_hand.next().fire()
    by_hand.next().fire()
    assert failing.exception(30) is references[2]()
    quiet(one)
    gc.collect()  # an error and its own frame are a ring
    assert [ref() is None for ref in references] == [True, True, False]


def test_the_attempts_share_a_copy_of_the_submitters_context(
    one: TokenGateExecutor, by_hand: ByHand
) -> None:
    """What an attempt sets, the next one sees, as in a loop; nobody else does."""
    variable = contextvars.ContextVar("variable", default="default")
    seen: list[str] = []

    def work() -> None:
        seen.append(variable.get())
        variable.set("of an attempt")
        raise ValueError

    variable.set("of the submitter")
    token = one.submit(work)
    variable.set("later")
    by_hand.next().fire()
    by_hand.next().fire()
    token.exception(30)
    assert seen == ["of the submitter", "of an attempt", "of an attempt"]
    assert variable.get() == "later"


def test_awaited(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """In asyncio it resolves once, too, and cancelling the task cancels it between attempts."""

    async def main() -> int:
        token = one.submit(Flaky(ValueError()))
        task = asyncio.ensure_future(token)
        await asyncio.sleep(0)
        timer = await asyncio.to_thread(by_hand.next)
        timer.fire()
        number = await task
        given_up = one.submit(Flaky(ValueError()))

        async def waits() -> None:
            await given_up

        waiting = asyncio.create_task(waits())
        await asyncio.sleep(0)
        await asyncio.to_thread(by_hand.next)
        assert given_up.state is TokenState.RETRYING
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert given_up.cancelled()
        return number

    assert asyncio.run(main()) == 2


def test_map_and_arun_retry_too(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Every verb that submits has the executor's policy."""
    results = one.map(Flaky(ValueError()), [1, 2])
    by_hand.next().fire()
    assert sorted(results) == [2, 3]

    async def main() -> int:
        future = one.arun(Flaky(ValueError()))
        (await asyncio.to_thread(by_hand.next)).fire()
        return await future

    assert asyncio.run(main()) == 2


# -- cancelled, killed, purged, paused, drained, shut down while it waits ---------------------------


def test_cancelled_between_attempts(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """At once: it is settled and counted, its arguments are free, its timer does nothing."""
    argument = Argument()
    free = weakref.ref(argument)
    token = one.submit(fail, argument)
    del argument
    timer = by_hand.next()
    assert not timer.is_moot()
    quiet_statistics = one.statistics()
    assert quiet_statistics.retrying == 1
    assert token.cancel()
    assert token.cancelled()
    assert free() is None
    assert timer.is_moot()
    timer.fire()
    assert token.state is TokenState.CANCELLED
    with pytest.raises(CancelledError):
        token.result(0)
    now = one.statistics()
    assert (now.cancelled, now.retrying, now.waiting, now.submitted) == (1, 0, 0, 1)


def test_cancelled_after_it_has_come_back(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """In the queue it is as any token there."""
    call = Flaky(ValueError())
    token = one.submit(call)
    timer = by_hand.next()
    held = Held(one)
    timer.fire()
    assert token.state is TokenState.WAITING
    assert token.cancel()
    held.release.set()
    quiet(one)
    assert call.runs == 1
    now = one.statistics()
    assert (now.cancelled, now.completed, now.submitted) == (1, 1, 2)


def test_killed_between_attempts(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """By id or by operation."""
    first = one.submit(Flaky(ValueError()))
    by_hand.next()
    second = one.options(operation="red").submit(Flaky(ValueError()))
    by_hand.next()
    assert one.kill(first.id) == 1
    assert one.kill(operation="red") == 1
    for token in (first, second):
        assert token.state is TokenState.KILLED
        with pytest.raises(TokenKilledError):
            token.result(0)
    now = one.statistics()
    assert (now.cancelled, now.retrying, now.submitted) == (2, 0, 2)


def test_a_killed_call_is_not_tried_again(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Neither one that heeds it nor one that fails otherwise."""
    started, release = threading.Event(), threading.Event()

    def work(*, heeds: bool) -> None:
        started.set()
        release.wait(30)
        here = current_token()
        assert here is not None
        if heeds:
            here.checkpoint()
        raise ValueError

    for heeds, state in ((True, TokenState.KILLED), (False, TokenState.FAILED)):
        started.clear()
        release.clear()
        token = one.submit(work, heeds=heeds)
        assert started.wait(30)
        assert one.kill(token.id) == 1
        release.set()
        wait([token], 30)
        assert token.state is state
    assert by_hand.is_unset


def test_purged_between_attempts(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """It is cancelled with what waits, and counted."""
    token = one.submit(Flaky(ValueError()))
    by_hand.next()
    assert one.purge("another") == 0
    assert one.purge() == 1
    assert token.cancelled()


def test_paused_between_attempts(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """When its moment comes it waits, and runs after `resume`."""
    call = Flaky(ValueError())
    token = one.submit(call)
    timer = by_hand.next()
    one.pause()
    timer.fire()
    assert token.state is TokenState.WAITING
    assert one.statistics().waiting == 1
    assert call.runs == 1
    one.resume()
    assert token.result(30) == 2


def test_its_operation_paused_between_attempts(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Others pass it."""
    token = one.options(operation="red").submit(Flaky(ValueError()))
    timer = by_hand.next()
    one.pause("red")
    timer.fire()
    assert one.submit(int).result(30) == 0
    assert not token.done()
    one.resume("red")
    assert token.result(30) == 2


def test_drain_waits_for_it(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Whether for its next attempt or for the one that then comes."""
    token = one.submit(Flaky(ValueError(), ValueError()))
    timer = by_hand.next()
    report = one.drain(timeout=0)
    assert [(left.token_id, left.state) for left in report.left] == [
        (token.id, TokenState.RETRYING)
    ]
    reports: list[bool] = []
    drainer = threading.Thread(target=lambda: reports.append(one.drain(30).is_complete))
    drainer.start()
    timer.fire()
    by_hand.next().fire()
    drainer.join(30)
    assert reports == [True]
    assert token.result(0) == 3
    one.resume()


def test_drain_ends_when_it_is_cancelled(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Nobody waits for a moment at which nothing will happen."""
    token = one.submit(Flaky(ValueError()))
    by_hand.next()
    canceller = threading.Thread(target=token.cancel)
    canceller.start()
    assert one.drain(timeout=30).is_complete
    canceller.join(30)
    one.resume()


def test_shutdown_waits_for_it(by_hand: ByHand) -> None:
    """It gets all its attempts; nobody waits longer than that."""
    executor = by_hand.executor(2, retry=PLAIN)
    token = executor.submit(Flaky(ValueError(), ValueError()))
    timer = by_hand.next()
    stopper = threading.Thread(target=executor.shutdown)
    stopper.start()
    timer.fire()
    timer = by_hand.next()
    assert stopper.is_alive()
    timer.fire()
    stopper.join(30)
    assert not stopper.is_alive()
    assert token.result(0) == 3
    assert executor.statistics().workers == 0


def test_shutdown_ends_when_it_is_cancelled(by_hand: ByHand) -> None:
    """With the last token that was away, the idle workers end."""
    executor = by_hand.executor(2, retry=PLAIN)
    token = executor.submit(Flaky(ValueError()))
    by_hand.next()
    executor.shutdown(wait=False)
    assert token.state is TokenState.RETRYING
    assert token.cancel()
    executor.shutdown()
    assert executor.statistics().workers == 0


def test_shutdown_cancels_it(by_hand: ByHand) -> None:
    """With `cancel_futures` it is among what waits; and what runs then is not tried again."""
    executor = by_hand.executor(2, retry=PLAIN)
    token = executor.submit(Flaky(ValueError()))
    timer = by_hand.next()
    release, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(30)
        raise ValueError

    running = executor.submit(work)
    assert started.wait(30)
    executor.shutdown(wait=False, cancel_futures=True)
    assert token.cancelled()
    timer.fire()
    release.set()
    executor.shutdown()
    assert isinstance(running.exception(0), ValueError)
    assert running.attempts == 1
    now = executor.statistics()
    assert (now.submitted, now.failed, now.cancelled, now.retrying) == (2, 1, 1, 0)


def test_a_failed_initializer_fails_it(by_hand: ByHand) -> None:
    """An executor that broke tries nothing again."""
    is_broken = threading.Event()

    def begin() -> None:
        if is_broken.is_set():
            raise LookupError

    with by_hand.executor(2, initializer=begin, retry=PLAIN) as executor:
        token = executor.submit(Flaky(ValueError()))
        timer = by_hand.next()
        is_broken.set()
        held = Held(executor)
        other = executor.submit(int)  # for which the second thread is started
        wait([other], 30)
        assert "initializer failed" in str(token.exception(30))
        timer.fire()
        held.release.set()
    now = executor.statistics()
    assert now.failed + now.completed == now.submitted == 3


SCRIPT = """
import atexit, os, sys, threading, time
from tokengate_executor import *

def say(*words):
    print(*words, flush=True)

def flaky(*, runs=[]):
    runs.append(None)
    if len(runs) < 3:
        raise ValueError(len(runs))
    say("ran", len(runs))
    return len(runs)
"""


def said_by(script: str) -> list[str]:
    """Run the script in an interpreter of its own; return the lines that it printed."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT + script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not ended.stderr
    return ended.stdout.splitlines()


def test_at_exit_it_gets_its_attempts() -> None:
    """They are made before `atexit` handlers run."""
    assert said_by("""
executor = TokenGateExecutor(2, retry=RetryPolicy(3, ValueError, delay=0.05, jitter=None))
token = executor.submit(flaky)
token.add_done_callback(lambda token: say("done", token.result()))
atexit.register(say, "atexit")
say("main ends")
""") == ["main ends", "ran 3", "done 3", "atexit"]


def test_at_exit_it_is_abandoned() -> None:
    """If the executor says so, it is cancelled, however long it had to wait."""
    assert said_by("""
executor = TokenGateExecutor(
    2, exit_policy="abandon", retry=RetryPolicy(3, ValueError, delay=3600, max_delay=3600, jitter=None)
)
token = executor.submit(flaky)
token.add_done_callback(lambda token: say("done", token.state))
while token.state is not TokenState.RETRYING:
    time.sleep(0)
atexit.register(say, "atexit")
say("main ends")
""") == ["main ends", "done cancelled", "atexit"]


def test_dropped_with_its_executor() -> None:
    """Without a reference to executor or token it gets its attempts, and the threads end."""
    assert (
        said_by("""
executor = TokenGateExecutor(2, retry=RetryPolicy(3, ValueError, delay=0.05, jitter=None))
executor.submit(flaky)
del executor
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(30)
        say(thread.is_alive())
""")[0]
        == "ran 3"
    )


@needs_fork
def test_a_fork_between_attempts(by_hand: ByHand) -> None:
    """In the child it fails, and the executor works, retries too; in the parent it goes on."""
    policy = RetryPolicy(3, ValueError, delay=0.5, jitter=None, budget=RetryBudget(0, 1))
    with by_hand.executor(1, retry=policy) as executor:
        token = executor.submit(Flaky(ValueError()))
        timer = by_hand.next()
        by_hand.now += 1
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                by_hand.now += 1
                assert isinstance(token.exception(0), ForkedError)
                assert executor.statistics().submitted == 0
                again = executor.submit(Flaky(ValueError()))  # its budget is not the parent's
                by_hand.next().fire()
                assert again.result(30) == 2
                assert executor.statistics().submitted == 1
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        timer.fire()
        assert token.result(30) == 2


# -- what it holds and does not hold meanwhile ------------------------------------------------------


def test_it_keeps_its_key(by_hand: ByHand) -> None:
    """Calls of one key run in the order of their submission, whatever is tried again."""
    order: list[str] = []

    def work(name: str, failures: list[BaseException]) -> None:
        order.append(name)
        if failures:
            raise failures.pop()

    with by_hand.executor(2, retry=PLAIN) as executor:
        view = executor.options(key="key")
        view.submit(work, "first", [ValueError(), ValueError()])
        second = view.submit(work, "second", [])
        timer = by_hand.next()
        assert executor.options(key="other").submit(int).result(30) == 0
        assert second.state is TokenState.WAITING
        timer.fire()
        timer = by_hand.next()
        assert order == ["first", "first"]
        timer.fire()
        second.result(30)
    assert order == ["first", "first", "first", "second"]


@pytest.mark.parametrize("end", [Token.cancel, lambda token: token.set_result(7)])
def test_its_key_is_free_when_it_ends_meanwhile(
    end: Callable[[Token[Any]], object], by_hand: ByHand
) -> None:
    """Whoever settles it between attempts, the next of its key goes on."""
    with by_hand.executor(2, retry=PLAIN) as executor:
        view = executor.options(key="key")
        first = view.submit(Flaky(ValueError()))
        second = view.submit(int)
        by_hand.next()
        end(first)
        assert second.result(30) == 0


def test_its_key_is_free_when_it_is_settled_by_hand_as_it_runs(by_hand: ByHand) -> None:
    """A call that settles its own token and then fails is not tried again, and holds up nobody."""

    def work() -> None:
        here = current_token()
        assert here is not None
        here.set_result(5)
        raise ValueError

    with by_hand.executor(2, retry=PLAIN) as executor:
        view = executor.options(key="key")
        first = view.submit(work)
        assert view.submit(int).result(30) == 0
        assert first.result(0) == 5


def test_its_permit_is_free(by_hand: ByHand) -> None:
    """Between attempts it holds no permit of a limit, and takes one for the next attempt."""
    with by_hand.executor(2, limits={"db": 1}, retry=PLAIN) as executor:
        view = executor.options(limits=("db",))
        token = view.submit(Flaky(ValueError()))
        timer = by_hand.next()
        assert executor.statistics().limits["db"].used == 0
        release, started = threading.Event(), threading.Event()

        def work() -> None:
            started.set()
            release.wait(30)

        other = view.submit(work)
        assert started.wait(30)
        timer.fire()
        assert executor.statistics().limits["db"].used == 1
        assert executor.statistics().waiting == 1
        release.set()
        assert token.result(30) == 2
        other.result(30)
        quiet(executor)
        assert executor.statistics().limits["db"].used == 0


def test_it_bypasses_bounds(by_hand: ByHand) -> None:
    """It takes no place of those that wait, and needs none to come back."""
    with by_hand.executor(1, max_pending=1, on_full="raise", retry=PLAIN) as executor:
        token = executor.submit(Flaky(ValueError()))
        timer = by_hand.next()
        assert executor.statistics().pending == 0
        held = Held(executor)
        waiting = executor.submit(int)
        assert executor.statistics().pending == 1
        timer.fire()
        assert token.state is TokenState.WAITING
        now = executor.statistics()
        assert (now.waiting, now.pending) == (2, 1)
        held.release.set()
        assert token.result(30) == 2
        assert waiting.result(30) == 0
        quiet(executor)
        assert executor.statistics().pending == 0


def test_it_is_no_place_to_be_made(by_hand: ByHand) -> None:
    """Discarding the oldest is for those who have a place: one that came back has none to give."""
    with by_hand.executor(1, max_pending=1, on_full="discard_oldest", retry=PLAIN) as executor:
        token = executor.submit(Flaky(ValueError()))
        timer = by_hand.next()
        held = Held(executor)
        timer.fire()
        older = executor.submit(int)
        newer = executor.submit(int)
        held.release.set()
        assert newer.result(30) == 0
        assert older.cancelled()
        assert token.result(30) == 2


def test_it_goes_before_new_work(by_hand: ByHand) -> None:
    """The next free worker takes it, however much came in meanwhile and whatever is in mailboxes."""
    order: list[str] = []
    with by_hand.executor(1, retry=PLAIN) as executor:
        call = Flaky(ValueError())

        def work() -> None:
            order.append("retried")
            call()

        token = executor.submit(work)
        timer = by_hand.next()
        held = Held(executor)
        others = [executor.submit(order.append, "new") for _ in range(100)]
        timer.fire()
        held.release.set()
        token.result(30)
        wait(others, 30)
    assert order.index("retried", 1) == 1


def test_it_goes_before_what_is_in_a_mailbox(by_hand: ByHand) -> None:
    """What a lane has taken for itself, but not begun, is new work all the same."""
    order: list[str] = []
    release, started = threading.Event(), threading.Event()
    with by_hand.executor(1, retry=PLAIN) as executor:
        call = Flaky(ValueError())

        def work() -> None:
            order.append("retried")
            call()

        def stay() -> None:
            started.set()
            release.wait(30)

        held = Held(executor)
        token = executor.submit(work)
        last_held = executor.submit(stay)
        others = [executor.submit(order.append, "new") for _ in range(100)]
        held.release.set()
        timer = by_hand.next()
        assert started.wait(30)
        assert executor.statistics().lanes[0].depth > 0
        timer.fire()
        release.set()
        token.result(30)
        last_held.result(30)
        wait(others, 30)
    assert order.index("retried", 1) == 1


def test_a_sticky_line_stays_on_its_lane(by_hand: ByHand) -> None:
    """Also for the attempts after the first."""
    lanes: list[int | None] = []
    failures = [ValueError(), ValueError()]

    def work() -> None:
        here = current_token()
        assert here is not None
        lanes.append(here.lane)
        if failures:
            raise failures.pop()

    with by_hand.executor(2, lanes=2, retry=PLAIN) as executor:
        view = executor.options(key="key", sticky="lane")
        token = view.submit(work)
        last = view.submit(work)
        timer = by_hand.next()
        holding: list[Held] = []
        while lanes[0] not in {held.token.lane for held in holding}:
            holding.append(Held(executor))
        for held in holding:  # the other lane is idle, and must not take it
            if held.token.lane != lanes[0]:
                held.release.set()
                held.token.result(30)
        timer.fire()
        for held in holding:
            held.release.set()
        by_hand.next().fire()
        token.result(30)
        last.result(30)
    assert len(set(lanes)) == 1


def test_run_by_its_caller(by_hand: ByHand) -> None:
    """The first attempt is the caller's, the next ones are workers'; the counts agree."""
    threads: list[threading.Thread] = []
    failures = [ValueError(), ValueError()]

    def work() -> int:
        threads.append(threading.current_thread())
        if failures:
            raise failures.pop()
        return 5

    with by_hand.executor(1, max_pending=1, on_full="caller_runs", retry=PLAIN) as executor:
        held = Held(executor)
        waiting = executor.submit(int)
        token = executor.submit(work)
        assert threads == [threading.current_thread()]
        assert token.state is TokenState.RETRYING
        now = executor.statistics()
        assert (now.retrying, now.pending, now.executing, now.submitted) == (1, 1, 1, 3)
        by_hand.next().fire()
        held.release.set()
        by_hand.next().fire()
        assert token.result(30) == 5
        assert waiting.result(30) == 0
    assert threading.current_thread() not in threads[1:]
    now = executor.statistics()
    assert (now.completed, now.submitted, now.retries, now.pending) == (3, 3, 2, 0)


def test_a_callers_interrupt_is_the_callers(by_hand: ByHand) -> None:
    """Run by its caller, a call that is interrupted is not tried again, and the caller is told."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    policy = RetryPolicy(3, BaseException)
    with by_hand.executor(1, max_pending=1, on_full="caller_runs", retry=policy) as executor:
        held = Held(executor)
        executor.submit(int)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(interrupt)
        held.release.set()
    assert by_hand.is_unset


# -- waits inside calls ------------------------------------------------------------------------------


def test_a_call_waits_for_a_child_that_is_retried(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Run in place of the wait, or by a spare worker: the wait is for its last attempt."""
    children: list[Token[int]] = []

    def parent() -> int:
        children.append(one.submit(Flaky(ValueError(), ValueError())))
        return children[0].result()

    token = one.submit(parent)
    by_hand.next().fire()
    by_hand.next().fire()
    assert token.result(30) == 3
    now = one.statistics()
    assert (now.completed, now.submitted, now.executing) == (2, 2, 0)


def test_a_call_waits_for_a_child_that_failed_before(
    one: TokenGateExecutor, by_hand: ByHand
) -> None:
    """Its host of then is no reason to see a ring."""
    child = one.submit(Flaky(ValueError()))
    timer = by_hand.next()
    token = one.submit(child.result)
    while not one._crew.regulars[0].waits_for:
        pass
    timer.fire()
    assert token.result(30) == 2


def test_a_host_of_before_is_no_host(one: TokenGateExecutor, by_hand: ByHand) -> None:
    """Between attempts a token is nobody's: a worker that ran it may wait for whoever claims it next."""
    child = one.submit(Flaky(ValueError()))
    by_hand.next()
    assert getattr(child, "_host", None) is None
    assert child.id == child.id
    assert child.cancel()


# -- budgets -----------------------------------------------------------------------------------------


def exhaust(executor: TokenGateExecutor, by_hand: ByHand, budget: RetryBudget, calls: int) -> int:
    """Submit calls that fail, one after the other; returns how many retries they had."""
    policy = RetryPolicy(2, ValueError, jitter=None, budget=budget)
    retries = 0
    for _ in range(calls):
        call = Flaky(ValueError(), ValueError())
        token = executor.options(retry=policy).submit(call)
        while not token.done():
            with suppress(Exception):
                by_hand._timers.get(timeout=0.01).fire()
        retries += call.runs - 1
        error = token.exception(0)
        assert error is not None
        told = "not tried again: the executor's retry budget is spent"
        assert (told in getattr(error, "__notes__", ())) == (call.runs == 1)
    return retries


def test_the_budget(by_hand: ByHand) -> None:
    """So many as the minimum, and a share of the executor's successes; then no more."""
    budget = RetryBudget(share=0.5, minimum=2, window=1e6)
    with by_hand.executor(1) as executor:
        assert exhaust(executor, by_hand, budget, 5) == 2
        for _ in range(6):
            executor.submit(int).result(30)
        # An equal budget is the same one.
        assert exhaust(executor, by_hand, RetryBudget(0.5, 2, 1e6), 5) == 3
        # Another has an account of its own, in which the same successes count.
        assert exhaust(executor, by_hand, RetryBudget(0.5, 1, 1e6), 5) == 4
        assert executor.statistics().retries == 9


def test_the_budget_comes_back_with_time(by_hand: ByHand) -> None:
    """What was spent counts for a window."""
    budget = RetryBudget(share=0.0, minimum=1, window=10.0)
    with by_hand.executor(1) as executor:
        assert exhaust(executor, by_hand, budget, 2) == 1
        by_hand.now += 11
        assert exhaust(executor, by_hand, budget, 2) == 1


def test_no_budget(by_hand: ByHand) -> None:
    """Without one, any number."""
    policy = RetryPolicy(50, ValueError, jitter=None, budget=None)
    with by_hand.executor(1) as executor:
        token = executor.options(retry=policy).submit(Flaky(*[ValueError()] * 49))
        for _ in range(49):
            by_hand.next().fire()
        assert token.result(30) == 50


@pytest.mark.timeout(20)
def test_the_budget_inside_itself(by_hand: ByHand) -> None:
    """A finaliser whose call fails in the midst of our accounts does not hang: it has no retry."""
    budget = RetryBudget(share=0.0, minimum=10)
    with by_hand.executor(1) as executor:
        recovery = executor._recovery
        paid: list[bool] = []

        class Finalised:
            """An account that is interrupted in its work."""

            def spend(self, now: float, _: int) -> bool:
                """Have another call fail meanwhile."""
                paid.append(recovery.spend(budget, now))
                return True

        recovery._accounts[budget] = Finalised()  # type: ignore[assignment]
        assert recovery.spend(budget, by_hand.now)
        assert paid == [False]


# -- with the others ---------------------------------------------------------------------------------


def test_a_blocked_operation_is_not_tried_again(by_hand: ByHand) -> None:
    """When its circuit has opened, the error at hand is final, and says so."""
    with by_hand.executor(1, retry=PLAIN, breaker=BreakerPolicy()) as executor:
        red = executor.options(operation="red")

        def work() -> None:
            executor.guard_house.open("red")
            raise ValueError

        error = red.submit(work).exception(30)
        assert error is not None
        assert error.__notes__ == ["not tried again: the operation is blocked"]
    assert by_hand.is_unset


def test_given_up_calls_go_into_quarantine(by_hand: ByHand) -> None:
    """After the last attempt, once, with the id on the exception."""
    with by_hand.executor(1, retry=PLAIN, quarantine=True) as executor:
        token = executor.submit(int, "no number")
        by_hand.next().fire()
        by_hand.next().fire()
        error = token.exception(30)
        (call,) = executor.quarantine.pending()
        assert call.attempts == 3
        assert error is not None
        assert error.__notes__[-1] == f"the call is in quarantine, id {call.id}"


def test_unread_exceptions_are_logged_once(
    one: TokenGateExecutor, by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    """Only that of the last attempt."""
    one.options(operation="red").submit(Flaky(ValueError("a"), ValueError("b"), ValueError("c")))
    by_hand.next().fire()
    by_hand.next().fire()
    quiet(one)
    gc.collect()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "red" in errors[0].getMessage()
