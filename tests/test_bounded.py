"""Bounds on what waits: each way to deal with one more, and who must never be held up."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tokengate_executor import (
    GateFullError,
    InvalidOptionError,
    Token,
    TokenGateExecutor,
    TokenState,
    current_token,
)


@contextmanager
def full(places: Any, workers: int = 1, **arguments: Any) -> Iterator[tuple[Any, ...]]:
    """Yield an executor whose workers are held, what lets them go, and tokens in all places."""
    with TokenGateExecutor(workers, max_pending=places, **arguments) as executor:
        release = threading.Event()
        entered = threading.Barrier(workers + 1)

        def hold() -> None:
            entered.wait(30)
            release.wait(30)

        for _ in range(workers):
            executor.submit(hold)
        entered.wait(30)
        waiting = [executor.submit(threading.get_ident) for _ in range(places)]
        try:
            yield executor, release, waiting
        finally:
            release.set()


def test_raise() -> None:
    """One too many is refused with the facts, and counted."""
    with full(3, on_full="raise") as (executor, release, waiting):
        with pytest.raises(
            GateFullError, match=r"3 of at most 3 calls wait \(max_pending\)"
        ) as info:
            executor.submit(int)
        assert (info.value.pending, info.value.bound, info.value.lane) == (3, 3, None)
        now = executor.statistics()
        assert (now.rejected, now.pending, now.capacity, now.waiting) == (1, 3, 3, 3)
        assert waiting[1].cancel()
        token = executor.submit(int)  # its place is free at once
        release.set()
        assert token.result(30) == 0
    assert executor.statistics().submitted == 1 + 3 + 1 + 1


def test_the_only_lane_is_named() -> None:
    """A weight that one lane alone may run has the number of that lane in its refusal."""
    with (
        full(1, 2, lanes=2, on_full="raise") as (executor, _, _),
        pytest.raises(GateFullError, match="for lane 2") as info,
    ):
        executor.options(weight="light").submit(int)
    assert info.value.lane == 2


def test_caller_runs() -> None:
    """The caller runs it itself, in its own thread, as a token like others."""
    with full(1, on_full="caller_runs") as (executor, _, _):
        seen: list[object] = []

        def call() -> int:
            seen.append(current_token())
            return threading.get_ident()

        token = executor.submit(call)
        assert token.done()
        assert token.result() == threading.get_ident()
        assert seen == [token]
        assert current_token() is None
        failing = executor.submit(int, "x")
        assert isinstance(failing.exception(), ValueError)
    now = executor.statistics()
    assert (now.completed, now.failed, now.submitted) == (3, 1, 4)
    assert {record.token_id for record in executor.history()} >= {token.id, failing.id}


def test_caller_does_not_run_what_is_paused() -> None:
    """What may not start is not started by the caller either."""
    with full(1, on_full="caller_runs") as (executor, _, _):
        executor.pause()
        with pytest.raises(GateFullError, match="the caller cannot run one"):
            executor.submit(int)
        executor.resume()


def test_discard_oldest() -> None:
    """The one that has waited longest is cancelled for the new one, and its arguments are freed."""

    class Argument:
        pass

    with full(2, on_full="discard_oldest") as (executor, release, waiting):
        argument = Argument()
        gone = weakref.ref(argument)
        third = executor.submit(id, argument)
        del argument
        assert [token.state for token in waiting] == [TokenState.CANCELLED, TokenState.WAITING]
        executor.submit(int)
        executor.submit(int)
        assert third.cancelled()
        assert gone() is None
        assert executor.statistics().pending == 2
        release.set()
    assert executor.statistics().cancelled == 3


def test_discard_oldest_keeps_no_results() -> None:
    """However many calls have run, the list of who is oldest holds none of them."""
    with TokenGateExecutor(1, max_pending=4, on_full="discard_oldest") as executor:
        for _ in range(200):
            executor.submit(int).result(30)
        ((_, admitted),) = executor.gate._admitted.items()  # type: ignore[attr-defined]
        assert len(admitted) <= 2 * 4 + 16


def test_discard_oldest_never_refuses() -> None:
    """Between coming in and being listed, and being claimed and leaving, a place is nobody's."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    refused: list[BaseException] = []
    try:
        with TokenGateExecutor(1, max_pending=2, on_full="discard_oldest") as executor:

            def produce() -> None:
                try:
                    for _ in range(1000):
                        executor.submit(int)
                except GateFullError as error:
                    refused.append(error)

            producers = [threading.Thread(target=produce) for _ in range(4)]
            for producer in producers:
                producer.start()
            for producer in producers:
                producer.join()
    finally:
        sys.setswitchinterval(interval)
    assert refused == []


