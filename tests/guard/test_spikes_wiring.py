"""Spikes in an executor: which calls are let in, reviewed, held or refused, and by what usual."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest

from tokengate_executor import (
    InvalidOptionError,
    QuarantineStore,
    SpikePolicy,
    Token,
    TokenGateExecutor,
    TokenQuarantinedError,
    TokenState,
    gated,
)

SMALL, REVIEWED, LARGE = "x" * 84, "x" * 144, "x" * 1000
"""With 16 for the call itself, the first costs 100, the second 60 % more, the last 916 % more."""

REFUSE: Final = SpikePolicy(action="refuse")


def measure(text: str = "", *, more: str = "") -> int:
    """Return the length of the texts."""
    return len(text) + len(more)


def other(text: str) -> int:
    """Return the length of a text, too."""
    return len(text)


NAME: Final = f"{__name__}.measure"


def learn(executor: Any, fn: Callable[[str], int] = measure) -> None:
    """Make so many small calls that larger ones are spikes."""
    for _ in range(6):
        executor.submit(fn, SMALL).result(30)


@pytest.fixture
def holds() -> Iterator[TokenGateExecutor]:
    """Yield an executor that holds spikes, and knows how large calls of `measure` are."""
    with TokenGateExecutor(2, spikes=SpikePolicy()) as executor:
        learn(executor)
        yield executor


@pytest.fixture
def refuses() -> Iterator[TokenGateExecutor]:
    """Yield an executor that refuses them."""
    with TokenGateExecutor(2, spikes=REFUSE) as executor:
        learn(executor)
        yield executor


def is_held(executor: TokenGateExecutor, submit: Callable[[], Token[int]]) -> bool:
    """Whether the call is held; it is rejected then."""
    token = submit()
    if token.state is not TokenState.QUARANTINED:
        token.result(30)
        return False
    (call,) = executor.quarantine.pending()
    executor.quarantine.reject(call.id)
    assert isinstance(token.exception(30), TokenQuarantinedError)
    return True


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of."""
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


# -- what is found --------------------------------------------------------------------------------


def test_off_by_default() -> None:
    """Nobody who asked for nothing has a call held."""
    with TokenGateExecutor(1) as executor:
        learn(executor)
        assert executor.submit(measure, LARGE).result(30) == len(LARGE)
        assert executor.statistics().reviewed == 0


