"""Claims: of all who want a waiting token one gets it, and whoever ends it unrun says so once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tokengate_executor import ForkedError, Token, TokenKilledError, TokenState, TokenTimeoutError
from tokengate_executor.engine.claims import (
    claim,
    claim_in_queue,
    end_unrun,
    expire,
    fail_waiting,
    host_of,
    is_waiting,
    kill_waiting,
    orphan,
    unclaim,
    withdraw,
)


class Notes:
    """The profile of a queued token, which notes what the token tells it."""

    weight = None
    operation = "noted"
    weight_index = 0
    queue_timeout: float | None = 2.5
    log_unread_exceptions = False

    def __init__(self) -> None:
        self.told: list[object] = []
        self.phase_when_told: TokenState | None = None
        self.token: Token[Any] | None = None

    def left_queue(self, _token: object, *, cancelled: bool) -> None:
        """Note it, and that nobody can see it yet."""
        assert self.token is not None
        self.phase_when_told = self.token.state
        self.told.append(("left", cancelled))

    def give_up_place(self, _token: object) -> None:
        """Note it."""
        self.told.append("place")

    def make_room(self, token: Token[Any]) -> None:
        """Note it; the token's lock is free by then."""
        assert not token._lock.locked()
        self.told.append("room")

    def left_behind(self, submitted_at: float, host: object) -> bool:
        """Say no."""
        return submitted_at < 0 and host is not None


def waiting(notes: Notes | None = None) -> Token[Any]:
    """Return a token that waits in some queue."""
    token: Token[Any] = Token(int, (), None, None, notes)
    token._phase = TokenState.WAITING
    if notes is not None:
        notes.token = token
    return token


def in_state(state: TokenState) -> Token[Any]:
    """Return a queued token that has come to that state."""
    token = waiting()
    if state is TokenState.CREATED:
        return Token(int)
    if state is TokenState.CANCELLED:
        token.cancel()
    elif state is TokenState.EXECUTING:
        claim(token)
    elif state is TokenState.COMPLETED:
        token.set_result(None)
    return token


# -- claiming -------------------------------------------------------------------------------------


def test_claim_once() -> None:
    """The first claimant has it, the second has not, and nobody can cancel it any more."""
    token = waiting()
    assert is_waiting(token)
    assert claim(token)
    assert token.state is TokenState.EXECUTING
    assert not is_waiting(token)
    assert not claim(token)
    assert not claim_in_queue(token)
    assert not token.cancel()


@pytest.mark.parametrize(
    "state",
    [TokenState.CREATED, TokenState.EXECUTING, TokenState.COMPLETED, TokenState.CANCELLED],
    ids=str,
)
def test_what_does_not_wait_cannot_be_had(state: TokenState) -> None:
    """Neither claimed nor ended unrun: it stays what it is."""
    token = in_state(state)
    takers: list[Callable[[Token[Any]], bool]] = [
        claim,
        claim_in_queue,
        kill_waiting,
        expire,
        lambda one: fail_waiting(one, ValueError()),
        lambda one: withdraw(one, RuntimeError()),
    ]
    assert [take(token) for take in takers] == [False] * len(takers)
    assert token.state is state


def test_claim_in_queue_leaves_a_shell() -> None:
    """Its queue is told, before anybody can see that it does not wait; it was not cancelled."""
    notes = Notes()
    token = waiting(notes)
    assert claim_in_queue(token)
    assert notes.told == [("left", False)]
    assert notes.phase_when_told is TokenState.WAITING
    assert claim_in_queue(waiting()), "one that is in no executor's queue has nobody to tell"


def test_a_claim_by_who_took_it_out_leaves_none() -> None:
    """Who has it from its queue tells nobody."""
    notes = Notes()
    assert claim(waiting(notes))
    assert notes.told == []


def test_unclaim() -> None:
    """A claimant that has not begun gives it back: it waits, in no lane, and can be had again."""
    token = waiting()
    token._lane = 3
    assert claim(token)
    unclaim(token)
    assert (token.state, token.lane) == (TokenState.WAITING, None)
    assert claim(token)


