"""The guard house of an executor: what it tells of operations, and whose calls it lets in."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any, Final
from weakref import WeakSet

import pytest

from tokengate_executor import (
    BreakerPolicy,
    CircuitState,
    GateFullError,
    Health,
    InvalidOptionError,
    OperationBlockedError,
    RetryPolicy,
    SpikePolicy,
    Token,
    TokenGateExecutor,
    TokenKilledError,
    TokenState,
    current_token,
    gated,
)
from tokengate_executor.guard.house import GuardHouse
from tokengate_executor.policies.breaker import Ticket
from tokengate_executor.policies.spikes import CostHistory

needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
needs_signals: Final = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="no signals can be sent to a thread here"
)

SOON: Final = BreakerPolicy(min_calls=2, failure_rate=0.5, open_for=30.0, trial_calls=1)


def work(value: int = 0, *, fails: bool = False) -> int:
    """Return the value, or fail."""
    if fails:
        raise ValueError(value)
    return value


def fail() -> None:
    """Fail."""
    raise ValueError("on purpose")


NAME: Final = f"{__name__}.work"


class Clock:
    """The clock of the guard house and of what runs: it goes, and can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return perf_counter() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that the test may put forward."""
    made = Clock()
    for module in ("house", "supervision"):
        monkeypatch.setattr(f"tokengate_executor.guard.{module}.perf_counter", made)
    return made


@pytest.fixture
def passive() -> Iterator[TokenGateExecutor]:
    """Yield an executor that only watches."""
    with TokenGateExecutor(2) as executor:
        yield executor


@pytest.fixture
def strict() -> Iterator[TokenGateExecutor]:
    """Yield an executor that blocks an operation soon, with one worker and one trial call."""
    with TokenGateExecutor(1, breaker=SOON) as executor:
        yield executor


def call(executor: Any, count: int, *, fails: bool) -> None:
    """Make calls of `work`, one after the other."""
    for _ in range(count):
        executor.submit(work, fails=fails).exception(30)


def block(executor: Any) -> None:
    """Have `work` fail until it is blocked."""
    call(executor, 2, fails=True)


def refusal_of(submit: Callable[[], object]) -> OperationBlockedError:
    """Return the error with which a call is refused."""
    with pytest.raises(OperationBlockedError) as caught:
        submit()
    return caught.value


def check(executor: TokenGateExecutor) -> None:
    """See that the statistics add up to what was counted elsewhere."""
    now = executor.statistics()
    settled = now.completed + now.failed + now.timed_out + now.cancelled
    assert now.submitted == settled + now.rejected + now.waiting + now.executing + now.quarantined
    assert now.pending == 0


# -- what is seen ---------------------------------------------------------------------------------


def test_it_only_watches_by_default(passive: TokenGateExecutor) -> None:
    """However often an operation fails: its calls are let in, and counted."""
    call(passive, 30, fails=True)
    call(passive, 2, fails=False)
    house = passive.guard_house
    assert house.policy is None
    seen = house.health(NAME)
    assert (seen.attempts, seen.successes, seen.failures, seen.timeouts) == (32, 2, 30, 0)
    assert seen.health is Health.PROBLEMATIC
    assert seen.quick_failures == 30
    assert not any(one.state is not CircuitState.CLOSED for one in house.circuits().values())


def test_operations_go_by_their_full_names(passive: TokenGateExecutor) -> None:
    """Module and qualified name, of whatever is called: two of one `__name__` are two."""

    class First:
        def work(self) -> None:
            """Do nothing."""

        def __call__(self) -> None:
            """Do nothing."""

    class Second:
        @staticmethod
        def work() -> None:
            """Do nothing."""

    functions: list[Callable[[], object]] = [
        First().work,
        Second.work,
        partial(First().work),
        First(),
        work,
        dict,
    ]
    for fn in functions:
        passive.submit(fn).result(30)
    here = f"{__name__}.test_operations_go_by_their_full_names.<locals>"
    assert {one.operation: one.attempts for one in passive.guard_house.operations()} == {
        f"{here}.First.work": 2,
        f"{here}.Second.work": 1,
        f"{here}.First": 1,
        NAME: 1,
        "builtins.dict": 1,
    }


def test_operation_overrides_the_name(passive: TokenGateExecutor) -> None:
    """`options`, `gated` and `task` say it; the function's own name is then not used."""

    @gated(operation="said at the function")
    def said() -> None:
        """Do nothing."""

    passive.options(operation="said at the call").submit(work).result(30)
    passive.submit(said).result(30)
    passive.task(operation="said of the task")(work)().result(30)
    assert [one.operation for one in passive.guard_house.operations()] == [
        "said at the call",
        "said at the function",
        "said of the task",
    ]


def test_two_functions_of_one_operation_are_one(passive: TokenGateExecutor) -> None:
    """And a name that was said is the same as the function's own, if it reads the same."""
    passive.options(operation=NAME).submit(len, "").result(30)
    passive.submit(work).result(30)
    assert passive.guard_house.health(NAME).attempts == 2


