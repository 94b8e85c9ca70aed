"""The history: the last finished calls of all workers, in order, without what they were given."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import FrozenInstanceError, fields
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from tokengate_executor import (
    AffinityPolicy,
    TokenGateExecutor,
    TokenRecord,
    TokenState,
    complexity_of,
    current_token,
)
from tokengate_executor.observe.history import merged

HERE = __name__


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


def ring_of(number: int, *settled_at: float) -> Any:
    """Return a worker that finished calls at these moments."""
    profile = SimpleNamespace(operation=None, weight=None)
    ring = [
        (None, serial, ("here", "call"), profile, None, at - 3, at - 2, at, None, 1)
        for serial, at in enumerate(settled_at)
    ]
    return SimpleNamespace(number=number, lane_number=1, ring=ring)


def test_nothing_has_run(one: TokenGateExecutor) -> None:
    """Then there is none."""
    assert one.history() == ()


def test_a_record(one: TokenGateExecutor) -> None:
    """It has the token's name, weight, place and times."""
    token = one.options(weight="heavy").submit(abs, -5)
    assert token.result(30) == 5
    (record,) = one.history()
    assert token.started_at is not None
    assert token.settled_at is not None
    assert record == TokenRecord(
        token_id=token.id,
        operation="builtins.abs",
        weight="heavy",
        lane=1,
        worker=1,
        state=TokenState.COMPLETED,
        error=None,
        waited_seconds=token.started_at - token.submitted_at,
        run_seconds=token.settled_at - token.started_at,
        settled_at=token.settled_at,
        attempts=1,
        complexity=complexity_of(abs),
    )
    assert record.success


def test_each_outcome(one: TokenGateExecutor) -> None:
    """What returned, what raised, what was killed and heeded it; only the first is a success."""

    def killed() -> None:
        token = current_token()
        assert token is not None
        one.kill(token.id)
        token.checkpoint()

    for fn in (int, fail, killed):
        wait([one.submit(fn)], timeout=30)
    one.history()[1]  # the exception that was not read is not in there
    one.shutdown()
    assert [(record.state, record.error, record.success) for record in one.history()] == [
        (TokenState.COMPLETED, None, True),
        (TokenState.FAILED, "ValueError", False),
        (TokenState.KILLED, "TokenKilledError", False),
    ]


def test_what_never_ran_is_not_in_it(one: TokenGateExecutor) -> None:
    """Cancelled, killed and late ones are not."""
    hold, started = threading.Event(), threading.Event()

    def stay() -> None:
        started.set()
        hold.wait(30)

    one.options(operation="ran").submit(stay)
    assert started.wait(30)
    one.submit(int).cancel()
    one.options(operation="this").submit(int)
    one.kill(operation="this")
    wait([one.options(queue_timeout=0).submit(int)], timeout=30)
    hold.set()
    one.shutdown()
    assert [record.operation for record in one.history()] == ["ran"]


@pytest.mark.parametrize(
    ("fn", "operation"),
    [
        (partial(int, "5"), "builtins.int"),
        ("".upper, "str.upper"),
        (fail, f"{HERE}.fail"),
    ],
)
def test_operations(one: TokenGateExecutor, fn: Any, operation: str) -> None:
    """Without an option they go by their names; an option wins."""
    wait([one.submit(fn), one.options(operation="said").submit(fn)], timeout=30)
    assert [record.operation for record in one.history()] == [operation, "said"]


def test_ids_are_those_of_the_tokens(one: TokenGateExecutor) -> None:
    """Whether they were asked for before the start, while it ran, after the end, or never."""
    hold = threading.Event()

    def stay() -> str:
        hold.wait(30)
        token = current_token()
        assert token is not None
        return token.id

    tokens = [one.submit(stay), one.submit(int), one.submit(int)]
    early = tokens[1].id
    hold.set()
    assert wait(tokens, timeout=30).not_done == set()
    recorded = [record.token_id for record in one.history()]
    assert recorded == [token.id for token in tokens]
    assert recorded == [tokens[0].result(), early, "1-2"]


def test_all_workers_are_in_it() -> None:
    """With their lanes and numbers, in the order in which their calls ended."""
    policy = AffinityPolicy(lanes=2, heavy=(1,), medium=(1,), light=(2,))
    with TokenGateExecutor(2, lanes=2, policy=policy) as executor:
        heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
        for view in (heavy, light, heavy):
            assert view.submit(int).result(30) == 0
        seen = [(record.lane, record.worker, record.token_id) for record in executor.history()]
    assert seen == [(1, 1, "1-0"), (2, 2, "2-0"), (1, 1, "1-1")]


def test_merged_by_the_moment_of_the_end() -> None:
    """Rings of several workers, each in order, come to one in order; the last ones are kept."""
    workers = [ring_of(1, 10.0, 40.0), ring_of(2, 20.0, 30.0, 50.0), ring_of(3)]
    ids = ["1-0", "2-0", "2-1", "1-1", "2-2"]
    for size in (100, 5, 2, 1):
        records = merged(workers, size)
        assert [record.token_id for record in records] == ids[-size:]
    assert merged(workers, 0) == ()
    first = merged(workers, 5)[0]
    assert (first.waited_seconds, first.run_seconds, first.settled_at) == (1.0, 2.0, 10.0)


@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_and_no_more(workers: int) -> None:
    """All workers' records together are as many as were asked for, the last ones."""
    with TokenGateExecutor(workers, history_size=4) as executor:
        tokens = [executor.submit(int) for _ in range(50)]
        assert wait(tokens, timeout=30).not_done == set()
        records = executor.history()
    assert len(records) == 4
    assert {record.token_id for record in records} <= {token.id for token in tokens}
    assert sorted(records, key=lambda record: record.settled_at) == list(records)


def test_it_holds_neither_arguments_nor_results(one: TokenGateExecutor) -> None:
    """Names and numbers only: what a call was given and returned is gone with its token."""

    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    assert one.submit(list, [thing]).result(30) == [thing]
    one.submit(int).result(30)
    del thing
    assert gone() is None
    assert len(one.history()) == 2


def test_records_are_values(one: TokenGateExecutor) -> None:
    """What one was handed does not change, and cannot be changed."""
    one.submit(int).result(30)
    before = one.history()
    one.submit(int).result(30)
    assert len(before) == 1
    assert one.history()[:1] == before
    for field in fields(TokenRecord):
        with pytest.raises(FrozenInstanceError):
            setattr(before[0], field.name, None)
