"""The quarantine of an executor: calls that were given up, and tokens that wait for a decision."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tokengate_executor import (
    NotReplayableError,
    OperationBlockedError,
    QuarantinedCall,
    QuarantineFileError,
    QuarantineStateError,
    QuarantineStore,
    RetryPolicy,
    SpikePolicy,
    Token,
    TokenGateExecutor,
    TokenKilledError,
    TokenQuarantinedError,
    TokenState,
    UnknownQuarantineIdError,
)
from tokengate_executor.guard.calls import Call

needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

TWICE: Final = RetryPolicy(attempts=2, on=ValueError, delay=0.0, budget=None)
SMALL, LARGE = "x" * 10, "x" * 1000

ran: list[int] = []
is_broken: list[bool] = []


def measure(text: str) -> int:
    """Return the length of a text, and note that it was asked for."""
    ran.append(len(text))
    return len(text)


def fragile(text: str) -> int:
    """Return the length of a text, unless something is broken."""
    ran.append(len(text))
    if is_broken:
        raise ValueError("it is broken")
    return len(text)


@pytest.fixture(autouse=True)
def clean() -> None:
    """Forget what other tests have noted."""
    ran.clear()
    is_broken.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a quarantine may be made."""
    return tmp_path / "quarantine.db"


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[QuarantineStore]:
    """Yield an empty store of each kind."""
    with QuarantineStore(path if request.param == "file" else None) as made:
        yield made


@pytest.fixture
def executor(store: QuarantineStore) -> Iterator[TokenGateExecutor]:
    """Yield one that knows how large calls of `measure` and `fragile` are, and holds larger ones."""
    with TokenGateExecutor(2, spikes=SpikePolicy(), quarantine=store) as made:
        learn(made)
        yield made


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have executors look for the decisions of others all the time."""
    monkeypatch.setattr("tokengate_executor.guard.quarantine._LOOK_EVERY_SECONDS", 0.002)


def learn(executor: TokenGateExecutor) -> None:
    """Make so many small calls that larger ones are spikes."""
    for fn in (measure, fragile):
        for _ in range(6):
            executor.submit(fn, SMALL).result(30)
    ran.clear()


def hold(executor: TokenGateExecutor, fn: Callable[[str], int] = measure) -> tuple[Token[int], str]:
    """Submit a call that is held; return its token and its id in the quarantine."""
    before = {call.id for call in executor.quarantine.pending()}
    token = executor.submit(fn, LARGE)
    assert token.state is TokenState.QUARANTINED
    (identifier,) = {call.id for call in executor.quarantine.pending()} - before
    return token, identifier


def check(executor: TokenGateExecutor) -> None:
    """See that the statistics add up, and agree with what is held."""
    now = executor.statistics()
    assert now.quarantined == executor.quarantine.held
    assert now.submitted == (
        now.rejected
        + now.waiting
        + now.executing
        + now.retrying
        + now.quarantined
        + now.completed
        + now.failed
        + now.timed_out
        + now.cancelled
    )


def give_up(executor: TokenGateExecutor) -> tuple[Token[int], QuarantinedCall]:
    """Make a call that fails until its policy gives up; return its token and what is stored of it."""
    is_broken.append(True)
    before = {call.id for call in executor.quarantine.pending()}
    token = executor.options(retry=TWICE).submit(fragile, SMALL)
    assert isinstance(token.exception(30), ValueError)
    (stored,) = (call for call in executor.quarantine.pending() if call.id not in before)
    return token, stored


# -- calls that are given up ----------------------------------------------------------------------


def test_a_call_that_is_given_up_is_stored(executor: TokenGateExecutor) -> None:
    """With its error, its attempts and its operation; the token has the error all the same."""
    token, stored = give_up(executor)
    assert (stored.operation, stored.reason, stored.status) == (
        f"{__name__}.fragile",
        "given up",
        "pending",
    )
    assert (stored.error_type, stored.error_text) == ("builtins.ValueError", "it is broken")
    assert stored.attempts == token.attempts == 2
    assert stored.replayable
    error = token.exception()
    assert error is not None
    assert f"the call is in quarantine, id {stored.id}" in error.__notes__
    assert (token.state, executor.quarantine.held) == (TokenState.FAILED, 0)
    check(executor)


def test_a_call_whose_error_is_not_worth_a_retry_is_stored(executor: TokenGateExecutor) -> None:
    """Its policy gives up after the first attempt."""
    token = executor.options(retry=TWICE).submit(measure, None)  # type: ignore[arg-type]
    assert isinstance(token.exception(30), TypeError)
    (stored,) = executor.quarantine.pending()
    assert (stored.attempts, stored.error_type) == (1, "builtins.TypeError")


def test_a_call_without_a_policy_is_not_stored(executor: TokenGateExecutor) -> None:
    """Nobody gave up; it failed as any call does."""
    is_broken.append(True)
    assert isinstance(executor.submit(fragile, SMALL).exception(30), ValueError)
    assert executor.quarantine.pending() == ()


def test_without_a_quarantine_nothing_is_stored() -> None:
    """What was given up is not kept in memory unasked."""
    is_broken.append(True)
    with TokenGateExecutor(1, retry=TWICE) as plain:
        error = plain.submit(fragile, SMALL).exception(30)
        assert plain.quarantine.pending() == ()
    assert error is not None
    assert not any("quarantine" in note for note in error.__notes__)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), TokenKilledError("x")])
def test_a_call_that_asks_to_end_is_not_stored(
    executor: TokenGateExecutor, error: BaseException
) -> None:
    """Nothing was wrong with it: somebody wanted it to end."""

    def ask() -> None:
        raise error

    token = executor.options(retry=RetryPolicy(attempts=2, on=Exception)).submit(ask)
    assert token.exception(30) is error
    assert executor.quarantine.pending() == ()


def test_a_call_that_cannot_be_pickled_is_kept(executor: TokenGateExecutor) -> None:
    """This process can replay it; its row says that no other can."""
    lock = threading.Lock()

    def use(given: object) -> bool:
        if is_broken:
            raise ValueError
        return given is lock

    is_broken.append(True)
    assert executor.options(retry=TWICE).submit(use, lock).exception(30) is not None
    (stored,) = executor.quarantine.pending()
    assert not stored.replayable
    is_broken.clear()
    assert executor.quarantine.replay(stored.id).result(30)


def test_a_quarantine_by_path(path: Path) -> None:
    """The file is made at once, and read by whoever opens it later."""
    is_broken.append(True)
    with TokenGateExecutor(1, retry=TWICE, quarantine=path) as first:
        assert path.exists()
        assert first.submit(fragile, SMALL).exception(30) is not None
    with TokenGateExecutor(1, quarantine=str(path)) as second:
        (stored,) = second.quarantine.pending()
        assert str(second.quarantine) == (
            f"quarantine {path}: 1 pending, 0 approved, 0 rejected, 0 replayed; 0 tokens held"
        )
        is_broken.clear()
        assert second.quarantine.replay(stored.id).result(30) == len(SMALL)


def test_a_file_that_is_no_quarantine_is_refused(path: Path) -> None:
    """The constructor says so; nobody has to wait for the first call that is given up."""
    path.write_text("not a database, but long enough to be taken for one" * 20, encoding="utf-8")
    with pytest.raises(QuarantineFileError, match=r"quarantine\.db"):
        TokenGateExecutor(1, quarantine=path)


def test_a_file_is_closed_with_its_executor(path: Path) -> None:
    """Also where that is part of a cycle, whose finalisers run in any order."""
    is_broken.append(True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = QuarantineStore(path)
        with TokenGateExecutor(1, retry=TWICE, quarantine=store) as executor:
            assert executor.submit(fragile, SMALL).exception(30) is not None
        del store, executor
        gc.collect()
    assert [str(one.message) for one in caught] == []


def test_a_call_that_cannot_be_stored_fails_as_it_would(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that it is lost; its token has the call's own error."""
    is_broken.append(True)
    store = QuarantineStore(path, max_entries=1)
    with TokenGateExecutor(1, retry=TWICE, quarantine=store) as executor:
        errors = [executor.submit(fragile, SMALL).exception(30) for _ in range(2)]
        path.unlink()
        errors.append(executor.submit(fragile, SMALL).exception(30))
    assert [type(error) for error in errors] == [ValueError] * 3
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert texts == [f"cannot quarantine a call of {__name__}.fragile (given up)"] * 2
    check(executor)