@pytest.mark.parametrize(
    ("successes", "failures", "health"),
    [
        (4, 0, Health.UNKNOWN),
        (5, 0, Health.EXCELLENT),
        (19, 1, Health.EXCELLENT),
        (18, 1, Health.HEALTHY),
        (8, 2, Health.HEALTHY),
        (7, 2, Health.AT_RISK),
        (5, 5, Health.AT_RISK),
        (4, 5, Health.PROBLEMATIC),
    ],
)
def test_grades(passive: TokenGateExecutor, successes: int, failures: int, health: Health) -> None:
    """By the share of attempts that succeeded; at each bound the better one."""
    call(passive, successes, fails=False)
    call(passive, failures, fails=True)
    assert passive.guard_house.health(NAME).health is health


def test_an_unknown_operation(passive: TokenGateExecutor) -> None:
    """It is unknown, and asking for it does not make it known."""
    assert passive.guard_house.health("nothing").health is Health.UNKNOWN
    assert passive.guard_house.operations() == ()


def test_each_attempt_counts(passive: TokenGateExecutor) -> None:
    """Not only the last one of a call that is tried again."""
    policy = RetryPolicy(attempts=4, on=ValueError, delay=0.0, budget=None)
    passive.options(retry=policy).submit(work, fails=True).exception(30)
    seen = passive.guard_house.health(NAME)
    assert (seen.attempts, seen.failures) == (4, 4)


def test_timeouts_count_apart(passive: TokenGateExecutor) -> None:
    """As soon as the time is over, though the thread goes on; its late end counts no more."""
    release = threading.Event()
    token = passive.options(timeout=0.01, operation="slow").submit(release.wait, 30)
    assert token.exception(30) is not None
    before = passive.guard_house.health("slow")
    release.set()
    passive.shutdown()
    after = passive.guard_house.health("slow")
    for seen in (before, after):
        assert (seen.attempts, seen.timeouts, seen.failures) == (1, 1, 0)
        assert seen.max_seconds is not None
        assert seen.max_seconds >= 0.01


def test_it_remembers_as_many_timeouts_as_other_attempts(passive: TokenGateExecutor) -> None:
    """Those that were cut off, which their workers have not noted, are kept like the rest."""
    view = passive.options(timeout=0.001, operation="slow")
    for _ in range(12):
        release = threading.Event()
        assert isinstance(view.submit(release.wait, 30).exception(30), TimeoutError)
        release.set()
    assert passive.guard_house.health("slow").timeouts == 12


def test_what_did_not_run_does_not_count(passive: TokenGateExecutor) -> None:
    """Cancelled, killed, expired: they say nothing of the operation; nor does one that heeds a kill."""
    started = threading.Event()

    def heed() -> None:
        started.set()
        token = current_token()
        while token is not None:
            token.checkpoint()

    view = passive.options(operation="x")
    killed = view.submit(heed)
    assert started.wait(30)
    passive.kill(killed.id)
    with pytest.raises(TokenKilledError):
        killed.result(30)
    passive.pause()
    expired = view.options(queue_timeout=0.001).submit(work)
    assert expired.exception(30) is not None
    assert view.submit(work).cancel()
    passive.resume()
    assert passive.guard_house.health("x").attempts == 0


def test_durations(passive: TokenGateExecutor) -> None:
    """Of the run, without the wait before it."""
    passive.pause()
    token = passive.submit(work)
    before = perf_counter()
    while perf_counter() - before < 0.02:
        pass
    passive.resume()
    token.result(30)
    seen = passive.guard_house.health(NAME)
    assert seen.max_seconds is not None
    assert seen.mean_seconds == seen.p95_seconds == seen.max_seconds
    assert seen.max_seconds < 0.02


def test_quick_failures_as_the_policy_says() -> None:
    """Those that took longer are only failures."""
    with TokenGateExecutor(1, breaker=BreakerPolicy(quick_failure=0.0)) as executor:
        call(executor, 5, fails=True)
        seen = executor.guard_house.health(NAME)
    assert (seen.failures, seen.quick_failures) == (5, 0)


def test_the_window_slides(clock: Clock) -> None:
    """What is longer ago than the policy's window is forgotten."""
    with TokenGateExecutor(1, breaker=BreakerPolicy(window=10.0)) as executor:
        call(executor, 6, fails=False)
        clock.ahead = 9.0
        assert executor.guard_house.health(NAME).health is Health.EXCELLENT
        clock.ahead = 11.0
        assert executor.guard_house.health(NAME).health is Health.UNKNOWN


def test_the_report_of_a_passive_house(passive: TokenGateExecutor) -> None:
    """It says that it only watches, groups by grade, and recommends what to do."""
    call(passive, 8, fails=True)
    passive.submit(len, "").result(30)
    text = str(passive.guard_house)
    assert text.startswith("Breaker: none, operations are only watched\n")
    assert "Guard house: 2 operations, 9 calls" in text
    assert "PROBLEMATIC" in text
    assert "UNKNOWN" in text
    assert NAME in text
    assert "> many errors: look at how it deals with them" in text
    assert "> quick failures: check its input before it is called" in text


