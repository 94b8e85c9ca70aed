"""Settlement by hand: what an attempt counts, keeps and lets go of, and in which order."""

from __future__ import annotations

import contextvars
import gc
import logging
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tokengate_executor import (
    RetryPolicy,
    TaskOptions,
    Token,
    TokenGateExecutor,
    TokenKilledError,
    TokenState,
    current_token,
)
from tokengate_executor.engine.claims import claim
from tokengate_executor.engine.routes import Profile
from tokengate_executor.engine.settlement import attempt
from tokengate_executor.engine.workers import Worker
from tokengate_executor.waiting import current_thread

HERE = __name__


class Thing:
    """Something of which one can see when it is gone."""


class Bench:
    """A worker whose thread is the test's, and tokens that it has claimed."""

    def __init__(self, **arguments: Any) -> None:
        self.executor = TokenGateExecutor(1, **arguments)
        self.worker: Worker = self.executor._crew.regulars[0]
        self.profile: Profile = self.executor._plain

    def claimed(
        self,
        fn: Callable[..., object],
        *args: object,
        profile: Profile | None = None,
        **kwargs: object,
    ) -> Token[Any]:
        """Make a token as `submit` does, and claim it for the worker."""
        context = contextvars.copy_context()
        token: Token[Any] = Token(fn, args, kwargs or None, context, profile or self.profile)
        token._phase = TokenState.WAITING
        self.worker.current = token
        assert claim(token)
        return token

    def run(self, fn: Callable[..., object], *args: object, **kwargs: object) -> Token[Any]:
        """Have the worker run the call."""
        token = self.claimed(fn, *args, **kwargs)
        attempt(self.worker, token)
        return token


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a bench; this thread is its worker's."""
    bench = Bench()
    current_thread.host = bench.worker
    yield bench
    del current_thread.host
    bench.executor.shutdown()


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


# -- what becomes of the token --------------------------------------------------------------------


def test_a_call_that_returns(bench: Bench) -> None:
    """Its token is completed, with the result, the worker's lane and number, and its times."""
    token = bench.run(divmod, 7, 3)
    assert (token.state, token.result(0)) == (TokenState.COMPLETED, (2, 1))
    assert (token.lane, token.id, token.attempts) == (1, "1-0", 1)
    assert token.started_at is not None
    assert token.settled_at is not None
    assert token.submitted_at <= token.started_at <= token.settled_at


def test_arguments_are_passed_on(bench: Bench) -> None:
    """By position and by name, of any name."""
    token = bench.run(lambda *args, **kwargs: (args, kwargs), 1, 2, token=3, worker=4)
    assert token.result(0) == ((1, 2), {"token": 3, "worker": 4})


def test_a_call_that_raises(bench: Bench) -> None:
    """Its token is failed, with the exception, whose traceback has no frame of ours."""
    token = bench.run(fail)
    error = token.exception(0)
    assert (token.state, type(error)) == (TokenState.FAILED, ValueError)
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["fail"]


@pytest.mark.parametrize("fn", [None, 5, partial(pow, 1, 2, 3, 4)])
def test_what_cannot_be_called(bench: Bench, fn: Any) -> None:
    """It fails as any call that raises."""
    token = bench.run(fn)
    assert type(token.exception(0)) is TypeError


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_nothing_gets_past(bench: Bench, kind: type[BaseException]) -> None:
    """Whatever the call raises is the token's, and not the worker's."""

    def throw() -> None:
        raise kind

    assert type(bench.run(throw).exception(0)) is kind