def test_host_of() -> None:
    """There is one as soon as a worker has begun with it."""
    token = waiting()
    assert host_of(token) is None
    host: Any = object()
    token._host = host
    assert host_of(token) is host


# -- ending it unrun ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "state", "error", "text"),
    [
        (lambda t: fail_waiting(t, OSError("no")), TokenState.FAILED, OSError, "no"),
        (lambda t: withdraw(t, RuntimeError("shut")), TokenState.FAILED, RuntimeError, "shut"),
        (kill_waiting, TokenState.KILLED, TokenKilledError, "noted was killed"),
        (
            expire,
            TokenState.TIMEOUT,
            TokenTimeoutError,
            "noted did not start within 2.5 s (queue_timeout)",
        ),
    ],
    ids=["fail", "withdraw", "kill", "expire"],
)
def test_ending_it_unrun(
    end: Callable[[Token[Any]], bool],
    state: TokenState,
    error: type[BaseException],
    text: str,
) -> None:
    """It is settled, whoever waits is told, its queue knows of its shell, and its place is free."""
    notes = Notes()
    token = waiting(notes)
    seen: list[tuple[object, object]] = []
    token.add_done_callback(lambda it: seen.append((it, list(notes.told))))
    assert end(token)
    assert token.state is state
    with pytest.raises(error) as caught:
        token.result(0)
    assert str(caught.value) == text
    assert notes.told == [("left", state is TokenState.KILLED), "room"]
    assert notes.phase_when_told is TokenState.WAITING
    assert seen == [(token, notes.told)], "its place is free before callbacks run"
    assert token._fn is None


def test_expire_without_a_profile() -> None:
    """A bare token expires, too; nobody said for how long it was to wait."""
    token = waiting()
    assert expire(token)
    with pytest.raises(TokenTimeoutError, match=r"builtins\.int did not start within 0 s"):
        token.result(0)


def test_what_a_callback_raises_does_not_reach_who_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not even `SystemExit`: it may be a worker. It is logged."""
    token = waiting()
    token.add_done_callback(lambda _: sys.exit(1))
    assert end_unrun(token, TokenState.FAILED, ValueError())
    assert [record.name for record in caplog.records] == ["concurrent.futures"]


def test_orphan() -> None:
    """It fails with an error of its own, whoever may hold its lock, and callbacks are not run."""
    token = waiting()
    seen: list[object] = []
    token.add_done_callback(seen.append)
    token._lock.acquire()
    orphan(token)
    with pytest.raises(ForkedError, match="its call runs in the parent process"):
        token.result(0)
    assert seen == []


def test_orphaning_a_settled_one_changes_nothing() -> None:
    """What it came to before the fork is the same in the child."""
    token = waiting()
    token.set_result(5)
    orphan(token)
    assert token.result(0) == 5


# -- together -------------------------------------------------------------------------------------


def test_one_of_many_wins() -> None:
    """Of threads that claim, cancel, kill and fail one token at once, exactly one has its way."""
    ways: list[Callable[[Token[Any]], bool]] = [
        claim,
        claim_in_queue,
        kill_waiting,
        expire,
        lambda token: fail_waiting(token, ValueError()),
    ]
    rounds = 150
    tokens = [waiting(Notes()) for _ in range(rounds)]
    won: list[list[Callable[[Token[Any]], bool]]] = [[] for _ in range(rounds)]
    barrier = threading.Barrier(len(ways))

    def compete(way: Callable[[Token[Any]], bool]) -> None:
        for number, token in enumerate(tokens):
            barrier.wait(30)
            if way(token):
                won[number].append(way)

    threads = [threading.Thread(target=compete, args=(way,)) for way in ways]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert {len(winners) for winners in won} == {1}
    for token, (winner,) in zip(tokens, won, strict=True):
        assert token.running() == (winner in (claim, claim_in_queue))