def test_the_report_of_a_strict_house(strict: TokenGateExecutor) -> None:
    """It says when it blocks, and what is blocked."""
    block(strict)
    lines = str(strict.guard_house).splitlines()
    assert lines[0] == str(SOON)
    assert lines[1].startswith(f"{NAME}: open: 2 of 2 calls failed; may be tried in ")


def test_the_report_of_an_idle_house(passive: TokenGateExecutor) -> None:
    """Nothing has happened, and it says so."""
    assert str(passive.guard_house).endswith("Guard house: no calls yet")


# -- the breaker ----------------------------------------------------------------------------------


def test_blocked_after_ten_failures_by_default() -> None:
    """Over 90 % of at least 10: the next submit says the rate, the count, and when to come again."""
    with TokenGateExecutor(2, breaker=BreakerPolicy()) as executor:
        call(executor, 9, fails=True)
        call(executor, 1, fails=True)
        error = refusal_of(lambda: executor.submit(work))
        assert (error.operation, error.failure_rate, error.calls) == (NAME, 1.0, 10)
        assert error.retry_after is not None
        assert 20 < error.retry_after <= 30
        assert str(error).startswith(
            f"{NAME} is blocked, 100 % of 10 calls failed: it may be tried again in "
        )
        assert executor.submit(len, "").result(30) == 0  # nobody else is
        check(executor)


def test_not_blocked_below_the_rate_or_the_count() -> None:
    """Nine failures are too few; ninety per cent is not over ninety."""
    with TokenGateExecutor(2, breaker=BreakerPolicy()) as executor:
        call(executor, 1, fails=False)
        call(executor, 9, fails=True)
        executor.submit(work).result(30)
        other = executor.options(operation="other")
        call(other, 9, fails=True)
        other.submit(work).result(30)
        assert executor.guard_house.circuits()[NAME].state is CircuitState.CLOSED


def test_old_failures_do_not_block(clock: Clock) -> None:
    """Only those within the window count."""
    with TokenGateExecutor(1, breaker=BreakerPolicy(window=10.0)) as executor:
        call(executor, 9, fails=True)
        clock.ahead = 11.0
        call(executor, 9, fails=True)
        executor.submit(work).result(30)


def test_timeouts_block(strict: TokenGateExecutor) -> None:
    """They are failures as far as the circuit goes."""
    release = threading.Event()
    view = strict.options(timeout=0.001, operation="slow")
    for _ in range(2):
        assert view.submit(release.wait, 30).exception(30) is not None
    refusal_of(lambda: view.submit(release.wait, 30))
    release.set()


def test_options_operation_is_what_is_blocked(strict: TokenGateExecutor) -> None:
    """The same function under another name is another operation."""
    block(strict.options(operation="red"))
    refusal_of(lambda: strict.options(operation="red").submit(len, ""))
    assert strict.options(operation="blue").submit(work).result(30) == 0
    assert strict.submit(work).result(30) == 0


def test_a_view_and_a_function_of_the_blocked_operation(strict: TokenGateExecutor) -> None:
    """Whatever else was said of the call, and however it is made."""
    block(strict)
    views: list[Any] = [
        strict,
        strict.options(weight="heavy"),
        strict.options(priority=1),
        strict.options(operation=NAME),
    ]
    for view in views:
        refusal_of(partial(view.submit, work))
        refusal_of(partial(view.map, work, [1]))
    refusal_of(strict.task(work))
    refusal_of(lambda: strict.submit(partial(work, 1)))
    assert strict.statistics().rejected == 2 * len(views) + 2
    check(strict)


def test_trial_calls(clock: Clock) -> None:
    """When its time is up three are let in; when all succeed it is free again."""
    release = threading.Event()
    with TokenGateExecutor(8, breaker=BreakerPolicy()) as executor:
        view = executor.options(operation="x")
        call(view, 10, fails=True)
        refusal_of(lambda: view.submit(work))
        clock.ahead = 31.0
        trials = [view.submit(release.wait, 30) for _ in range(3)]
        error = refusal_of(lambda: view.submit(work))
        assert (error.retry_after, error.calls) == (0.0, 10)
        assert "when its trial calls have succeeded" in str(error)
        circuit = executor.guard_house.circuits()["x"]
        assert (circuit.state, circuit.trials) == (CircuitState.HALF_OPEN, 3)
        release.set()
        for token in trials:
            token.result(30)
        assert view.submit(work).result(30) == 0
        assert executor.guard_house.circuits()["x"].state is CircuitState.CLOSED
        check(executor)