# -- replay ---------------------------------------------------------------------------------------


def test_replay_makes_a_new_token(executor: TokenGateExecutor) -> None:
    """Under the same name; the old token stays as it is."""
    old, stored = give_up(executor)
    is_broken.clear()
    token = executor.quarantine.replay(stored.id)
    assert token is not old
    assert (token.result(30), token.operation) == (len(SMALL), stored.operation)
    assert isinstance(old.exception(), ValueError)
    assert executor.quarantine.get(stored.id).status == "replayed"
    check(executor)


def test_a_replay_that_fails_is_pending_again(executor: TokenGateExecutor) -> None:
    """Until one succeeds; there is never a second entry of the same call."""
    _, stored = give_up(executor)
    quarantine = executor.quarantine
    for _ in range(3):
        done = threading.Event()
        token = quarantine.replay(stored.id)
        token.add_done_callback(lambda _, done=done: done.set())  # type: ignore[misc]
        assert isinstance(token.exception(30), ValueError)
        assert done.wait(30)  # after the quarantine's own callback
        assert [call.id for call in quarantine.pending()] == [stored.id]
    is_broken.clear()
    assert quarantine.replay(stored.id).result(30) == len(SMALL)
    assert quarantine.pending() == ()


def test_a_replay_that_is_given_up_is_stored_once() -> None:
    """Also where all calls are retried and quarantined by default."""
    is_broken.append(True)
    with TokenGateExecutor(1, retry=TWICE, quarantine=True) as executor:
        assert executor.submit(fragile, SMALL).exception(30) is not None
        (stored,) = executor.quarantine.pending()
        for _ in range(3):
            token = executor.quarantine.replay(stored.id)
            assert token.exception(30) is not None
            assert token.attempts == 2
            executor.drain()  # the callbacks have run
            executor.resume()
            assert [call.id for call in executor.quarantine.pending()] == [stored.id]