def test_interrupt_of_a_call_that_the_caller_runs() -> None:
    """A `KeyboardInterrupt` was meant for the thread that submits, and gets there."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with full(1, on_full="caller_runs") as (executor, _, _):
        with pytest.raises(KeyboardInterrupt):
            executor.submit(interrupt)
        assert executor.statistics().failed == 1


def test_drain_knows_calls_that_their_callers_run() -> None:
    """It waits for them, is told when they end, and lets them submit; inside one it does not wait."""
    with full(1, on_full="caller_runs") as (executor, release, _):
        inside, go = threading.Event(), threading.Event()
        children: list[Token[int]] = []

        def call() -> None:
            inside.set()
            go.wait(30)
            children.append(executor.submit(int))

        caller = threading.Thread(target=executor.submit, args=(call,))
        caller.start()
        assert inside.wait(30)
        assert not executor.drain(timeout=0.001).is_complete
        release.set()
        drainer = threading.Thread(target=executor.drain)
        drainer.start()
        go.set()
        drainer.join(30)
        assert not drainer.is_alive()
        caller.join(30)
        assert children[0].done()
    with full(1, on_full="caller_runs") as (executor, release, _):

        def drain() -> bool:
            release.set()
            return executor.drain(timeout=30).is_complete  # type: ignore[no-any-return]

        assert executor.submit(drain).result()


@pytest.mark.parametrize("seconds", [1e10, 1e300])
def test_ages_of_waiting_are_possible(seconds: float) -> None:
    """More seconds than the system can wait for are as many as it can."""
    with full(1, submit_timeout=seconds, keep_alive=seconds) as (executor, release, _):
        producer = threading.Thread(target=executor.submit, args=(int,))
        producer.start()
        wait_until(lambda: executor.statistics().blocked_producers == 1)
        release.set()
        producer.join(30)
        assert executor.drain(seconds).is_complete


def test_discard_newest() -> None:
    """The new one is returned cancelled, and counted as rejected."""
    with full(2, on_full="discard_newest") as (executor, _, waiting):
        token = executor.submit(int)
        assert token.cancelled()
        assert not any(older.cancelled() for older in waiting)
    now = executor.statistics()
    assert (now.rejected, now.cancelled, now.completed) == (1, 0, 3)


def test_block_until_there_is_room() -> None:
    """`submit` waits, and goes on as soon as one starts."""
    with full(1) as (executor, release, _):
        blocked: list[Token[int]] = []
        producer = threading.Thread(target=lambda: blocked.append(executor.submit(int)))
        producer.start()
        wait_until(lambda: executor.statistics().blocked_producers == 1)
        assert not blocked
        release.set()
        producer.join(30)
        assert blocked[0].result(30) == 0


def test_cancelling_makes_room_for_a_blocked_producer() -> None:
    """A place that is freed by `cancel` is given on at once."""
    with full(1) as (executor, _, waiting):
        blocked: list[Token[int]] = []
        producer = threading.Thread(target=lambda: blocked.append(executor.submit(int)))
        producer.start()
        wait_until(lambda: executor.statistics().blocked_producers == 1)
        assert waiting[0].cancel()
        producer.join(30)
        assert not producer.is_alive()


def test_submit_timeout() -> None:
    """After the time it gives up, and leaves no trace in the line."""
    with full(1, submit_timeout=0.01) as (executor, _, _):
        with pytest.raises(GateFullError, match=r"none started within submit_timeout=0\.01 s"):
            executor.submit(int)
        assert executor.statistics().blocked_producers == 0


def test_shutdown_wakes_blocked_producers() -> None:
    """`shutdown(wait=False)` returns, and who waits to submit gets the standard library's error."""
    with full(1) as (executor, release, _):
        errors: list[BaseException] = []

        def produce() -> None:
            try:
                executor.submit(int)
            except RuntimeError as error:
                errors.append(error)

        producers = [threading.Thread(target=produce) for _ in range(3)]
        for producer in producers:
            producer.start()
        wait_until(lambda: executor.statistics().blocked_producers == 3)
        executor.shutdown(wait=False)
        for producer in producers:
            producer.join(30)
        assert {str(error) for error in errors} == {"cannot schedule new futures after shutdown"}
        assert len(errors) == 3
        release.set()