def test_a_trial_call_that_fails(strict: TokenGateExecutor, clock: Clock) -> None:
    """It is blocked anew, for the whole time."""
    block(strict)
    clock.ahead = 31.0
    strict.submit(work, fails=True).exception(30)
    error = refusal_of(lambda: strict.submit(work))
    assert error.retry_after is not None
    assert error.retry_after > 20
    assert strict.guard_house.circuits()[NAME].openings == 2


def test_what_was_let_in_before_says_nothing(clock: Clock) -> None:
    """A call that began before the circuit opened does not decide the trial."""
    with TokenGateExecutor(4, breaker=SOON) as executor:
        release = threading.Event()
        view = executor.options(operation="x")

        def late() -> None:
            release.wait(30)
            raise ValueError

        old = view.submit(late)
        block(view)
        clock.ahead = 31.0
        assert view.submit(work).result(30) == 0  # the trial
        release.set()
        assert old.exception(30) is not None
        call(view, 1, fails=True)
        assert view.submit(work).result(30) == 0


def test_never_more_trials_than_that(clock: Clock) -> None:
    """Of many that submit at once when the time is up, so many are let in."""
    with TokenGateExecutor(2, breaker=BreakerPolicy()) as executor:
        call(executor, 10, fails=True)
        for turn in range(1, 6):
            clock.ahead = 31.0 * turn
            release = threading.Event()
            view = executor.options(operation=NAME)
            outcomes = at_once(24, lambda view=view, release=release: view.submit(release.wait, 30))  # type: ignore[misc]
            tokens = [one for one in outcomes if isinstance(one, Token)]
            assert len(tokens) == 3
            assert sum(isinstance(one, OperationBlockedError) for one in outcomes) == 21
            executor.guard_house.open(NAME, 30.0)
            release.set()
            for token in tokens:
                token.result(30)
        check(executor)


def at_once(count: int, act: Callable[[], object]) -> list[object]:
    """Return what comes of it in so many threads that start together: results, and errors."""
    outcomes: list[object] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait(30)
        try:
            outcomes.append(act())
        except Exception as error:
            outcomes.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    return outcomes


def test_many_fail_at_once() -> None:
    """However the failures come: when all are told, the operation is blocked, and no call is lost."""
    with TokenGateExecutor(4, breaker=BreakerPolicy()) as executor:

        def produce() -> int:
            refused = 0
            for _ in range(50):
                try:
                    executor.submit(work, fails=True)
                except OperationBlockedError:
                    refused += 1
            return refused

        refused = sum(one for one in at_once(4, produce) if isinstance(one, int))
        executor.drain()
        executor.resume()
        refusal_of(lambda: executor.submit(work))
        now = executor.statistics()
        assert now.rejected == refused + 1
        assert now.failed == 200 - refused
        check(executor)


# -- leave that is given back ---------------------------------------------------------------------


def cancel(executor: TokenGateExecutor, token: Token[Any]) -> None:
    """Cancel the token."""
    del executor
    assert token.cancel()


def kill(executor: TokenGateExecutor, token: Token[Any]) -> None:
    """Kill the token."""
    assert executor.kill(token.id) == 1


def purge(executor: TokenGateExecutor, token: Token[Any]) -> None:
    """Cancel all that waits."""
    del token
    assert executor.purge() == 1


@pytest.mark.parametrize("end", [cancel, kill, purge])
def test_a_trial_that_does_not_start_gives_its_leave_back(
    strict: TokenGateExecutor, clock: Clock, end: Callable[[TokenGateExecutor, Token[Any]], None]
) -> None:
    """The next call is then the trial."""
    block(strict)
    clock.ahead = 31.0
    strict.pause()
    token = strict.submit(work)
    refusal_of(lambda: strict.submit(work))
    end(strict, token)
    second = strict.submit(work)
    refusal_of(lambda: strict.submit(work))
    strict.resume()
    assert second.result(30) == 0
    assert strict.submit(work).result(30) == 0
    check(strict)


def test_a_trial_that_expires_gives_its_leave_back(strict: TokenGateExecutor, clock: Clock) -> None:
    """As soon as its `queue_timeout` is over."""
    block(strict)
    clock.ahead = 31.0
    strict.pause()
    told = threading.Event()
    token = strict.options(queue_timeout=0.005).submit(work)
    token.add_done_callback(lambda _: told.set())
    assert told.wait(30)
    assert token.state is TokenState.TIMEOUT
    token = strict.submit(work)
    strict.resume()
    assert token.result(30) == 0


def test_a_trial_that_is_killed_while_it_runs_gives_its_leave_back(
    strict: TokenGateExecutor, clock: Clock
) -> None:
    """It has no outcome, if it heeds that."""
    block(strict.options(operation="x"))
    clock.ahead = 31.0
    started = threading.Event()

    def heed() -> None:
        started.set()
        token = current_token()
        while token is not None:
            token.checkpoint()

    token = strict.options(operation="x").submit(heed)
    assert started.wait(30)
    strict.kill(token.id)
    with pytest.raises(TokenKilledError):
        token.result(30)
    strict.drain()  # its callbacks have run
    strict.resume()
    assert strict.options(operation="x").submit(work).result(30) == 0