def test_a_replay_that_is_cancelled_is_pending_again(executor: TokenGateExecutor) -> None:
    """It has not run."""
    _, stored = give_up(executor)
    executor.pause()
    token = executor.quarantine.replay(stored.id)
    assert token.cancel()
    executor.resume()
    assert executor.quarantine.get(stored.id).status == "pending"


def test_replay_after_approve(executor: TokenGateExecutor) -> None:
    """A call that nobody holds runs when it is replayed, not when it is approved."""
    _, stored = give_up(executor)
    ran.clear()
    is_broken.clear()
    executor.quarantine.approve(stored.id)
    assert (executor.quarantine.get(stored.id).status, ran) == ("approved", [])
    assert executor.quarantine.replay(stored.id).result(30) == len(SMALL)


def test_a_call_that_was_rejected_or_replayed_is_not_replayed(executor: TokenGateExecutor) -> None:
    """Nor one that is not there; nothing of it runs."""
    _, stored = give_up(executor)
    quarantine = executor.quarantine
    ran.clear()
    quarantine.reject(stored.id)
    with pytest.raises(QuarantineStateError, match="is rejected"):
        quarantine.replay(stored.id)
    with pytest.raises(UnknownQuarantineIdError):
        quarantine.replay("none")
    assert ran == []


def test_a_replay_that_cannot_be_unpickled_is_pending_again(store: QuarantineStore) -> None:
    """It says why, and may be replayed by a program that has what is missing."""

    class Stranger:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return _import, ("no_such_module_anywhere",)

    with TokenGateExecutor(1, quarantine=store) as executor:
        identifier = store.add(Call("odd", len, (Stranger(),)))
        with pytest.raises(NotReplayableError, match="no_such_module_anywhere"):
            executor.quarantine.replay(identifier)
        assert executor.quarantine.get(identifier).status == "pending"


def _import(name: str) -> object:
    return __import__(name)


def test_a_replay_after_shutdown_is_refused(executor: TokenGateExecutor) -> None:
    """The call stays pending."""
    _, stored = give_up(executor)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.quarantine.replay(stored.id)
    assert executor.quarantine.get(stored.id).status == "pending"


def test_a_replay_when_the_executor_is_gone_is_refused(store: QuarantineStore) -> None:
    """Who kept the quarantine alone cannot run anything with it."""
    identifier = store.add(Call("x", len, (SMALL,)))
    quarantine = TokenGateExecutor(1, quarantine=store).quarantine
    gc.collect()
    with pytest.raises(RuntimeError, match="after shutdown"):
        quarantine.replay(identifier)
    assert store.get(identifier).status == "pending"


def test_a_replay_passes_a_blocked_operation(store: QuarantineStore) -> None:
    """Whoever replays has decided that it shall run."""
    identifier = store.add(Call("mail", measure, (SMALL,)))
    with TokenGateExecutor(1, quarantine=store) as executor:
        executor.guard_house.open("mail")
        with pytest.raises(OperationBlockedError):
            executor.options(operation="mail").submit(measure, SMALL)
        assert executor.quarantine.replay(identifier).result(30) == len(SMALL)


def test_many_replay_at_once(executor: TokenGateExecutor) -> None:
    """One of them gets it, the others are told so."""
    _, stored = give_up(executor)
    is_broken.clear()
    ran.clear()
    outcomes = at_once([lambda: executor.quarantine.replay(stored.id).result(30)] * 8)
    assert outcomes.count(len(SMALL)) == 1
    assert sum(isinstance(one, QuarantineStateError) for one in outcomes) == 7
    assert ran == [len(SMALL)]


def at_once(acts: Sequence[Callable[[], object]]) -> list[object]:
    """Do each in a thread of its own, all together; return what comes of them, errors too."""
    outcomes: list[object] = []
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        barrier.wait(30)
        try:
            outcomes.append(act())
        except Exception as error:
            outcomes.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    return outcomes


# -- held tokens ----------------------------------------------------------------------------------


def test_a_held_token(executor: TokenGateExecutor) -> None:
    """It is neither done nor running, has not run, and is told of in the store."""
    token, identifier = hold(executor)
    assert not token.done()
    assert not token.running()
    assert (token.attempts, token.lane, ran) == (0, None, [])
    call = executor.quarantine.get(identifier)
    assert (call.operation, call.reason, call.status) == (f"{__name__}.measure", "spike", "pending")
    assert "over the usual" in call.error_text
    assert (call.attempts, executor.quarantine.held) == (0, 1)
    check(executor)
    executor.quarantine.approve(identifier)
    assert token.result(30) == len(LARGE)


