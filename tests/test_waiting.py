"""Those who wait for a token: how each is told, and who lends a worker while it waits."""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable, Generator
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Future,
    as_completed,
    wait,
)
from contextlib import contextmanager
from typing import Any

import pytest

from tokengate_executor import Token, TokenGateExecutor, TokenState, current_token
from tokengate_executor.waiting import Audience, Waiters, current_thread


class Waiter:
    """What the standard library's waiters have, and a note of what they were told."""

    def __init__(self, event: Any = None) -> None:
        self.event = event or threading.Event()
        self.told: list[tuple[str, object]] = []

    def add_result(self, future: object) -> None:
        """Note it."""
        self.told.append(("result", future))

    def add_exception(self, future: object) -> None:
        """Note it."""
        self.told.append(("exception", future))

    def add_cancelled(self, future: object) -> None:
        """Note it."""
        self.told.append(("cancelled", future))


class Lender:
    """A worker as a token sees it, which notes for what it lends its place."""

    number = lane_number = 1
    started = 0
    current = None

    def __init__(self) -> None:
        self.lent: list[tuple[object, object]] = []

    def run_in_place(self, token: Token[Any]) -> bool:
        """Refuse."""
        raise AssertionError(token)

    @contextmanager
    def lending(
        self, token: Token[Any] | None, timeout: float | None
    ) -> Generator[None, None, None]:
        """Note it."""
        self.lent.append((token, timeout))
        yield
        self.lent.append(("back", None))


@contextmanager
def hosted_by(host: Lender) -> Generator[None, None, None]:
    """Let this thread be a worker's."""
    current_thread.host = host
    try:
        yield
    finally:
        del current_thread.host


def in_thread(action: Callable[[], object]) -> threading.Thread:
    """Start it in a thread of its own."""
    thread = threading.Thread(target=action)
    thread.start()
    return thread


# -- the audience ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (TokenState.COMPLETED, "result"),
        (TokenState.FAILED, "exception"),
        (TokenState.TIMEOUT, "exception"),
        (TokenState.CANCELLED, "cancelled"),
        (TokenState.KILLED, "cancelled"),
    ],
)
def test_everybody_is_told(state: TokenState, word: str) -> None:
    """Waiters hear what became of it, sleepers wake, callbacks are handed out in order."""
    token: Token[None] = Token()
    callbacks: list[Callable[[Any], object]] = [print, repr]
    audience = Audience(callbacks)
    waiters = [Waiter(), Waiter()]
    audience.waiters = Waiters()
    audience.waiters.extend(waiters)
    sleepers = [allocate_lock(), allocate_lock()]
    for sleeper in sleepers:
        sleeper.acquire()
    audience.sleepers = list(sleepers)
    assert audience.tell(token, state) == [print, repr]
    assert [waiter.told for waiter in waiters] == [[(word, token)]] * 2
    assert not any(sleeper.locked() for sleeper in sleepers)


def test_callbacks_and_sleepers_are_told_once() -> None:
    """Telling again hands out no callback and wakes nobody; waiters stay until they go."""
    audience = Audience([print])
    sleeper = allocate_lock()
    sleeper.acquire()
    audience.sleepers = [sleeper]
    token: Token[None] = Token()
    assert list(audience.tell(token, TokenState.COMPLETED)) == [print]
    assert list(audience.tell(token, TokenState.COMPLETED)) == []


def test_an_audience_of_nobody() -> None:
    """It is told without further ado."""
    assert not Audience().tell(Token(), TokenState.FAILED)


# -- waiters of the standard library --------------------------------------------------------------


def test_a_waiter_that_is_no_workers_is_left_alone() -> None:
    """Outside of workers its event stays what it was."""
    waiter = Waiter()
    event = waiter.event
    Waiters().append(waiter)
    assert waiter.event is event


def test_a_workers_waiter_lends_its_place_while_it_waits() -> None:
    """Its event is exchanged; waiting on that lends, for as long as it takes and no longer."""
    host, waiter, waiters = Lender(), Waiter(), Waiters()
    with hosted_by(host):
        waiters.append(waiter)
    assert list(waiters) == [waiter]
    assert not waiter.event.wait(0)
    assert host.lent == [(None, 0), ("back", None)]
    waiter.event.set()
    assert waiter.event.wait()
    assert len(host.lent) == 2, "one that is set is not waited for"