@pytest.mark.parametrize("on_full", ["raise", "discard_newest"])
def test_a_trial_that_finds_no_room_gives_its_leave_back(clock: Clock, on_full: Any) -> None:
    """The gate refuses it after the house has let it in."""
    with TokenGateExecutor(1, breaker=SOON, max_pending=1, on_full=on_full) as executor:
        block(executor)
        clock.ahead = 31.0
        executor.pause()
        waits = executor.submit(len, "")
        if on_full == "raise":
            with pytest.raises(GateFullError):
                executor.submit(work)
        else:
            assert executor.submit(work).cancelled()
        executor.resume()
        waits.result(30)
        assert executor.submit(work).result(30) == 0
        check(executor)


@needs_signals
def test_a_trial_whose_submit_is_interrupted_gives_its_leave_back(clock: Clock) -> None:
    """It waited for room when Ctrl-C came."""
    with TokenGateExecutor(1, breaker=SOON, max_pending=1) as executor:
        block(executor)
        clock.ahead = 31.0
        executor.pause()
        waits = executor.submit(len, "")
        main = threading.get_ident()
        interrupted = threading.Event()

        def handle(*_: object) -> None:
            if not interrupted.is_set():
                interrupted.set()
                raise KeyboardInterrupt

        def interrupt() -> None:
            while not executor.statistics().blocked_producers:
                pass
            # One that comes just before it sleeps does not wake it.
            while not interrupted.wait(0.005):
                signal.pthread_kill(main, signal.SIGUSR1)

        handler = signal.signal(signal.SIGUSR1, handle)
        thread = threading.Thread(target=interrupt)
        try:
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                executor.submit(work)
            thread.join(30)
        finally:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # drops one that is still to come
            signal.signal(signal.SIGUSR1, handler)
        executor.resume()
        waits.result(30)
        assert executor.submit(work).result(30) == 0
        check(executor)


def test_a_trial_that_is_held_gives_its_leave_back(clock: Clock) -> None:
    """A person may take days to decide on it: others are tried meanwhile."""
    with TokenGateExecutor(1, breaker=SOON, spikes=SpikePolicy()) as executor:
        for _ in range(6):
            executor.submit(len, "x" * 10).result(30)
        executor.guard_house.open("builtins.len", 30.0)
        clock.ahead = 31.0
        held = executor.submit(len, "x" * 1000)
        assert held.state is TokenState.QUARANTINED
        assert executor.submit(len, "x").result(30) == 1
        assert executor.guard_house.circuits()["builtins.len"].state is CircuitState.CLOSED
        executor.quarantine.approve(executor.quarantine.pending()[0].id)
        assert held.result(30) == 1000


@pytest.mark.parametrize("cost", [ValueError("no cost"), KeyboardInterrupt()])
def test_a_trial_whose_cost_cannot_be_had_gives_its_leave_back(
    strict: TokenGateExecutor, clock: Clock, cost: BaseException
) -> None:
    """The submitter is told, whatever it is."""

    def raises(*_args: object, **_kwargs: object) -> float:
        raise cost

    block(strict)
    clock.ahead = 31.0
    with pytest.raises(type(cost)):
        strict.options(spikes=SpikePolicy(cost=raises)).submit(work)
    assert strict.submit(work).result(30) == 0


def test_leave_is_given_back_while_the_lock_is_held(
    strict: TokenGateExecutor, clock: Clock
) -> None:
    """Whoever cancels does not wait, and nothing is lost."""
    block(strict)
    clock.ahead = 31.0
    strict.pause()
    token = strict.submit(work)
    with strict.guard_house._lock:
        assert token.cancel()
    assert strict.guard_house.circuits()[NAME].trials == 0
    token = strict.submit(work)
    strict.resume()
    assert token.result(30) == 0


def test_an_outcome_is_not_overtaken(strict: TokenGateExecutor, clock: Clock) -> None:
    """A trial call tells how it ended, and then settles; in this order it is heard."""
    block(strict)
    clock.ahead = 31.0
    strict.pause()
    token = strict.submit(work, fails=True)
    told = threading.Event()
    token.add_done_callback(lambda _: told.set())
    with strict.guard_house._lock:
        strict.resume()
        assert told.wait(30)
    assert strict.guard_house.circuits()[NAME].state is CircuitState.OPEN


# -- places of a bound ----------------------------------------------------------------------------


