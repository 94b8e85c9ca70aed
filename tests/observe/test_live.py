"""``observe.live``: the tokens that are not settled."""

from __future__ import annotations

import threading
from time import perf_counter

import pytest

from tokengate_executor import InvalidOptionError, SpikePolicy, TokenGateExecutor, TokenState


def test_those_that_run_come_first() -> None:
    """What runs, then what waits, the oldest first, each with what is known of it."""
    began, release = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        release.wait(20)

    with TokenGateExecutor(1) as executor:
        before = perf_counter()
        running = executor.options(operation="hold").submit(hold)
        assert began.wait(20)
        waiting = [executor.options(weight="light").submit(pow, 2, n) for n in range(3)]
        seen = executor.tokens()
        assert [one.token_id for one in seen] == [token.id for token in (running, *waiting)]
        first, second = seen[0], seen[1]
        assert (first.operation, first.state, first.attempts) == ("hold", TokenState.EXECUTING, 1)
        assert first.lane == running.lane
        assert first.worker is not None
        assert first.started_at is not None
        assert before <= first.submitted_at <= first.started_at <= perf_counter()
        assert (second.operation, second.weight) == ("builtins.pow", "light")
        assert (second.state, second.attempts) == (TokenState.WAITING, 0)
        assert second.lane is second.worker is second.started_at is None
        assert executor.tokens(2) == seen[:2]
        assert executor.tokens(0) == ()
        assert executor.kill(first.token_id) == executor.kill(seen[-1].token_id) == 1
        assert [one.kill_requested for one in executor.tokens()] == [True, False, False]
        release.set()
    assert executor.tokens() == ()


def test_ids_stay() -> None:
    """A token that was seen waiting has the same id when it runs, and in the history."""
    with TokenGateExecutor(1) as executor:
        executor.pause()
        token = executor.submit(pow, 2, 3)
        (seen,) = executor.tokens()
        executor.resume()
        token.result()
        assert token.id == seen.token_id == executor.history()[-1].token_id


@pytest.mark.parametrize("ordered", [False, True])
def test_of_very_many_the_heads(ordered: bool) -> None:
    """With ten thousand waiting, some of the oldest are found, whoever orders them."""
    began, release = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        release.wait(20)

    with TokenGateExecutor(1) as executor:
        executor.submit(hold)
        assert began.wait(20)
        calls = executor.options(priority=1) if ordered else executor
        tokens = [calls.submit(pow, 2, 2) for _ in range(10_000)]
        for token in tokens[1:10]:
            token.cancel()  # shells are no tokens that wait
        if ordered:
            # In a heap those at its head come early, not in order.
            old = {token.id for token in (tokens[0], *tokens[10:2000])}
            assert {one.token_id for one in executor.tokens(20)[1:]} <= old
        else:
            seen = [one.token_id for one in executor.tokens(12)[1:]]
            assert seen == [token.id for token in (tokens[0], *tokens[10:20])]
        executor.purge()
        release.set()


def test_those_that_are_away() -> None:
    """One that is held for review is there, too."""
    with TokenGateExecutor(1, spikes=SpikePolicy()) as executor:
        for _ in range(10):
            executor.submit(len, "x" * 10).result()
        held = executor.submit(len, "x" * 100_000)
        (seen,) = executor.tokens()
        assert (seen.token_id, seen.state) == (held.id, TokenState.QUARANTINED)
        held.cancel()


def test_a_wrong_number() -> None:
    """It is named."""
    with TokenGateExecutor(1) as executor:
        for wrong in (-1, 2.0, True):
            with pytest.raises(InvalidOptionError, match="most"):
                executor.tokens(wrong)  # type: ignore[arg-type]
