"""The token as its user sees it: what it is, how one waits for it, how it is settled, what it keeps."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError, as_completed, wait
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from types import FrameType
from typing import Any

import pytest

from tokengate_executor import (
    AffinityPolicy,
    ForkedError,
    Token,
    TokenGateExecutor,
    TokenKilledError,
    TokenState,
    TokenTimeoutError,
    current_token,
)
from tokengate_executor.waiting import current_thread, process

HERE = __name__


class FalsyError(Exception):
    """An exception whose truth is false."""

    def __bool__(self) -> bool:
        return False


class Thing:
    """Something of which one can see when it is gone."""


class Shop:
    """Has callables of every kind."""

    def pay(self) -> None:
        """Be a method."""

    @classmethod
    def found(cls) -> None:
        """Be a class method."""

    def __call__(self) -> None:
        """Be called."""


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


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


@pytest.fixture
def held(one: TokenGateExecutor) -> Iterator[Held]:
    """Keep the single worker busy."""
    held = Held(one)
    yield held
    held.release.set()


@contextmanager
def no_collector() -> Iterator[None]:
    """Only what no ring holds is freed in here."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def named() -> None:
    """Do nothing."""


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


def settled_by(state: TokenState) -> Token[int]:
    """Return a bare token in that state."""
    token: Token[int] = Token()
    if state is TokenState.EXECUTING:
        token.set_running_or_notify_cancel()
    elif state is TokenState.COMPLETED:
        token.set_result(5)
    elif state is TokenState.FAILED:
        token.set_exception(ValueError("on purpose"))
    elif state is TokenState.CANCELLED:
        token.cancel()
    return token


def future_like(state: TokenState) -> Future[int]:
    """Return the standard library's future in the same state."""
    future: Future[int] = Future()
    if state is TokenState.EXECUTING:
        future.set_running_or_notify_cancel()
    elif state is TokenState.COMPLETED:
        future.set_result(5)
    elif state is TokenState.FAILED:
        future.set_exception(ValueError("on purpose"))
    elif state is TokenState.CANCELLED:
        future.cancel()
        future.set_running_or_notify_cancel()
    return future


bare_states = pytest.mark.parametrize(
    "state",
    [
        TokenState.CREATED,
        TokenState.EXECUTING,
        TokenState.COMPLETED,
        TokenState.FAILED,
        TokenState.CANCELLED,
    ],
    ids=str,
)

# -- what it is -----------------------------------------------------------------------------------


@bare_states
def test_it_is_a_future(state: TokenState) -> None:
    """Each state is what the standard library's future says in the same place."""
    token, future = settled_by(state), future_like(state)
    assert isinstance(token, Future)
    assert token.state is state
    assert (token.running(), token.done(), token.cancelled()) == (
        future.running(),
        future.done(),
        future.cancelled(),
    )


def test_states_of_a_call(one: TokenGateExecutor, held: Held) -> None:
    """It waits, is admitted to a lane, runs, and is completed."""
    release, started = threading.Event(), threading.Event()

    def stay() -> None:
        started.set()
        release.wait(30)

    first = one.submit(stay)
    followers = [one.submit(named) for _ in range(8)]
    assert (held.token.state, first.state) == (TokenState.EXECUTING, TokenState.WAITING)
    assert first.lane is None
    held.release.set()
    assert started.wait(30)
    assert first.state is TokenState.EXECUTING
    assert held.token.state is TokenState.COMPLETED
    states = [token.state for token in followers]
    assert states[0] is TokenState.ADMITTED, (
        "the lane has taken some of those behind with the first"
    )
    assert states[-1] is TokenState.WAITING
    assert [token.lane for token in followers] == [
        1 if state is TokenState.ADMITTED else None for state in states
    ]
    release.set()
    assert wait(followers, timeout=30).not_done == set()