def test_a_refused_call_takes_no_place(clock: Clock) -> None:
    """Whichever verb it came by; as many as before may wait."""
    with TokenGateExecutor(1, breaker=SOON, max_pending=2, on_full="raise") as executor:
        block(executor)

        async def submit() -> None:
            for _ in range(5):
                with pytest.raises(OperationBlockedError):
                    await executor.asubmit(work)
                with pytest.raises(OperationBlockedError):
                    await executor.arun(work)
                with pytest.raises(OperationBlockedError):
                    async for _result in executor.amap(work, [1, 2]):
                        pass

        for _ in range(5):
            refusal_of(lambda: executor.submit(work))
        asyncio.run(submit())
        assert executor.statistics().rejected == 20
        check(executor)
        executor.pause()
        waiting = [executor.submit(len, "") for _ in range(2)]
        assert executor.statistics().pending == 2
        executor.resume()
        assert [token.result(30) for token in waiting] == [0, 0]
        clock.ahead = 31.0
        assert asyncio.run(arun(executor)) == 7
        assert asyncio.run(arun(executor)) == 7


async def arun(executor: TokenGateExecutor) -> int:
    """Make one call of `work` from a coroutine."""
    return await executor.arun(work, 7)


def test_a_waiting_coroutine_is_refused() -> None:
    """It waited for room, and the operation is blocked when there is some: the place is passed on."""
    with TokenGateExecutor(1, breaker=SOON, max_pending=1) as executor:

        async def submit() -> None:
            executor.pause()
            first = executor.submit(len, "")
            late = asyncio.ensure_future(executor.asubmit(work))
            follower = asyncio.ensure_future(executor.asubmit(len, "xx"))
            await asyncio.sleep(0)  # both begin
            assert executor.statistics().blocked_producers == 2
            executor.guard_house.open(NAME)
            executor.resume()
            with pytest.raises(OperationBlockedError):
                await late
            assert await (await follower) == 2
            assert await first == 0

        asyncio.run(submit())
        check(executor)


# -- by hand --------------------------------------------------------------------------------------


def test_open_and_close(passive: TokenGateExecutor) -> None:
    """Without any policy; what was made before is blocked, too, and stays so until it is closed."""
    view = passive.options(operation=NAME, weight="light")
    for submit in (passive.submit, view.submit):
        submit(work).result(30)
    passive.guard_house.open(NAME)
    for submit in (passive.submit, view.submit):
        error = refusal_of(partial(submit, work))
        assert (error.calls, error.retry_after) == (0, None)
        assert str(error) == f"{NAME} is blocked: it stays so until it is unblocked by hand"
    assert passive.submit(len, "").result(30) == 0
    passive.guard_house.close(NAME)
    for submit in (passive.submit, view.submit):
        assert submit(work).result(30) == 0
    check(passive)


def test_open_for_a_time(passive: TokenGateExecutor, clock: Clock) -> None:
    """Afterwards trial calls decide."""
    passive.guard_house.open("x", 5.0)
    view = passive.options(operation="x")
    error = refusal_of(lambda: view.submit(work))
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 5
    clock.ahead = 6.0
    for _ in range(4):
        assert view.submit(work).result(30) == 0
    assert passive.guard_house.circuits()["x"].state is CircuitState.CLOSED


def test_a_passive_house_stays_passive_otherwise(passive: TokenGateExecutor) -> None:
    """That one operation was blocked by hand blocks none that fails."""
    passive.guard_house.open("x")
    call(passive, 20, fails=True)
    assert passive.submit(work).result(30) == 0


def test_reset(strict: TokenGateExecutor) -> None:
    """As close, and nothing is remembered."""
    house = strict.guard_house
    block(strict)
    house.close(NAME)
    assert house.circuits()[NAME].openings == 1
    assert strict.submit(work, fails=True).exception(30) is not None
    assert strict.submit(work).result(30) == 0  # those from before the close do not count
    house.reset(NAME)
    assert house.circuits()[NAME].openings == 0


def test_opened_while_calls_wait(passive: TokenGateExecutor) -> None:
    """What was let in runs."""
    passive.pause()
    token = passive.submit(work, 7)
    passive.guard_house.open(NAME)
    passive.resume()
    assert token.result(30) == 7


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_that_is_none(passive: TokenGateExecutor, name: Any) -> None:
    """It is refused, by each verb."""
    house = passive.guard_house
    for verb in (house.open, house.close, house.reset):
        with pytest.raises(InvalidOptionError, match="operation"):
            verb(name)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "1"])
def test_a_time_that_is_none(passive: TokenGateExecutor, seconds: Any) -> None:
    """It is refused, and nothing is blocked."""
    with pytest.raises(InvalidOptionError, match="seconds"):
        passive.guard_house.open(NAME, seconds)
    assert passive.submit(work).result(30) == 0


class Busy:
    """A lock that whoever gives up waiting does not get."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As the lock's, if the caller waits for as long as it takes."""
        return blocking and timeout == -1 and bool(self.lock.acquire())

    def release(self) -> None:
        """As the lock's."""
        self.lock.release()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_what_is_opened_by_hand_is_opened(passive: TokenGateExecutor) -> None:
    """However busy the house is: whoever opens waits for it, and is not told so in vain."""
    house = passive.guard_house
    lock = house._lock
    house._lock = Busy(lock)  # type: ignore[assignment]
    house.open(NAME)
    house._lock = lock
    refusal_of(lambda: passive.submit(work))