def test_it_runs_in_the_submitters_context(bench: Bench) -> None:
    """In the token's own copy: what the call sets there is gone with it."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    user.set("alice")
    token = bench.claimed(lambda: (user.get(), user.set("bob")))
    user.set("carol")
    attempt(bench.worker, token)
    assert token.result(0)[0] == "alice"
    assert user.get() == "carol"


# -- killed ---------------------------------------------------------------------------------------


def test_a_call_that_heeds_a_kill(bench: Bench) -> None:
    """It is killed, which is not a failure."""

    def ends() -> None:
        token = current_token()
        assert token is not None
        token._kill_requested = True
        token.checkpoint()

    token = bench.run(ends)
    assert token.state is TokenState.KILLED
    with pytest.raises(TokenKilledError):
        token.result(0)
    assert (bench.worker.killed, bench.worker.failed) == (1, 0)
    (record,) = bench.executor.history()
    assert (record.state, record.error) == (TokenState.KILLED, "TokenKilledError")


@pytest.mark.parametrize(
    ("requested", "error"), [(False, TokenKilledError("other")), (True, ValueError())]
)
def test_what_is_not_a_heeded_kill_is_a_failure(
    bench: Bench, requested: bool, error: Exception
) -> None:
    """Another token's error without a kill, and another error after a kill."""

    def throw() -> None:
        token = current_token()
        assert token is not None
        token._kill_requested = requested
        raise error

    token = bench.run(throw)
    assert token.state is TokenState.FAILED
    assert token.exception(0) is error
    assert (bench.worker.killed, bench.worker.failed) == (0, 1)


# -- counting -------------------------------------------------------------------------------------


def test_counters(bench: Bench) -> None:
    """Each attempt is started, and completed or failed; the times are added up."""
    tokens = [bench.run(int), bench.run(fail), bench.run(int)]
    worker = bench.worker
    assert (worker.started, worker.completed, worker.failed, worker.killed) == (3, 2, 1, 0)
    ran = sum((t.settled_at or 0.0) - (t.started_at or 0.0) for t in tokens)
    waited = sum((t.started_at or 0.0) - t.submitted_at for t in tokens)
    assert worker.busy_seconds == pytest.approx(ran)
    assert worker.waited_seconds == pytest.approx(waited)
    assert worker.current is None


def test_weights_are_counted(bench: Bench) -> None:
    """By the route's index; unweighted ones are the rest."""
    for weight in ("heavy", "light", "light"):
        profile = bench.executor.profile_of(TaskOptions(weight=weight))  # type: ignore[arg-type]
        attempt(bench.worker, bench.claimed(int, profile=profile))
    bench.run(int)
    assert bench.worker.started_by_weight == [0, 1, 0, 2]
    assert bench.worker.started == 4


def test_a_call_inside_another_is_not_counted_twice(bench: Bench) -> None:
    """The outer one's time is the whole of it."""
    inner: list[Token[Any]] = []

    def outer() -> None:
        mine = bench.worker.current
        inner.append(bench.claimed(int))
        bench.worker.current = mine
        bench.worker.run_inside(inner[0])

    token = bench.run(outer)
    assert bench.worker.busy_seconds == (token.settled_at or 0.0) - (token.started_at or 0.0)
    assert (bench.worker.started, bench.worker.completed) == (2, 2)
    assert (token.id, inner[0].id) == ("1-0", "1-1")


def test_whoever_is_told_finds_it_counted(bench: Bench) -> None:
    """Counters and history are written before the token is seen settled."""
    seen: list[tuple[int, int, int, object]] = []
    for fn in (int, fail):
        token = bench.claimed(fn)
        token.add_done_callback(
            lambda it: seen.append(
                (
                    bench.worker.completed,
                    bench.worker.failed,
                    len(bench.executor.history()),
                    it.state,
                )
            )
        )
        attempt(bench.worker, token)
    assert seen == [(1, 0, 1, TokenState.COMPLETED), (1, 1, 2, TokenState.FAILED)]


def test_no_history() -> None:
    """With a history of none nothing is kept, and all is counted."""
    bench = Bench(history_size=0)
    bench.run(int)
    assert (bench.executor.history(), bench.worker.completed) == ((), 1)
    bench.executor.shutdown()