def test_id_of_one_that_started(one: TokenGateExecutor) -> None:
    """It is the worker's number and how many that had started before; asking again changes nothing."""
    tokens = [one.submit(named) for _ in range(3)]
    assert wait(tokens, timeout=30).not_done == set()
    assert [token.id for token in tokens] == ["1-0", "1-1", "1-2"]
    assert [token.id for token in tokens] == ["1-0", "1-1", "1-2"]


def test_id_of_one_that_waits(one: TokenGateExecutor, held: Held) -> None:
    """It is a number of its own, and stays that when the call starts."""
    first, second = one.submit(named), one.submit(named)
    early = second.id, first.id
    assert all(name.startswith("0-") for name in early)
    assert early[0] != early[1]
    held.release.set()
    assert wait([first, second], timeout=30).not_done == set()
    assert (second.id, first.id) == early
    assert held.token.id == "1-0"


@pytest.mark.parametrize(
    ("fn", "operation"),
    [
        (named, f"{HERE}.named"),
        (Shop().pay, f"{HERE}.Shop.pay"),
        (Shop.found, f"{HERE}.Shop.found"),
        (partial(partial(named)), f"{HERE}.named"),
        (gc.isenabled, "gc.isenabled"),
        ("".upper, "str.upper"),
        (Shop(), f"{HERE}.Shop"),
        (Shop, f"{HERE}.Shop"),
        (dict, "builtins.dict"),
    ],
    ids=repr,
)
def test_operation(
    one: TokenGateExecutor, held: Held, fn: Callable[[], object], operation: str
) -> None:
    """It is the callable's name, before it runs, afterwards, and if it never does."""
    token, cancelled = one.submit(fn), one.submit(fn)
    assert (token.operation, token.state) == (operation, TokenState.WAITING)
    cancelled.cancel()
    held.release.set()
    token.result(30)
    assert token.operation == cancelled.operation == operation


def test_operation_that_was_said(one: TokenGateExecutor) -> None:
    """An option wins over the name; a token without a call has none."""
    assert one.options(operation="pay").submit(named).operation == "pay"
    assert Token().operation == "unnamed"
    assert Token(named).operation == f"{HERE}.named"


def test_weight_and_lane() -> None:
    """A token tells its weight, and once a lane has it, which."""
    policy = AffinityPolicy(lanes=2, heavy=(2,), medium=(1,), light=(1,))
    with TokenGateExecutor(2, lanes=2, policy=policy) as executor:
        heavy = executor.options(weight="heavy").submit(named)
        light = executor.options(weight="light").submit(named)
        plain = executor.submit(named)
        assert wait([heavy, light, plain], timeout=30).not_done == set()
    assert [token.weight for token in (heavy, light, plain)] == ["heavy", "light", None]
    assert (heavy.lane, light.lane) == (2, 1)
    assert plain.lane in {1, 2}
    assert (Token().weight, Token().lane) == (None, None)


def test_times_and_attempts(one: TokenGateExecutor, held: Held) -> None:
    """Each time is there once it has come, and they are in order."""
    before = perf_counter()
    token, cancelled = one.submit(named), one.submit(named)
    assert (token.started_at, token.settled_at, token.attempts) == (None, None, 0)
    cancelled.cancel()
    held.release.set()
    token.result(30)
    assert token.started_at is not None
    assert token.settled_at is not None
    assert before <= token.submitted_at <= token.started_at <= token.settled_at <= perf_counter()
    assert (token.attempts, cancelled.attempts, cancelled.started_at) == (1, 0, None)
    assert cancelled.settled_at is not None
    assert token.submitted_at <= cancelled.submitted_at <= cancelled.settled_at


@bare_states
def test_repr(state: TokenState) -> None:
    """It reads as the standard library's does."""
    token, future = settled_by(state), future_like(state)
    expected = repr(future).replace(f"Future at {id(future):#x}", f"Token at {id(token):#x}")
    assert repr(token) == expected.replace("cancelled_and_notified", "cancelled")