def test_approve(executor: TokenGateExecutor) -> None:
    """The call runs, once, and resolves the token that its submitter has."""
    token, identifier = hold(executor)
    executor.quarantine.approve(identifier)
    assert token.result(30) == len(LARGE)
    assert ran == [len(LARGE)]
    assert executor.quarantine.get(identifier).status == "replayed"
    assert (token.state, token.attempts) == (TokenState.COMPLETED, 1)
    with pytest.raises(QuarantineStateError):
        executor.quarantine.approve(identifier)
    check(executor)


def test_approve_of_a_call_that_fails(executor: TokenGateExecutor) -> None:
    """Its token has the error, as that of any call."""
    token, identifier = hold(executor, fragile)
    is_broken.append(True)
    executor.quarantine.approve(identifier)
    assert isinstance(token.exception(30), ValueError)
    assert executor.quarantine.pending() == ()
    check(executor)


def test_approve_of_a_call_that_is_given_up(executor: TokenGateExecutor) -> None:
    """What its policy gives up is stored, with its error and attempts, as of any call."""
    view = executor.options(retry=TWICE)
    token = view.submit(fragile, LARGE)
    (held,) = executor.quarantine.pending()
    is_broken.append(True)
    executor.quarantine.approve(held.id)
    assert isinstance(token.exception(30), ValueError)
    (given_up,) = executor.quarantine.pending()
    assert (given_up.reason, given_up.attempts) == ("given up", 2)
    assert executor.quarantine.get(held.id).status == "replayed"


def test_reject(executor: TokenGateExecutor) -> None:
    """The token fails, and says which call it was; nothing has run."""
    token, identifier = hold(executor)
    executor.quarantine.reject(identifier)
    error = token.exception(30)
    assert isinstance(error, TokenQuarantinedError)
    assert error.quarantine_id == identifier
    assert str(error) == (
        f"{__name__}.measure was not run: it was rejected (quarantine id {identifier})"
    )
    assert (ran, token.state, executor.quarantine.held) == ([], TokenState.FAILED, 0)
    check(executor)
    executor.quarantine.approve(identifier)  # somebody thinks better of it
    assert executor.quarantine.replay(identifier).result(30) == len(LARGE)


def test_replay_of_a_held_token(executor: TokenGateExecutor) -> None:
    """It returns that token, which then resolves."""
    token, identifier = hold(executor)
    assert executor.quarantine.replay(identifier) is token
    assert token.result(30) == len(LARGE)
    assert executor.quarantine.get(identifier).status == "replayed"
    check(executor)


@pytest.mark.parametrize("retry", [None, TWICE])
def test_a_replay_of_a_held_token_that_fails_is_pending_again(
    executor: TokenGateExecutor, retry: RetryPolicy | None
) -> None:
    """As that of any call, and there is one entry of it; the next replay makes a new token."""
    token = executor.options(retry=retry).submit(fragile, LARGE)
    (held,) = executor.quarantine.pending()
    is_broken.append(True)
    told = threading.Event()
    assert executor.quarantine.replay(held.id) is token
    token.add_done_callback(lambda _: told.set())
    assert isinstance(token.exception(30), ValueError)
    assert told.wait(30)
    assert [call.id for call in executor.quarantine.pending()] == [held.id]
    is_broken.clear()
    again = executor.quarantine.replay(held.id)
    assert again is not token
    assert again.result(30) == len(LARGE)


def test_purge_of_held_tokens(executor: TokenGateExecutor) -> None:
    """They fail; those of another status stay."""
    first, rejected = hold(executor)
    second, _ = hold(executor)
    executor.quarantine.reject(rejected)
    assert executor.quarantine.purge("rejected") == 1
    assert not second.done()
    assert executor.quarantine.purge(older_than=3600.0) == 0
    assert executor.quarantine.purge() == 1
    assert "it was purged" in str(second.exception(30))
    assert isinstance(first.exception(30), TokenQuarantinedError)
    assert executor.quarantine.counts() == dict.fromkeys(executor.quarantine.counts(), 0)
    check(executor)


def cancel(executor: TokenGateExecutor, token: Token[int]) -> None:
    """Cancel it."""
    del executor
    assert token.cancel()


def kill(executor: TokenGateExecutor, token: Token[int]) -> None:
    """Kill all of its operation."""
    assert executor.kill(operation=token.operation) == 1


def kill_by_id(executor: TokenGateExecutor, token: Token[int]) -> None:
    """Kill it alone."""
    assert executor.kill(token.id) == 1


def purge(executor: TokenGateExecutor, token: Token[int]) -> None:
    """Cancel all that waits."""
    del token
    assert executor.purge() == 1