def test_many_operations_are_forgotten_but_not_blocked_ones(passive: TokenGateExecutor) -> None:
    """Names may be made up per call."""
    house = passive.guard_house
    house.open("blocked")
    for number in range(5000):
        house.record_of(f"made up {number}")
    assert len(house.circuits()) < 5000
    refusal_of(lambda: passive.options(operation="blocked").submit(work))


# -- what comes while something else is going on ---------------------------------------------------


def test_what_is_told_while_the_house_is_busy_is_heard(strict: TokenGateExecutor) -> None:
    """Whoever had the lock does what was posted meanwhile, whatever it had it for."""
    house = strict.guard_house
    house.open(NAME, 1.0)
    record = house.record_of(NAME)
    trial = record.circuit.may_enter(perf_counter() + 2.0) or Ticket(trial=True)

    class Costs(CostHistory):
        """A history during whose use a trial call ends."""

        __slots__ = ()

        def usual(self) -> float | None:
            """As its base's, but first somebody else tells something."""
            house.tell(record, trial, perf_counter(), failed=False)
            return super().usual()

    record.costs = Costs()
    house.judge(record, 1.0, SpikePolicy())
    assert record.circuit.state is CircuitState.CLOSED


class Interleaved(WeakSet[Any]):
    """A set during whose first use something else happens."""

    def __init__(self, verb: str, act: Callable[[], object]) -> None:
        super().__init__()
        self.verb = verb
        self.act = act

    def happen(self, verb: str) -> None:
        """Let it happen, once."""
        if verb == self.verb:
            self.verb = ""
            self.act()

    def add(self, item: Any) -> None:
        """Add it, late."""
        self.happen("add")
        super().add(item)

    def pop(self) -> Any:
        """Take one out, late."""
        self.happen("pop")
        return super().pop()


def test_opened_while_a_view_is_made(passive: TokenGateExecutor) -> None:
    """The view's calls are blocked all the same, whoever was first."""
    passive._recovery._profiles = Interleaved("add", lambda: passive.guard_house.open(NAME))
    view = passive.options(weight="heavy")
    refusal_of(lambda: view.submit(work))


def test_opened_by_two_at_once(passive: TokenGateExecutor) -> None:
    """Both are, though one finds that the other has done what it was about to do."""
    interleaved = Interleaved("pop", lambda: passive.guard_house.open("x"))
    for profile in passive._recovery._profiles:
        interleaved.add(profile)
    passive._recovery._profiles = interleaved
    passive.guard_house.open(NAME)
    refusal_of(lambda: passive.submit(work))
    refusal_of(lambda: passive.options(operation="x").submit(work))


def test_views_are_made_while_circuits_open_and_close() -> None:
    """Neither is in the other's way, and no view is left out."""
    with TokenGateExecutor(2, breaker=SOON) as executor:
        done = threading.Event()
        trouble: list[BaseException] = []

        def make() -> None:
            try:
                while not done.is_set():
                    executor.options(operation="free").submit(work).result(30)
            except BaseException as error:
                trouble.append(error)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        makers = [threading.Thread(target=make) for _ in range(3)]
        try:
            for maker in makers:
                maker.start()
            for _ in range(300):
                executor.guard_house.open(NAME)
                refusal_of(lambda: executor.options(weight="light").submit(work))
                executor.guard_house.close(NAME)
        finally:
            done.set()
            for maker in makers:
                maker.join(30)
            sys.setswitchinterval(interval)
        assert trouble == []
        executor.options(weight="light").submit(work).result(30)