def test_looking_at_it_never_blocks() -> None:
    """Truth, comparison, hash and text of a token need no lock, whoever has it."""
    token = settled_by(TokenState.EXECUTING)
    with token._condition:
        assert token
        assert token == token  # noqa: PLR0124  it is what is tested
        assert token in {token: 1}
        assert f"{token}" == repr(token) == str(token)
        assert token.running()
        assert not token.done()


def test_equality_is_identity() -> None:
    """Tokens with equal results are different tokens."""
    first, second = settled_by(TokenState.COMPLETED), settled_by(TokenState.COMPLETED)
    assert first.result() == second.result()
    assert first != second
    assert first != 5
    assert len({first, second}) == 2


# -- waiting for it -------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
@pytest.mark.parametrize("verb", ["result", "get", "exception"])
def test_out_of_time(held: Held, verb: str, timeout: float) -> None:
    """After the time it raises `TimeoutError`, and the call goes on."""
    before = perf_counter()
    with pytest.raises(TimeoutError):
        getattr(held.token, verb)(timeout)
    assert perf_counter() - before >= timeout
    held.release.set()
    assert held.token.get(30) == 7


@pytest.mark.parametrize("timeout", [None, 30, 1e300])
def test_in_time(held: Held, timeout: float | None) -> None:
    """With all the time in the world, or with enough, the result is waited for."""
    results: list[object] = []
    waiter = threading.Thread(
        target=lambda: results.extend(
            (held.token.result(timeout), held.token.exception(timeout), held.token.get(timeout))
        )
    )
    waiter.start()
    held.release.set()
    waiter.join()
    assert results == [7, None, 7]