@pytest.mark.parametrize("end", [cancel, kill, kill_by_id, purge])
def test_a_held_token_that_is_cancelled(
    executor: TokenGateExecutor, end: Callable[[TokenGateExecutor, Token[int]], None]
) -> None:
    """It is held no more, and its call stays in the store: approved, it may be replayed."""
    token, identifier = hold(executor)
    end(executor, token)
    assert token.cancelled()
    assert executor.quarantine.held == 0
    check(executor)
    executor.quarantine.approve(identifier)
    assert executor.quarantine.get(identifier).status == "approved"
    again = executor.quarantine.replay(identifier)
    assert again is not token
    assert again.result(30) == len(LARGE)
    check(executor)


def test_a_held_token_that_is_cancelled_while_it_is_approved(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not run, and the store does not say that it has."""
    token, identifier = hold(executor)
    mark = executor.quarantine.store.mark_replayed

    def mark_late(id: str) -> None:  # noqa: A002
        mark(id)
        assert token.cancel()

    monkeypatch.setattr(executor.quarantine.store, "mark_replayed", mark_late)
    executor.quarantine.approve(identifier)
    monkeypatch.undo()
    assert ran == []
    assert executor.quarantine.get(identifier).status == "pending"
    check(executor)


def test_a_call_that_is_rejected_while_it_is_replayed(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes first decides, and the token is not forgotten."""
    token, identifier = hold(executor)
    mark = executor.quarantine.store.mark_replayed

    def mark_late(id: str) -> None:  # noqa: A002
        executor.quarantine.reject(id)
        mark(id)

    monkeypatch.setattr(executor.quarantine.store, "mark_replayed", mark_late)
    with pytest.raises(QuarantineStateError):
        executor.quarantine.replay(identifier)
    assert isinstance(token.exception(30), TokenQuarantinedError)
    assert (ran, executor.quarantine.held) == ([], 0)
    check(executor)


def test_a_call_that_is_purged_while_it_is_replayed(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for one that is gone."""
    token, identifier = hold(executor)
    mark = executor.quarantine.store.mark_replayed

    def mark_late(id: str) -> None:  # noqa: A002
        executor.quarantine.purge()
        mark(id)

    monkeypatch.setattr(executor.quarantine.store, "mark_replayed", mark_late)
    with pytest.raises(UnknownQuarantineIdError):
        executor.quarantine.replay(identifier)
    assert "it was purged" in str(token.exception(30))


def verb_on(executor: TokenGateExecutor, verb: str, identifier: str) -> Callable[[], object]:
    """Return what decides so on a call."""
    return partial(getattr(executor.quarantine, verb), identifier)


def test_many_approve_at_once(executor: TokenGateExecutor) -> None:
    """However they do it, and however many: the call runs once, and resolves the held token."""
    for _ in range(20):
        learn(executor)  # else what is approved so often becomes usual
        token, identifier = hold(executor)
        verbs = ("approve", "replay", "approve", "replay", "approve")
        at_once([verb_on(executor, verb, identifier) for verb in verbs])
        assert token.result(30) == len(LARGE)
        assert ran == [len(LARGE)]
    check(executor)


def test_many_decide_differently_at_once(executor: TokenGateExecutor) -> None:
    """The token settles once, and the call never runs twice; who replays in vain is told so."""
    for _ in range(30):
        learn(executor)  # else what is approved so often becomes usual
        told: list[Token[int]] = []
        token, identifier = hold(executor)
        token.add_done_callback(told.append)
        verbs = ("approve", "reject", "replay", "reject", "approve")
        outcomes = at_once([verb_on(executor, verb, identifier) for verb in verbs])
        assert token.exception(30) is None or isinstance(token.exception(), TokenQuarantinedError)
        executor.drain()
        executor.resume()
        # Rejected, approved and then replayed, it was run for the one who did that.
        others = [one for one in outcomes if isinstance(one, Token) and one is not token]
        assert len(ran) == (token.exception() is None) + len(others) <= 1
        assert told == [token]
    assert executor.quarantine.held == 0
    check(executor)


def test_cancel_and_approve_at_once(executor: TokenGateExecutor) -> None:
    """One of them wins, and the store never says of a call that has not run that it has."""
    for _ in range(30):
        learn(executor)  # else what is approved so often becomes usual
        token, identifier = hold(executor)
        at_once([token.cancel, partial(executor.quarantine.approve, identifier)])
        executor.drain()
        executor.resume()
        assert token.done()
        assert ran == ([] if token.cancelled() else [len(LARGE)])
        if executor.quarantine.get(identifier).status != "replayed":
            assert token.cancelled()
    check(executor)


def test_approved_before_it_is_held(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may decide between the store and the hold: that is heeded."""
    add = executor.quarantine.store.add

    def add_and_approve(call: Call) -> str:
        identifier = add(call)
        executor.quarantine.approve(identifier)
        return identifier

    monkeypatch.setattr(executor.quarantine.store, "add", add_and_approve)
    assert executor.submit(measure, LARGE).result(30) == len(LARGE)


def test_a_file_that_fails_when_the_call_is_stored_already(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submitter gets the token: it is held, and decided on later."""
    get = executor.quarantine.store.get

    def fail_once(id: str) -> QuarantinedCall:  # noqa: A002
        monkeypatch.setattr(executor.quarantine.store, "get", get)
        raise QuarantineFileError(id, "on purpose")

    monkeypatch.setattr(executor.quarantine.store, "get", fail_once)
    token, identifier = hold(executor)
    executor.quarantine.approve(identifier)
    assert token.result(30) == len(LARGE)


# -- no room for them -----------------------------------------------------------------------------


def test_a_full_store_refuses_what_it_cannot_hold(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that is held is lost, and nothing is held that nobody could decide on."""
    store = QuarantineStore(path, max_entries=1)
    with TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=store) as executor:
        learn(executor)
        token, identifier = hold(executor)
        with pytest.raises(TokenQuarantinedError, match="it could not be stored") as caught:
            executor.submit(measure, LARGE)
        assert caught.value.quarantine_id is None
        assert "cannot quarantine a call of" in caplog.text
        assert (executor.quarantine.held, executor.statistics().rejected) == (1, 1)
        check(executor)
        executor.quarantine.approve(identifier)
        assert token.result(30) == len(LARGE)


@pytest.mark.usefixtures("quick_looks")
def test_a_store_that_makes_room_lets_go_of_the_oldest(path: Path) -> None:
    """The held token whose call is discarded fails, and is not held for ever."""
    store = QuarantineStore(path, max_entries=1, on_full="discard_oldest")
    with TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=store) as executor:
        learn(executor)
        first = executor.submit(measure, LARGE)
        second = executor.submit(measure, LARGE)
        assert "it was purged" in str(first.exception(30))
        (left,) = executor.quarantine.pending()
        executor.quarantine.approve(left.id)
        assert second.result(30) == len(LARGE)


@pytest.mark.usefixtures("quick_looks")
def test_a_file_that_is_gone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """New spikes are refused, decisions say why they cannot be made, and shutdown settles the held."""
    with TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=path) as executor:
        learn(executor)
        token, identifier = hold(executor)
        looks = Watched(caplog, "cannot look into")
        path.unlink()
        with pytest.raises(TokenQuarantinedError, match="it could not be stored"):
            executor.submit(measure, LARGE)
        with pytest.raises(QuarantineFileError):
            executor.quarantine.approve(identifier)
        assert looks.seen.wait(30)
        assert token.state is TokenState.QUARANTINED
        assert executor.submit(measure, SMALL).result(30) == len(SMALL)
    assert isinstance(token.exception(0), TokenQuarantinedError)
    check(executor)