def test_a_waiter_with_an_event_of_its_own_kind_keeps_it() -> None:
    """Whatever somebody else has put there is not exchanged."""

    class OtherEvent(threading.Event):
        pass

    waiter = Waiter(OtherEvent())
    with hosted_by(Lender()):
        Waiters().append(waiter)
    assert type(waiter.event) is OtherEvent


def test_wait_for_tokens_and_plain_futures_together() -> None:
    """`wait` takes both, with every `return_when`."""
    plain: Future[int] = Future()
    done: Token[int] = Token()
    failed: Token[int] = Token()
    open_: Token[int] = Token()
    done.set_result(1)
    futures = [plain, done, open_]
    assert wait(futures, timeout=0).done == {done}
    assert wait(futures, return_when=FIRST_COMPLETED) == ({done}, {plain, open_})
    failed.set_exception(ValueError())
    assert wait([*futures, failed], return_when=FIRST_EXCEPTION).done == {done, failed}
    setter = in_thread(lambda: (open_.set_result(2), plain.set_result(3)))
    assert wait(futures, timeout=30).not_done == set()
    assert {future.result() for future in as_completed(futures)} == {1, 2, 3}
    setter.join()
    assert not open_._waiters, "whoever waited has taken itself away"


def test_as_completed_hears_of_each_kind_of_end() -> None:
    """Tokens come as they complete, fail, or are cancelled by somebody else meanwhile."""
    tokens: list[Token[int]] = [Token() for _ in range(3)]
    seen: list[Token[int]] = []
    ends: list[Callable[[], object]] = [
        lambda: tokens[2].set_result(1),
        tokens[0].cancel,
        lambda: tokens[1].set_exception(ValueError()),
    ]
    ends.reverse()
    ends.pop()()
    for token in as_completed(tokens, timeout=30):
        seen.append(token)
        if ends:
            in_thread(ends.pop()).join()
    assert seen == [tokens[2], tokens[0], tokens[1]]


def test_as_completed_is_out_of_time() -> None:
    """What has completed comes first, then the error."""
    done, open_ = Token[int](), Token[int]()
    done.set_result(1)
    results = as_completed([done, open_], timeout=0)
    assert next(results) is done
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(results)


# -- which token a thread runs ----------------------------------------------------------------------


def test_no_token_outside_of_calls() -> None:
    """The thread that submits runs none."""
    assert current_token() is None


def test_current_token_is_the_innermost() -> None:
    """A call sees its own token, also when one runs inside another's wait on the same thread."""
    with TokenGateExecutor(1) as executor:

        def inner() -> tuple[int, Token[Any] | None]:
            return threading.get_ident(), current_token()

        def outer() -> tuple[bool, Token[Any] | None, bool, Token[Any] | None]:
            before = current_token()
            child = executor.submit(inner)
            thread, seen = child.result()
            return thread == threading.get_ident(), before, seen is child, current_token()

        token = executor.submit(outer)
        in_place, before, is_childs, after = token.result(30)
        assert in_place, "else this shows less than it should"
        assert before is after is token
        assert is_childs


def test_callbacks_run_in_no_call() -> None:
    """When callbacks run the call is over, though it is the worker's thread."""
    release = threading.Event()
    seen: list[tuple[object, object]] = []
    with TokenGateExecutor(1) as executor:
        token = executor.submit(release.wait)
        token.add_done_callback(lambda _: seen.append((current_token(), threading.get_ident())))
        (worker,) = executor._threads
        release.set()
    assert seen == [(None, worker.ident)]


def test_a_caller_that_runs_its_own_call_sees_its_token() -> None:
    """With `on_full="caller_runs"` the submitting thread runs tokens, too, one inside another."""
    hold, started = threading.Event(), threading.Event()
    with TokenGateExecutor(1, max_pending=1, on_full="caller_runs") as executor:

        def stay() -> None:
            started.set()
            hold.wait(30)

        def nest() -> tuple[Token[Any] | None, bool, Token[Any] | None]:
            before = current_token()
            child = executor.submit(current_token)
            return before, child.result(0) is child, current_token()

        executor.submit(stay)
        assert started.wait(30)
        executor.submit(int)
        token = executor.submit(nest)
        assert token.result(0) == (token, True, token)
        assert current_token() is None
        hold.set()