def test_many_wait_for_one(held: Held) -> None:
    """Everybody who waits is woken; those who gave up before are no hindrance."""
    with pytest.raises(TimeoutError):
        held.token.result(0.001)
    barrier = threading.Barrier(6)
    results: list[int] = []

    def wait_for_it() -> None:
        barrier.wait(30)
        results.append(held.token.result(30))

    waiters = [threading.Thread(target=wait_for_it) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    barrier.wait(30)
    held.release.set()
    for waiter in waiters:
        waiter.join()
    assert results == [7] * 5


def test_an_interrupt_ends_the_wait_and_nothing_else(held: Held) -> None:
    """What a signal's handler raises comes out of `result`, and the token can be waited for again."""
    interrupted = threading.Event()

    class InterruptError(BaseException):
        pass

    def interrupt(_: int, frame: FrameType | None) -> None:
        assert frame is not None
        if frame.f_globals["__name__"] == "tokengate_executor.token" and not interrupted.is_set():
            interrupted.set()
            raise InterruptError

    main = threading.get_ident()

    def send() -> None:
        while not interrupted.wait(0.01):
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        with pytest.raises(InterruptError):
            held.token.result(50)
    finally:
        interrupted.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert held.token.running()
    held.release.set()
    assert held.token.result(30) == 7


def test_the_exception_is_the_one_that_was_raised(one: TokenGateExecutor) -> None:
    """`result` raises what `exception` returns, each time."""
    token = one.submit(fail)
    error = token.exception(30)
    assert isinstance(error, ValueError)
    for _ in range(2):
        with pytest.raises(ValueError, match="on purpose") as caught:
            token.result()
        assert caught.value is error
    assert token.state is TokenState.FAILED


@pytest.mark.parametrize(
    "kind", [FalsyError, SystemExit, GeneratorExit, StopIteration, TimeoutError]
)
def test_whatever_is_raised_is_the_outcome(
    one: TokenGateExecutor, kind: type[BaseException]
) -> None:
    """Falsy exceptions and those that end threads and loops are exceptions like others."""

    def throw() -> None:
        raise kind

    token = one.submit(throw)
    with pytest.raises(kind):
        token.result(30)
    assert type(token.exception()) is kind
    assert one.submit(named).result(30) is None


def test_the_traceback_begins_in_the_users_code(one: TokenGateExecutor) -> None:
    """No frame of ours is in it; what a builtin raises has none at all."""

    def call() -> None:
        fail()

    error = one.submit(call).exception(30)
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["call", "fail"]
    error = one.submit(int, "no number").exception(30)
    assert error is not None
    assert error.__traceback__ is None


def test_timed_out(one: TokenGateExecutor, held: Held) -> None:
    """One that did not start in time has its error as the outcome."""
    token = one.options(queue_timeout=0).submit(named)
    with pytest.raises(TokenTimeoutError, match=r"named did not start within 0 s"):
        token.result(30)
    assert isinstance(token.exception(), TokenTimeoutError)
    assert (token.state, token.done(), token.cancelled()) == (TokenState.TIMEOUT, True, False)
    assert "state=finished raised TokenTimeoutError" in repr(token)
    held.release.set()


def test_killed_while_it_runs(one: TokenGateExecutor) -> None:
    """Its call learns of it and may end there; whoever waits gets the error of its own."""

    def ends() -> None:
        token = current_token()
        assert token is not None
        token.checkpoint()
        assert not token.kill_requested
        one.kill(token.id)
        assert token.kill_requested
        token.checkpoint()

    token = one.submit(ends)
    with pytest.raises(TokenKilledError, match=r"ends was killed"):
        token.result(30)
    with pytest.raises(TokenKilledError):
        token.exception()
    assert (token.state, token.cancelled(), token.running()) == (TokenState.KILLED, True, False)


class Settling:
    """A worker whose lending takes so long that the token is settled by the time it waits."""

    number = lane_number = 1
    started = 0
    current = None

    def __init__(self) -> None:
        self.asked: list[object] = []

    def run_in_place(self, token: Token[Any]) -> bool:
        """Refuse."""
        self.asked.append(token)
        return False

    @contextmanager
    def lending(self, token: Token[Any] | None, timeout: float | None) -> Iterator[None]:
        """Settle the token."""
        assert token is not None
        self.asked.append(timeout)
        token.set_result(7)
        yield


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_worker_that_waits_lends_its_place(timeout: float | None) -> None:
    """It tries to run the call itself, unless there is a timeout; what is settled needs neither."""
    token: Token[int] = Token()
    host = Settling()
    current_thread.host = host
    try:
        assert token.result(timeout) == 7
        assert token.result(timeout) == 7
    finally:
        del current_thread.host
    assert host.asked == ([token, None] if timeout is None else [30])


# -- callbacks ------------------------------------------------------------------------------------


def test_callbacks_run_in_order_once_on_the_settling_thread(one: TokenGateExecutor) -> None:
    """They get the settled token; one that comes later is called at once by who adds it."""
    release = threading.Event()
    token = one.submit(release.wait)
    seen: list[tuple[int, object, int]] = []
    for number in range(3):
        token.add_done_callback(
            lambda it, number=number: seen.append(  # type: ignore[misc]
                (number, it.done() and it, threading.get_ident())
            )
        )
    (worker,) = one._threads
    release.set()
    one.shutdown()
    assert seen == [(number, token, worker.ident) for number in range(3)]
    token.add_done_callback(lambda it: seen.append((3, it, threading.get_ident())))
    assert seen[3:] == [(3, token, threading.get_ident())]


def test_a_callback_may_add_another(one: TokenGateExecutor, held: Held) -> None:
    """The token is settled by then, so the other is called in the middle of the first."""
    seen: list[str] = []

    def first(token: Token[int]) -> None:
        seen.append("first")
        token.add_done_callback(lambda _: seen.append("inner"))
        seen.append("first ends")

    held.token.add_done_callback(first)
    held.token.add_done_callback(lambda _: seen.append("second"))
    held.release.set()
    one.shutdown()
    assert seen == ["first", "inner", "first ends", "second"]


@pytest.mark.parametrize("how", ["worker", "by hand", "cancel", "late"])
def test_what_a_callback_raises_is_logged(
    one: TokenGateExecutor, held: Held, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Under `concurrent.futures`, with the standard library's text; the others run all the same."""
    seen: list[Token[Any]] = []
    token: Token[Any] = held.token if how == "worker" else Token(named)

    def throw(_: object) -> None:
        fail()

    if how == "late":
        token.set_result(None)
    token.add_done_callback(throw)
    token.add_done_callback(seen.append)
    if how == "by hand":
        token.set_result(None)
    elif how == "cancel":
        token.cancel()
    held.release.set()
    one.shutdown()
    assert seen == [token]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("concurrent.futures", logging.ERROR)
    assert record.getMessage() == f"exception calling callback for {token!r}"
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


def test_what_else_a_callback_raises_comes_out_in_the_end() -> None:
    """`SystemExit` and the like go to who settles the token, once all callbacks have run."""
    token: Token[int] = Token()
    seen: list[object] = []
    token.add_done_callback(lambda _: sys.exit(3))
    token.add_done_callback(lambda _: sys.exit(4))
    token.add_done_callback(seen.append)
    with pytest.raises(SystemExit) as caught:
        token.set_result(1)
    assert caught.value.code == 3
    assert (seen, token.result()) == ([token], 1)


# -- settling it ----------------------------------------------------------------------------------


def test_cancel(one: TokenGateExecutor, held: Held) -> None:
    """One that waits is settled when `cancel` returns; again it is true, for a running one false."""
    seen: list[Token[Any]] = []
    token = one.submit(fail)
    token.add_done_callback(seen.append)
    assert not held.token.cancel()
    assert token.cancel()
    assert seen == [token]
    assert token.cancel()
    assert token.state is TokenState.CANCELLED
    for ask in (token.result, token.exception, token.get):
        with pytest.raises(CancelledError):
            ask(0)
    held.release.set()
    assert held.token.result(30) == 7
    assert not held.token.cancel()
    assert seen == [token], "it never ran, and was told once"


def test_cancel_wakes_who_waits(one: TokenGateExecutor, held: Held) -> None:
    """A thread that waits for the result gets `CancelledError`."""
    token = one.submit(named)
    outcome: list[BaseException] = []
    ready = threading.Event()

    def wait_for_it() -> None:
        ready.set()
        try:
            token.result(30)
        except CancelledError as error:
            outcome.append(error)

    waiter = threading.Thread(target=wait_for_it)
    waiter.start()
    assert ready.wait(30)
    token.cancel()
    waiter.join()
    assert len(outcome) == 1
    held.release.set()


@bare_states
@pytest.mark.parametrize("verb", ["set_result", "set_exception"])
def test_settling_by_hand(state: TokenState, verb: str) -> None:
    """It works unless it is settled; then the error has the standard library's text."""
    token, future = settled_by(state), future_like(state)
    argument = 9 if verb == "set_result" else ValueError("by hand")
    if not state.settled:
        getattr(token, verb)(argument)
        assert (token.result() if verb == "set_result" else token.exception()) is argument
        return
    with pytest.raises(InvalidStateError) as expected:
        getattr(future, verb)(argument)
    with pytest.raises(InvalidStateError) as caught:
        getattr(token, verb)(argument)
    assert str(caught.value) == (
        str(expected.value)
        .replace(repr(future), repr(token))
        .replace("state=cancelled_and_notified", "state=cancelled")
    )


@pytest.mark.parametrize("state", [TokenState.EXECUTING, TokenState.COMPLETED], ids=str)
def test_starting_it_twice(state: TokenState, caplog: pytest.LogCaptureFixture) -> None:
    """What runs or is settled cannot be begun: the standard library's error, and its word in the log."""
    token = settled_by(state)
    with pytest.raises(RuntimeError, match=r"^Future in unexpected state$"):
        token.set_running_or_notify_cancel()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("concurrent.futures", logging.CRITICAL)
    assert record.getMessage() == (
        f"Future {id(token)} in unexpected state: {future_like(state)._state}"  # type: ignore[attr-defined]
    )


def test_an_exception_that_is_none() -> None:
    """As with the standard library's futures, there is then neither a result nor an exception."""
    token, future = Token[int](), Future[int]()
    for one in (token, future):
        one.set_exception(None)
        assert (one.exception(), one.result()) == (None, None)


def test_starting_it_by_hand() -> None:
    """It works once, and for a cancelled one it says no."""
    token, cancelled = settled_by(TokenState.CREATED), settled_by(TokenState.CANCELLED)
    assert token.set_running_or_notify_cancel()
    assert not token.cancel()
    assert token.attempts == 1
    assert not cancelled.set_running_or_notify_cancel()


@pytest.mark.parametrize("max_pending", [None, 2])
def test_taking_one_out_of_an_executors_queue(max_pending: int | None) -> None:
    """A queued token that somebody else starts or settles is not run, and its place is free."""
    with TokenGateExecutor(1, max_pending=max_pending, on_full="raise") as executor:
        held = Held(executor)
        started, settled = executor.submit(fail), executor.submit(fail)
        assert started.set_running_or_notify_cancel()
        settled.set_result(None)
        assert executor._work_queue.qsize() == 0
        later = [executor.submit(named), executor.submit(named)]
        held.release.set()
        assert wait(later, timeout=30).not_done == set()
        assert (started.state, settled.result()) == (TokenState.EXECUTING, None)
        started.set_result(None)
        assert executor.statistics().completed == 3


# -- asyncio --------------------------------------------------------------------------------------


def test_await(one: TokenGateExecutor) -> None:
    """A token can be awaited before and after it is settled, more than once, whatever its outcome."""

    async def main() -> None:
        token, failed = one.submit(pow, 2, 3), one.submit(fail)
        assert [await token, await token, await asyncio.wrap_future(token)] == [8, 8, 8]
        for _ in range(2):
            with pytest.raises(ValueError, match="on purpose"):
                await failed

    asyncio.run(main())


def test_cancelling_one_who_awaits_a_running_call(held: Held) -> None:
    """The call goes on, and others who wait for it get its result."""

    async def main() -> None:
        async def get() -> int:
            return await held.token

        first, second = asyncio.ensure_future(get()), asyncio.ensure_future(get())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        held.release.set()
        assert await second == 7

    asyncio.run(main())


def test_awaiting_a_cancelled_token(one: TokenGateExecutor, held: Held) -> None:
    """Whoever awaits it is cancelled, also if that happens meanwhile."""
    token = one.submit(named)

    async def main() -> None:
        async def get() -> None:
            return await token

        waiting = asyncio.ensure_future(get())
        await asyncio.sleep(0)
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(asyncio.CancelledError):
            await token

    asyncio.run(main())
    held.release.set()


# -- in a forked child ----------------------------------------------------------------------------


class LeftBehind:
    """The profile of a token that was submitted before the fork."""

    weight = None
    operation = "inherited"
    weight_index = 0
    queue_timeout = None
    log_unread_exceptions = False

    def left_queue(self, _token: object, *, cancelled: bool) -> None:
        """Not in a child."""
        raise AssertionError(cancelled)

    def give_up_place(self, _token: object) -> None:
        """Not in a child."""
        raise AssertionError

    def make_room(self, token: Token[Any]) -> None:
        """Not in a child."""
        raise AssertionError(token)

    def left_behind(self, submitted_at: float, host: object) -> bool:
        """Say yes."""
        return submitted_at > 0 and host is None


def assert_done(token: Token[Any]) -> None:
    """Ask whether it is done."""
    assert token.done()


@pytest.mark.parametrize(
    "ask",
    [
        lambda token: token.exception(),
        lambda token: token.exception(timeout=0),
        assert_done,
        lambda token: token.cancel(),
        lambda token: token.id,
        lambda token: wait([token]).done.pop(),
        lambda token: next(as_completed([token])),
        lambda token: token.add_done_callback(lambda it: it.result),
    ],
    ids=["wait", "try", "done", "cancel", "id", "futures.wait", "as_completed", "callback"],
)
def test_left_over_from_before_a_fork(
    ask: Callable[[Token[Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one asks, it fails instead of keeping one waiting; its old callbacks are not run."""
    token: Token[int] = Token(int, (), None, None, LeftBehind())
    seen: list[object] = []
    token.add_done_callback(seen.append)
    monkeypatch.setattr(process, "is_forked", True)
    ask(token)
    error = token.exception(0)
    assert isinstance(error, ForkedError)
    ask(token)
    assert token.exception(0) is error
    assert (token.state, token.done(), token.cancelled()) == (TokenState.FAILED, True, False)
    assert seen == []


# -- what it keeps --------------------------------------------------------------------------------


class Call(Thing):
    """A callable that takes anything."""

    def __call__(self, *_: object, **__: object) -> None:
        """Do nothing."""


class FailingCall(Thing):
    """One whose error's traceback has no frame that would keep the arguments."""

    __call__ = pow


@pytest.mark.parametrize("end", ["result", "error", "cancel", "by hand", "kill", "time is over"])
def test_a_settled_token_lets_go_of_its_call(one: TokenGateExecutor, held: Held, end: str) -> None:
    """The function and its arguments are gone as soon as it is settled, with the token still here."""
    call, argument, keyword = FailingCall() if end == "error" else Call(), Thing(), Thing()
    alive = [weakref.ref(thing) for thing in (call, argument, keyword)]
    seen: list[int] = []
    with no_collector():
        view = one.options(operation="this", queue_timeout=0 if end == "time is over" else None)
        token = view.submit(call, argument, mod=keyword)
        token.add_done_callback(lambda _: seen.append(sum(one() is not None for one in alive)))
        del call, argument, keyword
        if end == "cancel":
            token.cancel()
        elif end == "by hand":
            token.set_result(None)
        elif end == "kill":
            assert one.kill(operation="this") == 1
        elif end == "time is over":
            assert wait([token], timeout=30).done
        held.release.set()
        one.shutdown()
        assert token.done()
        assert seen == [0], "they are gone before anybody is told"


class GoneError(Exception):
    """An exception of which one can see when it is gone."""


def read(tokens: list[Token[None]], verb: str) -> weakref.ref[GoneError]:
    """Get the error of the one token in the list, and keep neither of them."""
    try:
        if (returned := getattr(tokens.pop(), verb)(30)) is not None:
            gone = weakref.ref(returned)
            del returned
            return gone
    except GoneError as error:
        return weakref.ref(error)
    raise AssertionError("there was no error")


async def read_in_loop(tokens: list[Token[None]]) -> weakref.ref[GoneError]:
    """Do the same by awaiting it."""
    try:
        await tokens.pop()
    except GoneError as error:
        return weakref.ref(error)
    raise AssertionError("there was no error")


@pytest.mark.parametrize("verb", ["result", "get", "exception", "await"])
def test_reading_an_error_makes_no_ring(verb: str) -> None:
    """Once the token and the error are let go of, both are gone without the collector's help."""
    with no_collector():
        tokens: list[Token[None]] = [Token()]
        tokens[0].set_exception(GoneError())
        token_gone = weakref.ref(tokens[0])
        error_gone = read(tokens, verb) if verb != "await" else asyncio.run(read_in_loop(tokens))
        assert (error_gone(), token_gone()) == (None, None)


def test_no_ring_keeps_a_result_alive(one: TokenGateExecutor) -> None:
    """When its token is gone nothing of ours has it, though the worker waits for more."""
    with no_collector():
        token = one.submit(Thing)
        gone = weakref.ref(token.result(30)), weakref.ref(token)
        del token
        one.submit(named).result(30)  # the worker has come back from the first by then
        assert [one() for one in gone] == [None, None]
        assert one.statistics().workers == 1


def test_a_wait_that_timed_out_keeps_nothing(held: Held) -> None:
    """The error of a wait that was too short does not keep the token."""
    with no_collector():
        token: Token[None] = Token(named)
        gone = weakref.ref(token)
        with pytest.raises(TimeoutError):
            token.result(0.001)
        del token
        assert gone() is None
    held.release.set()