# -- letting go -----------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["result", "error"])
def test_the_call_is_gone_before_anybody_is_told(bench: Bench, outcome: str) -> None:
    """Function, arguments, keywords and context are free when callbacks run and waiters wake."""

    class Call(Thing):
        __call__ = dict if outcome == "result" else pow

    call, argument, keyword, value = Call(), Thing(), Thing(), Thing()
    variable: contextvars.ContextVar[Thing] = contextvars.ContextVar("variable")
    alive = [weakref.ref(thing) for thing in (call, argument, keyword, value)]
    context = contextvars.copy_context()
    context.run(variable.set, value)
    arguments = (argument,) if outcome == "error" else ()
    token: Token[Any] = Token(call, arguments, {"mod": keyword}, context, bench.profile)
    token._phase = TokenState.WAITING
    bench.worker.current = token
    assert claim(token)
    seen: list[int] = []
    token.add_done_callback(lambda _: seen.append(sum(one() is not None for one in alive)))
    gc.collect()
    gc.disable()
    try:
        del call, argument, arguments, keyword, value, context
        attempt(bench.worker, token)
    finally:
        gc.enable()
    assert token.done()
    # What `dict` returned has the keyword argument.
    assert seen == [1 if outcome == "result" else 0]
    assert (token._fn, token._args, token._kwargs, token._context) == (None, (), None, None)


# -- telling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [int, fail])
def test_callbacks(
    bench: Bench, fn: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """They run in order, without the token's lock; what they raise, whatever it is, is logged."""
    token = bench.claimed(fn)
    seen: list[object] = []
    token.add_done_callback(lambda it: seen.append((1, it._lock.locked())))
    token.add_done_callback(lambda _: sys.exit(3))
    token.add_done_callback(lambda it: seen.append((2, it._lock.locked())))
    attempt(bench.worker, token)
    assert seen == [(1, False), (2, False)]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("concurrent.futures", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[0] is SystemExit


def test_who_sleeps_is_woken(bench: Bench) -> None:
    """A thread that waits for the result gets it."""
    results: list[object] = []
    token = bench.claimed(pow, 2, 3)
    del current_thread.host
    try:
        sleeper = threading.Thread(target=lambda: results.append(token.result(30)))
        sleeper.start()
        attempt(bench.worker, token)
        sleeper.join()
    finally:
        current_thread.host = bench.worker
    assert results == [8]


def test_what_it_held_is_free_before_it_is_seen_settled(bench: Bench) -> None:
    """A permit is given back first, so whoever has the result finds it free."""
    bench.executor.shutdown()
    with TokenGateExecutor(1, limits={"one": 1}) as executor:
        profile = executor.profile_of(TaskOptions(limits=("one",)))
        token: Token[Any] = Token(int, (), None, contextvars.copy_context(), profile)
        seen: list[int] = []
        token.add_done_callback(lambda _: seen.append(executor.statistics().limits["one"].used))
        profile.admit(token, profile.route)
        assert token.result(30) == 0
    assert seen == [0]


@pytest.mark.parametrize("log_unread", [True, False])
def test_an_unread_exception_is_noted(log_unread: bool, caplog: pytest.LogCaptureFixture) -> None:
    """If nobody is there to be told, and if that was not turned off."""
    bench = Bench(log_unread_exceptions=log_unread)
    told = bench.claimed(fail)
    told.add_done_callback(bool)
    attempt(bench.worker, told)
    token = bench.run(fail)
    assert (told._unread, token._unread is not None) == (None, log_unread)
    del told, token
    gc.collect()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"exception in {HERE}.fail was never retrieved"] * log_unread
    bench.executor.shutdown()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timeout": 30.0},
        {"retry": RetryPolicy(attempts=1, on=KeyError)},
        {"listeners": [lambda _event: None]},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_a_failed_token_is_in_no_ring(options: dict[str, Any]) -> None:
    """It is freed when nobody refers to it, without the collector: its traceback does not lead to it."""

    def fail() -> None:
        raise ValueError("on purpose")

    gc.disable()
    try:
        with TokenGateExecutor(1, log_unread_exceptions=False, **options) as executor:
            token = executor.submit(fail)
            assert isinstance(token.exception(), ValueError)
            reference = weakref.ref(token)
            del token
        assert reference() is None
    finally:
        gc.enable()