class Watched(logging.Handler):
    """Tells when something was logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture, text: str) -> None:
        super().__init__()
        self.seen = threading.Event()
        self.text = text
        caplog.set_level(logging.WARNING)
        logging.getLogger("tokengate_executor").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a record."""
        if self.text in record.getMessage():
            self.seen.set()
            logging.getLogger("tokengate_executor").removeHandler(self)


# -- others decide --------------------------------------------------------------------------------


def test_another_store_on_the_same_file_approves(path: Path) -> None:
    """`look` sees it; and a call that somebody has taken elsewhere does not run here."""
    with TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=path) as executor:
        learn(executor)
        approved, first = hold(executor)
        rejected, second = hold(executor)
        taken, third = hold(executor)
        purged, fourth = hold(executor)
        left, _ = hold(executor)
        with QuarantineStore(path) as other:
            other.approve(first)
            other.reject(second)
            other.mark_replayed(third)
            other.reject(fourth)
            # One by one, as the rejected ones are purged.
            executor.quarantine.look()
            assert other.purge("rejected") == 2
        executor.quarantine.look()
        assert approved.result(30) == len(LARGE)
        assert "it was rejected" in str(rejected.exception(30))
        assert "another process runs it" in str(taken.exception(30))
        assert isinstance(purged.exception(30), TokenQuarantinedError)
        assert not left.done()
        assert (ran, executor.quarantine.held) == ([len(LARGE)], 1)
        check(executor)


@pytest.mark.usefixtures("quick_looks")
def test_another_process_decides(path: Path) -> None:
    """The command line approves and rejects, and the executor heeds it without being asked."""
    with TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=path) as executor:
        learn(executor)
        approved, first = hold(executor)
        rejected, second = hold(executor)
        for verb, identifier in (("approve", first), ("reject", second)):
            subprocess.run(
                [sys.executable, "-m", "tokengate_executor", "quarantine", verb, path, identifier],
                check=True,
                capture_output=True,
                timeout=50,
            )
        assert approved.result(30) == len(LARGE)
        assert isinstance(rejected.exception(30), TokenQuarantinedError)


@pytest.mark.usefixtures("quick_looks")
def test_decisions_in_the_store_itself_are_heeded(executor: TokenGateExecutor) -> None:
    """Also in one in memory, which two executors of a process may share."""
    token, identifier = hold(executor)
    with TokenGateExecutor(1, quarantine=executor.quarantine.store) as other:
        other.quarantine.approve(identifier)
    assert token.result(30) == len(LARGE)