def test_as_usual(holds: TokenGateExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """Equal, smaller, or less than half more: it runs, and nothing is said of it."""
    for text in (SMALL, "", "x" * 120):
        assert holds.submit(measure, text).result(30) == len(text)
    assert holds.statistics().reviewed == 0
    assert warnings_in(caplog) == []


def test_review(holds: TokenGateExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """Half more or above: it runs, is counted, and is logged, without its arguments."""
    assert holds.submit(measure, REVIEWED).result(30) == len(REVIEWED)
    assert holds.statistics().reviewed == 1
    assert warnings_in(caplog) == [
        f"a call of {NAME} is unusually large: review: cost 160 is 60 % over the usual 100"
    ]
    assert holds.quarantine.pending() == ()


def test_hold(holds: TokenGateExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """Three times the usual or more: it waits for a person, and the log says that it does."""
    token = holds.submit(measure, LARGE)
    assert token.state is TokenState.QUARANTINED
    assert warnings_in(caplog) == [
        f"a call of {NAME} is held in quarantine: quarantine: cost 1016 is 916 % over the usual 100"
    ]
    (call,) = holds.quarantine.pending()
    assert call.operation == NAME
    holds.quarantine.approve(call.id)
    assert token.result(30) == len(LARGE)


def test_refuse(refuses: TokenGateExecutor) -> None:
    """By policy at once: submit raises, nothing is stored, and it is counted."""
    with pytest.raises(TokenQuarantinedError) as caught:
        refuses.submit(measure, LARGE)
    error = caught.value
    assert (error.operation, error.quarantine_id) == (NAME, None)
    assert str(error) == (f"{NAME} was not run: quarantine: cost 1016 is 916 % over the usual 100")
    assert refuses.quarantine.pending() == ()
    now = refuses.statistics()
    assert (now.rejected, now.submitted, now.completed) == (1, 7, 6)


def test_exactly_at_the_bounds(holds: TokenGateExecutor) -> None:
    """50 % over is for review, 200 % over is held; one less is not."""
    assert not is_held(holds, lambda: holds.submit(measure, "x" * 133))
    assert holds.statistics().reviewed == 0
    assert not is_held(holds, lambda: holds.submit(measure, "x" * 134))
    assert holds.statistics().reviewed == 1
    assert is_held(holds, lambda: holds.submit(measure, "x" * 284))


def test_few_samples_judge_nobody() -> None:
    """With fewer than `min_samples` known, everything runs."""
    with TokenGateExecutor(1, spikes=SpikePolicy(min_samples=5)) as executor:
        for text in (SMALL, SMALL, SMALL, SMALL, LARGE):
            assert executor.submit(measure, text).result(30) == len(text)


def test_each_operation_has_its_own_usual(holds: TokenGateExecutor) -> None:
    """What is a spike of one is nothing known of another; `operation=` says which it is."""
    assert not is_held(holds, lambda: holds.submit(other, LARGE))
    assert not is_held(holds, lambda: holds.options(operation="x").submit(measure, LARGE))
    assert is_held(holds, lambda: holds.options(operation=NAME).submit(other, LARGE))
    assert is_held(holds, lambda: holds.options(weight="light").submit(measure, LARGE))


def test_two_functions_that_take_turns(holds: TokenGateExecutor) -> None:
    """Each is judged by its own usual, whichever was submitted last."""
    for _ in range(6):
        holds.submit(other, LARGE).result(30)
    for _ in range(3):
        assert not is_held(holds, lambda: holds.submit(other, LARGE))
        assert is_held(holds, lambda: holds.submit(measure, LARGE))


def test_keyword_arguments_count(holds: TokenGateExecutor) -> None:
    """They are as large as others."""
    assert is_held(holds, lambda: holds.submit(measure, more=LARGE))
    assert not is_held(holds, lambda: holds.submit(measure, more=SMALL))


def test_partials_are_calls_of_their_function(holds: TokenGateExecutor) -> None:
    """What is bound to them is not seen; what is given to them is."""
    bound: Callable[[], int] = partial(measure, LARGE)
    assert not is_held(holds, lambda: holds.submit(bound))
    assert is_held(holds, lambda: holds.submit(partial(measure, more=""), LARGE))


# -- what is learned ------------------------------------------------------------------------------


def test_what_is_let_in_becomes_usual(holds: TokenGateExecutor) -> None:
    """Operations grow: a size that was for review is not, once most calls have it."""
    for _ in range(20):
        holds.submit(measure, REVIEWED).result(30)
    reviewed = holds.statistics().reviewed
    assert 0 < reviewed < 20
    holds.submit(measure, REVIEWED).result(30)
    assert holds.statistics().reviewed == reviewed


def test_what_is_rejected_does_not_become_usual(holds: TokenGateExecutor) -> None:
    """However often somebody tries."""
    for _ in range(30):
        assert is_held(holds, lambda: holds.submit(measure, LARGE))


def test_what_is_refused_does_not_become_usual(refuses: TokenGateExecutor) -> None:
    """Nor here."""
    for _ in range(30):
        with pytest.raises(TokenQuarantinedError):
            refuses.submit(measure, LARGE)


@pytest.mark.parametrize("verb", ["approve", "replay"])
def test_what_is_approved_becomes_usual(holds: TokenGateExecutor, verb: str) -> None:
    """When people have approved many of a size, they are not asked any more."""
    asked = 0
    for _ in range(30):
        token = holds.submit(measure, LARGE)
        for call in holds.quarantine.pending():
            asked += 1
            getattr(holds.quarantine, verb)(call.id)
        token.result(30)
    assert 0 < asked < 20
    assert holds.submit(measure, LARGE).result(30) == len(LARGE)


def test_a_few_wild_ones_do_not_become_usual(holds: TokenGateExecutor) -> None:
    """The usual is of the middle half."""
    token = holds.submit(measure, LARGE)
    holds.quarantine.approve(holds.quarantine.pending()[0].id)
    token.result(30)
    assert is_held(holds, lambda: holds.submit(measure, LARGE))


def test_many_submit_at_once(holds: TokenGateExecutor) -> None:
    """Each spike is held, each other call runs, and all are accounted for."""
    outcomes: list[list[Token[int]]] = []

    def submit() -> None:
        outcomes.append(
            [holds.submit(measure, LARGE if turn % 10 == 9 else SMALL) for turn in range(100)]
        )

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    holds.drain()
    holds.resume()
    now = holds.statistics()
    assert (now.completed, now.quarantined, now.submitted) == (6 + 360, 40, 6 + 400)
    assert holds.quarantine.held == 40
    for call in holds.quarantine.pending():
        holds.quarantine.approve(call.id)
    for tokens in outcomes:
        assert [token.result(30) for token in tokens] == ([len(SMALL)] * 9 + [len(LARGE)]) * 10


# -- how it is said -------------------------------------------------------------------------------


def test_by_call_and_by_function() -> None:
    """`options(spikes=)` and `gated(spikes=)`; a call that says nothing of it is not judged."""

    @gated(operation=NAME, spikes=REFUSE)
    def said(text: str) -> int:
        """Return the length of a text."""
        return len(text)

    with TokenGateExecutor(1) as executor:
        view = executor.options(spikes=REFUSE)
        learn(view)
        with pytest.raises(TokenQuarantinedError):
            view.submit(measure, LARGE)
        with pytest.raises(TokenQuarantinedError):
            executor.submit(said, LARGE)
        assert executor.submit(measure, LARGE).result(30) == len(LARGE)


@pytest.mark.parametrize("given", [True, "hold", 2.0])
def test_what_is_no_policy(given: Any) -> None:
    """It is refused, at the executor and at the call."""
    with pytest.raises(InvalidOptionError, match="spikes"):
        TokenGateExecutor(1, spikes=given)
    with TokenGateExecutor(1) as executor, pytest.raises(InvalidOptionError, match="spikes"):
        executor.options(spikes=given)


def test_a_cost_of_ones_own() -> None:
    """It sees the arguments as the function does, and nothing else counts."""
    seen: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def cost(*args: object, **kwargs: object) -> float:
        seen.append((args, kwargs))
        return float(str(kwargs.get("more", "1")))

    with TokenGateExecutor(1, spikes=SpikePolicy(cost=cost)) as executor:
        for _ in range(6):
            executor.submit(measure, LARGE).result(30)
        assert executor.submit(measure, LARGE * 10).result(30) == len(LARGE) * 10
        assert is_held(executor, lambda: executor.submit(measure, "", more="3"))
    assert seen[0] == ((LARGE,), {})
    assert seen[-1] == (("",), {"more": "3"})


@pytest.mark.parametrize("error", [ValueError("no idea"), KeyboardInterrupt(), RuntimeError("x")])
def test_a_cost_that_raises(error: BaseException) -> None:
    """Submit raises it; the call has not been made, and takes no place."""
    is_raising: list[bool] = []

    def cost(text: str) -> float:
        if is_raising:
            raise error
        return len(text)

    with TokenGateExecutor(1, max_pending=1, spikes=SpikePolicy(cost=cost)) as executor:
        learn(executor)
        is_raising.append(True)
        for _ in range(3):
            with pytest.raises(type(error)) as caught:
                executor.submit(measure, SMALL)
            assert caught.value is error
        if not isinstance(error, KeyboardInterrupt):  # which would end the loop

            async def submit() -> None:
                with pytest.raises(type(error)):
                    await executor.asubmit(measure, SMALL)
                with pytest.raises(type(error)):
                    await executor.arun(measure, SMALL)

            asyncio.run(submit())
        assert executor.statistics().pending == 0
        is_raising.clear()
        assert executor.submit(measure, SMALL).result(30) == len(SMALL)
        now = executor.statistics()
        assert (now.submitted, now.completed) == (7, 7)


@pytest.mark.parametrize("said", [-1.0, float("nan"), "1", None, True])
def test_a_cost_that_is_none(said: Any) -> None:
    """Submit says what it must be."""
    policy = SpikePolicy(cost=lambda *_: said)
    with (
        TokenGateExecutor(1, spikes=policy) as executor,
        pytest.raises(InvalidOptionError, match="cost"),
    ):
        executor.submit(measure, SMALL)


def test_a_cost_that_submits() -> None:
    """No lock of ours is held while it runs."""
    with TokenGateExecutor(2) as executor:

        def cost(text: str) -> float:
            return executor.submit(other, text).result(30)

        view = executor.options(spikes=SpikePolicy(cost=cost))
        learn(view)
        assert is_held(executor, lambda: view.submit(measure, LARGE))


# -- how calls come -------------------------------------------------------------------------------


def test_a_held_call_takes_no_place() -> None:
    """Of `max_pending`: others may wait, as many as before; also when it is approved."""
    with TokenGateExecutor(1, max_pending=1, on_full="raise", spikes=SpikePolicy()) as executor:
        learn(executor)
        held = [executor.submit(measure, LARGE) for _ in range(3)]
        assert executor.statistics().pending == 0
        executor.pause()
        waits = executor.submit(measure, SMALL)
        for call in executor.quarantine.pending():
            executor.quarantine.approve(call.id)
        assert (executor.statistics().pending, executor.statistics().waiting) == (1, 4)
        executor.resume()
        for token in held:
            assert token.result(30) == len(LARGE)
        waits.result(30)
        assert executor.statistics().pending == 0


def test_from_asyncio() -> None:
    """A held call is awaited until it is decided on; a refused one raises where it was submitted."""
    with TokenGateExecutor(1, max_pending=2, spikes=SpikePolicy()) as executor:
        learn(executor)

        async def submit() -> None:
            token = await executor.asubmit(measure, LARGE)
            assert token.state is TokenState.QUARANTINED
            future = executor.arun(measure, LARGE)
            assert not future.done()
            approved, rejected = executor.quarantine.pending()
            executor.quarantine.approve(approved.id)
            executor.quarantine.reject(rejected.id)
            assert await token == len(LARGE)
            with pytest.raises(TokenQuarantinedError, match="rejected"):
                await future
            cancelled = executor.arun(measure, LARGE)
            cancelled.cancel()
            assert executor.quarantine.held == 0
            view = executor.options(spikes=REFUSE)
            with pytest.raises(TokenQuarantinedError, match="over the usual"):
                await view.asubmit(measure, LARGE)
            with pytest.raises(TokenQuarantinedError, match="over the usual"):
                await view.arun(measure, LARGE)
            assert executor.statistics().pending == 0

        asyncio.run(submit())
        now = executor.statistics()
        assert (now.rejected, now.cancelled, now.failed, now.completed) == (2, 1, 1, 7)


def test_map(holds: TokenGateExecutor) -> None:
    """Its iterator waits at the held call for the decision, and goes on."""
    results = holds.map(measure, [SMALL, LARGE, SMALL])
    assert next(results) == len(SMALL)
    holds.quarantine.approve(holds.quarantine.pending()[0].id)
    assert list(results) == [len(LARGE), len(SMALL)]


def test_a_held_call_keeps_the_context_of_its_submitter(holds: TokenGateExecutor) -> None:
    """It runs later, and sees what it would have seen."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable")

    def look(text: str) -> str:
        del text
        return variable.get("none")

    view = holds.options(operation=NAME)
    variable.set("as submitted")
    token = view.submit(look, LARGE)
    variable.set("later")
    holds.quarantine.approve(holds.quarantine.pending()[0].id)
    assert token.result(30) == "as submitted"


def test_a_queue_timeout(holds: TokenGateExecutor) -> None:
    """It does not end a held call, and who approves has decided that it is not too late."""
    tokens = [holds.options(queue_timeout=one).submit(measure, LARGE) for one in (0.0, 3600.0)]
    assert {token.state for token in tokens} == {TokenState.QUARANTINED}
    for call in holds.quarantine.pending():
        holds.quarantine.approve(call.id)
    assert [token.result(30) for token in tokens] == [len(LARGE)] * 2
    assert holds.statistics().timed_out == 0


def test_a_replay_is_not_judged(holds: TokenGateExecutor) -> None:
    """A person has."""
    token = holds.submit(measure, LARGE)
    (call,) = holds.quarantine.pending()
    holds.quarantine.reject(call.id)
    assert token.exception(30) is not None
    holds.quarantine.approve(call.id)
    assert holds.quarantine.replay(call.id).result(30) == len(LARGE)


def test_without_a_quarantine_spikes_are_held_in_memory(holds: TokenGateExecutor) -> None:
    """A policy that holds needs no file."""
    holds.submit(measure, LARGE)
    assert holds.quarantine.store.path == QuarantineStore().path
    assert holds.quarantine.held == 1