class Finaliser:
    """Calls something when it is collected."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __del__(self) -> None:
        self.act()


@pytest.mark.parametrize("blocked", [False, True])
def test_submit_in_a_finaliser_while_the_lock_is_held(clock: Clock, blocked: bool) -> None:
    """A known operation, a new one, one that is blocked, a spike: none of them hangs."""
    with TokenGateExecutor(1, breaker=SOON, spikes=SpikePolicy()) as executor:
        call(executor, 6, fails=False)
        if blocked:
            executor.guard_house.open(NAME, 1.0)
            clock.ahead = 2.0
        outcomes: list[object] = []
        new = executor.options(operation="new")

        def submit() -> None:
            for view in (executor, new):
                for value in (1, 10_000):
                    try:
                        outcomes.append(view.submit(work, value))
                    except Exception as error:
                        outcomes.append(error)

        finaliser = Finaliser(submit)
        with executor.guard_house._lock:
            del finaliser
            gc.collect()
        assert len(outcomes) == 4
        tokens = [one for one in outcomes if isinstance(one, Token)]
        assert len(tokens) == (2 if blocked else 4)
        for one in outcomes:
            assert isinstance(one, Token | OperationBlockedError)
        assert [token.result(30) for token in tokens][-2:] == [1, 10_000]


# -- retries --------------------------------------------------------------------------------------


def test_retries_stop_when_the_circuit_opens(strict: TokenGateExecutor) -> None:
    """The call fails with its own error, which says why it is not tried again."""
    policy = RetryPolicy(attempts=50, on=ValueError, delay=0.0, budget=None)
    token = strict.options(retry=policy).submit(work, fails=True)
    error = token.exception(30)
    assert isinstance(error, ValueError)
    assert token.attempts == SOON.min_calls
    assert "not tried again: the operation is blocked" in error.__notes__
    refusal_of(lambda: strict.submit(work))
    check(strict)


def test_a_retry_is_no_trial(strict: TokenGateExecutor, clock: Clock) -> None:
    """While trial calls decide, those that were let in before are not tried again."""
    policy = RetryPolicy(attempts=50, on=ValueError, delay=0.0, budget=None)
    started, release = threading.Event(), threading.Event()
    trial_runs, trial_ends = threading.Event(), threading.Event()
    strict.resize(2)
    view = strict.options(operation="x")

    def old() -> None:
        started.set()
        release.wait(30)
        raise ValueError

    def trial() -> None:
        trial_runs.set()
        trial_ends.wait(30)

    token = view.options(retry=policy).submit(old)
    assert started.wait(30)
    block(view)
    clock.ahead = 31.0
    tried = view.submit(trial)
    assert trial_runs.wait(30)
    release.set()
    assert isinstance(token.exception(30), ValueError)
    assert token.attempts == 1
    trial_ends.set()
    tried.result(30)


def test_a_trial_that_is_tried_again_decides_once(strict: TokenGateExecutor, clock: Clock) -> None:
    """Its first attempt opens the circuit, and so it is its last."""
    policy = RetryPolicy(attempts=50, on=ValueError, delay=0.0, budget=None)
    block(strict)
    clock.ahead = 31.0
    token = strict.options(retry=policy).submit(work, fails=True)
    assert token.exception(30) is not None
    assert token.attempts == 1
    assert strict.guard_house.circuits()[NAME].openings == 2


# -- its end --------------------------------------------------------------------------------------


def test_after_shutdown(strict: TokenGateExecutor) -> None:
    """It still tells what was."""
    block(strict)
    strict.shutdown()
    assert strict.guard_house.health(NAME).failures == 2
    assert strict.guard_house.circuits()[NAME].state is CircuitState.OPEN
    assert NAME in str(strict.guard_house)
    with pytest.raises(RuntimeError, match="after shutdown"):
        strict.submit(work)


def test_it_may_outlive_its_executor(caplog: pytest.LogCaptureFixture) -> None:
    """It does not keep the executor, and tells what is left."""
    caplog.set_level(logging.ERROR)
    executor = TokenGateExecutor(1, breaker=SOON)
    executor.submit(work).result(30)
    house: GuardHouse = executor.guard_house
    del executor
    gc.collect()
    assert house.health(NAME).attempts == 1
    assert caplog.records == []


FORK: Final = """
import os, sys
from tokengate_executor import (
    BreakerPolicy, CircuitState, Health, OperationBlockedError, TokenGateExecutor
)

executor = TokenGateExecutor(1, breaker=BreakerPolicy(min_calls=2, failure_rate=0.5))

def fail():
    raise ValueError

def is_blocked(name):
    try:
        executor.options(operation=name).submit(len, "").result(30)
    except OperationBlockedError:
        return True
    return False

for _ in range(2):
    executor.options(operation="x").submit(fail).exception(30)
executor.guard_house.open("y")
assert is_blocked("x") and is_blocked("y")
with executor.guard_house._lock:  # as if another thread had it
    pid = os.fork()
if pid == 0:
    try:
        house = executor.guard_house
        assert house.operations() == () and dict(house.circuits()) == {}, str(house)
        assert not is_blocked("x") and not is_blocked("y")
        assert executor.statistics().rejected == 0
        for _ in range(3):
            executor.options(operation="z").submit(fail).exception(30)
            if is_blocked("z"):
                break
        assert is_blocked("z")
        executor.shutdown()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert is_blocked("x") and is_blocked("y") and not is_blocked("z")
executor.shutdown()
print("RIGHT")
"""


@needs_fork
def test_a_forked_child_begins_anew() -> None:
    """It knows of no operation, blocks none, and has a lock of its own; the parent goes on."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.stdout == "RIGHT\n"


def test_states_are_those_of_the_circuits() -> None:
    """By name, without what is counted for reports; outcomes that are told are heeded first."""
    with TokenGateExecutor(1, breaker=SOON, log_unread_exceptions=False) as executor:
        house = executor.guard_house
        assert house.states() == {}
        for name in ("b", "a"):
            house.open(name)
        house.close("b")
        for _ in range(2):
            executor.submit(fail).exception()
        circuits = house.circuits()
        assert list(house.states()) == list(circuits)
        assert house.states() == {name: circuit.state for name, circuit in circuits.items()}
        assert set(house.states().values()) == {CircuitState.OPEN, CircuitState.CLOSED}