def test_two_executors_with_the_same_file_approve(path: Path) -> None:
    """Each runs what it holds: deciding runs nobody else's tokens, and replaying takes them away."""
    with (
        TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=path) as first,
        TokenGateExecutor(1, quarantine=path) as second,
    ):
        learn(first)
        token, identifier = hold(first)
        second.quarantine.approve(identifier)
        assert not ran
        first.quarantine.look()
        assert token.result(30) == len(LARGE)
        token, identifier = hold(first)
        assert second.quarantine.replay(identifier).result(30) == len(LARGE)
        first.quarantine.look()
        assert isinstance(token.exception(30), TokenQuarantinedError)
        assert ran == [len(LARGE)] * 2


# -- the executor's own verbs ---------------------------------------------------------------------


def test_shutdown_fails_what_is_held(executor: TokenGateExecutor) -> None:
    """No future is left unresolved, and the call stays where a person finds it."""
    token, identifier = hold(executor)
    executor.shutdown()
    error = token.exception(0)
    assert isinstance(error, TokenQuarantinedError)
    assert error.quarantine_id == identifier
    assert "shut down before anybody decided" in str(error)
    assert executor.quarantine.get(identifier).status == "pending"
    assert executor.quarantine.held == 0
    check(executor)
    executor.quarantine.approve(identifier)  # for the next program
    assert ran == []


def test_shutdown_that_cancels(executor: TokenGateExecutor) -> None:
    """Whatever comes first, the token is settled."""
    token, _ = hold(executor)
    executor.shutdown(cancel_futures=True)
    assert token.done()
    check(executor)


def test_an_executor_that_is_dropped_fails_what_is_held(store: QuarantineStore) -> None:
    """Its threads end, and who waits for the token is told."""
    executor = TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=store)
    learn(executor)
    token, _ = hold(executor)
    del executor
    gc.collect()
    assert isinstance(token.exception(30), TokenQuarantinedError)


def test_shutdown_while_somebody_approves(store: QuarantineStore) -> None:
    """The token is settled either way, and it ran exactly if it has a result."""
    for _ in range(20):
        with TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=store) as executor:
            learn(executor)
            token, identifier = hold(executor)
            at_once([executor.shutdown, partial(executor.quarantine.approve, identifier)])
        outcome = token.exception(0)
        assert ran == ([len(LARGE)] if outcome is None else [])
        check(executor)
        store.purge()