def test_own_worker_never_blocks() -> None:
    """A call that submits to its full executor has the child run in place, in every depth."""
    with TokenGateExecutor(1, max_pending=1) as executor:

        def nest(depth: int) -> int:
            if not depth:
                return 0
            children = [executor.submit(nest, depth - 1) for _ in range(3)]
            return 1 + max(child.result(30) for child in children)

        assert executor.submit(nest, 4).result(30) == 4
    now = executor.statistics()
    assert now.completed == now.submitted == sum(3**n for n in range(5))


def test_submit_on_a_running_loop_names_the_async_verb() -> None:
    """It raises instead of blocking the event loop."""

    async def main(executor: TokenGateExecutor) -> None:
        with pytest.raises(GateFullError, match=r"block the running event loop: await asubmit"):
            executor.submit(int)

    with full(1) as (executor, _, _):
        asyncio.run(main(executor))


def test_a_full_weight_leaves_the_others_room() -> None:
    """Bounds by weight: what is full of heavy calls still takes light ones."""
    with TokenGateExecutor(
        2, lanes=2, max_pending={"heavy": 2, None: 1}, on_full="raise"
    ) as executor:
        executor.pause()
        heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
        for _ in range(2):
            heavy.submit(int)
        with pytest.raises(GateFullError):
            heavy.submit(int)
        for _ in range(10):
            light.submit(int)
        executor.submit(int)
        with pytest.raises(GateFullError):
            executor.submit(int)
        now = executor.statistics()
        assert (now.pending, now.capacity, now.waiting) == (3, 3, 13)
        executor.resume()


def test_never_exceeded_by_many_producers() -> None:
    """With eight producers and cancellers, what waits is never more than the bound."""
    most = 0
    with TokenGateExecutor(2, max_pending=5) as executor:

        def produce() -> None:
            for number in range(150):
                token = executor.submit(int)
                if number % 3 == 0:
                    token.cancel()

        producers = [threading.Thread(target=produce) for _ in range(8)]
        for producer in producers:
            producer.start()
        while any(producer.is_alive() for producer in producers):
            most = max(most, executor.statistics().pending)
        for producer in producers:
            producer.join()
    now = executor.statistics()
    assert 0 < most <= 5
    assert now.submitted == now.completed + now.cancelled == 8 * 150
    assert now.pending == now.blocked_producers == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"max_pending": 0}, "max_pending must be an int of at least 1, not 0"),
        ({"max_pending": 1.5}, "max_pending must be an int of at least 1, not 1.5"),
        ({"max_pending": {"huge": 1}}, "max_pending must be by weight: 'heavy', 'medium', 'light'"),
        ({"max_pending": {"heavy": 0}}, "max_pending must be an int of at least 1, not 0"),
        (
            {"on_full": "wait"},
            "on_full must be one of 'block', 'raise', 'caller_runs', 'discard_old",
        ),
        ({"submit_timeout": -1}, "submit_timeout must be seconds, at least 0, or None, not -1"),
        (
            {"submit_timeout": 1, "on_full": "raise"},
            "submit_timeout must be None unless on_full is",
        ),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], text: str) -> None:
    """The error names the argument, what is allowed and what was given."""
    with pytest.raises(InvalidOptionError, match=text):
        TokenGateExecutor(1, **arguments)


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once another thread has come so far; it tells nobody, so look again and again."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the other thread does not come so far"