def test_shutdown_while_a_call_comes_to_be_held(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would look after it any more: it fails at once."""
    add = executor.quarantine.store.add

    def add_late(call: Call) -> str:
        executor.shutdown()
        return add(call)

    monkeypatch.setattr(executor.quarantine.store, "add", add_late)
    token = executor.submit(measure, LARGE)
    assert isinstance(token.exception(0), TokenQuarantinedError)
    check(executor)


class Watcher:
    """A lock that notes whether anybody waited for it."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.waited = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As the lock's."""
        self.waited += blocking and timeout == -1
        return bool(self.lock.acquire(blocking, timeout))

    def release(self) -> None:
        """As the lock's."""
        self.lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_closing_the_gate_waits_for_no_lock(executor: TokenGateExecutor) -> None:
    """It may be a finaliser that closes it, in the midst of what a worker does with that lock."""
    hold(executor)
    gate = executor.gate
    watcher = Watcher(gate.lock)
    gate.lock = watcher  # type: ignore[assignment]
    try:
        gate.close((RuntimeError, "closed by the test"))
        waited = watcher.waited
    finally:
        gate.lock = watcher.lock
    check(executor)
    assert waited == 0


def test_drain_does_not_wait_for_what_is_held(executor: TokenGateExecutor) -> None:
    """A person may take days; what is approved then runs all the same, also while it is drained."""
    token, identifier = hold(executor)
    report = executor.drain(timeout=30)
    assert report.is_complete
    assert token.state is TokenState.QUARANTINED
    executor.quarantine.approve(identifier)
    assert token.result(30) == len(LARGE)
    assert executor.drain(timeout=30).is_complete
    check(executor)


def test_pause_keeps_what_is_approved_waiting(executor: TokenGateExecutor) -> None:
    """Approved is not more than submitted."""
    token, identifier = hold(executor)
    executor.pause()
    executor.quarantine.approve(identifier)
    assert executor.statistics().waiting == 1
    assert not token.done()
    executor.resume()
    assert token.result(30) == len(LARGE)


def test_a_held_token_keeps_nobody_else_of_its_key_waiting(executor: TokenGateExecutor) -> None:
    """It is in no line until it is approved, also when others of its key are cancelled."""
    view = executor.options(key="k")
    token = view.submit(measure, LARGE)
    (held,) = executor.quarantine.pending()
    assert view.submit(measure, SMALL).result(30) == len(SMALL)
    other = view.submit(measure, LARGE)
    assert other.cancel()
    assert view.submit(measure, SMALL).result(30) == len(SMALL)
    executor.quarantine.approve(held.id)
    assert token.result(30) == len(LARGE)
    check(executor)


def test_a_held_token_has_no_permit(store: QuarantineStore) -> None:
    """It takes one of each of its limits when it runs, and gives it back."""
    with TokenGateExecutor(2, limits={"db": 1}, spikes=SpikePolicy(), quarantine=store) as executor:
        view = executor.options(limits=("db",))
        for _ in range(6):
            view.submit(measure, SMALL).result(30)
        token = view.submit(measure, LARGE)
        (held,) = executor.quarantine.pending()
        assert view.submit(measure, SMALL).result(30) == len(SMALL)
        executor.quarantine.approve(held.id)
        assert token.result(30) == len(LARGE)
        executor.drain()
        assert executor.statistics().limits["db"].used == 0


def test_who_waits_for_a_held_token_in_a_worker(executor: TokenGateExecutor) -> None:
    """Another worker stands in; the held call is not run in place unasked."""
    waits = threading.Event()

    def parent() -> int:
        child = executor.submit(measure, LARGE)
        waits.set()
        return child.result(30)

    token = executor.submit(parent)
    assert waits.wait(30)
    assert executor.submit(measure, SMALL).result(30) == len(SMALL)
    (held,) = executor.quarantine.pending()
    executor.quarantine.approve(held.id)
    assert token.result(30) == len(LARGE)


def test_approve_in_a_callback_of_the_rejected(executor: TokenGateExecutor) -> None:
    """Callbacks run without our locks, so they may decide in turn."""
    first, rejected = hold(executor)
    second, approved = hold(executor)
    first.add_done_callback(lambda _: executor.quarantine.approve(approved))
    executor.quarantine.reject(rejected)
    assert second.result(30) == len(LARGE)


def test_nothing_of_ours_holds_what_a_rejected_call_had(executor: TokenGateExecutor) -> None:
    """Its arguments are free when it is settled: the store has a copy."""

    class Text(str):
        __slots__ = ("__weakref__",)

    large = Text(LARGE)
    gone = weakref.ref(large)
    token = executor.submit(len, SMALL)
    for _ in range(6):
        executor.submit(len, SMALL).result(30)
    token = executor.submit(len, large)
    assert token.state is TokenState.QUARANTINED
    del large
    executor.quarantine.purge()
    gc.collect()
    assert gone() is None


def test_statistics_agree_with_what_is_held(executor: TokenGateExecutor) -> None:
    """After any mixture of decisions, at every step."""
    held = [hold(executor) for _ in range(8)]
    quarantine = executor.quarantine
    steps: list[Callable[[], object]] = [
        lambda: quarantine.approve(held[0][1]),
        lambda: quarantine.reject(held[1][1]),
        lambda: quarantine.replay(held[2][1]),
        held[3][0].cancel,
        lambda: executor.kill(held[4][0].id),
        lambda: executor.submit(measure, SMALL),
    ]
    for left, step in zip((7, 6, 5, 4, 3, 3), steps, strict=True):
        step()
        executor.drain()
        executor.resume()
        check(executor)
        assert executor.statistics().quarantined == left
    quarantine.purge()
    now = executor.statistics()
    assert (now.quarantined, now.failed, now.cancelled) == (0, 4, 2)
    assert now.completed == 12 + 3


# -- forks ----------------------------------------------------------------------------------------


FORK: Final = """
import logging, os, sys
from tokengate_executor import (
    ForkedError, QuarantineStore, SpikePolicy, TokenGateExecutor, TokenState
)

logging.disable()
store = QuarantineStore(*sys.argv[1:])
executor = TokenGateExecutor(1, spikes=SpikePolicy(), quarantine=store)

def learn():
    for _ in range(6):
        executor.submit(len, "x" * 10).result(30)

def hold():
    token = executor.submit(len, "x" * 1000)
    assert token.state is TokenState.QUARANTINED
    return token

learn()
inherited = hold()
(call,) = executor.quarantine.pending()
pid = os.fork()
if pid == 0:
    try:
        assert isinstance(inherited.exception(30), ForkedError)
        now = executor.statistics()
        assert (executor.quarantine.held, now.quarantined, now.submitted) == (0, 0, 0), now
        if sys.argv[1:]:  # what is in a file may be decided on here, too
            executor.quarantine.approve(call.id)
            assert store.get(call.id).status == "approved"
        else:
            assert executor.quarantine.pending() == ()
        learn()
        own = hold()
        executor.quarantine.approve(executor.quarantine.pending()[-1].id)
        assert own.result(30) == 1000
        executor.shutdown()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
if not sys.argv[1:]:
    executor.quarantine.approve(call.id)
assert inherited.result(30) == 1000  # of a file, as the child has decided
assert executor.statistics().quarantined == 0
executor.shutdown()
print("RIGHT")
"""


@needs_fork
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_fork_while_a_token_is_held(kind: str, path: Path) -> None:
    """The parent goes on holding it; the child begins anew, and may decide if it has the file."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, *([str(path)] if kind == "file" else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.stdout == "RIGHT\n"
