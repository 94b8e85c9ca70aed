"""Exceptions that nobody reads: logged once their token is gone, and only then."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, wait
from functools import partial
from typing import Any

import pytest

from tokengate_executor import Token, TokenGateExecutor, TokenKilledError, current_token
from tokengate_executor.unread import Unread

HERE = __name__


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what says which messages there are once all tokens that nobody holds are gone."""
    caplog.set_level(logging.WARNING)

    def messages() -> list[str]:
        gc.collect()
        return [record.getMessage() for record in caplog.records]

    return messages


def outcome(get: Callable[[float], object]) -> str:
    """Call what gets a token's outcome, and catch that."""
    with pytest.raises(ValueError, match="on purpose") as caught:
        get(30)
    return str(caught.value)


def complaint_about(operation: str) -> str:
    """Return what is logged for a call of that name."""
    return f"exception in {operation} was never retrieved"


def test_the_record(one: TokenGateExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """It is an error of the logger `tokengate_executor`, with the traceback of the call."""
    one.options(operation="pay").submit(fail)
    one.shutdown()
    gc.collect()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tokengate_executor", logging.ERROR)
    assert record.getMessage() == complaint_about("pay")
    assert record.exc_info is not None
    kind, error, trace = record.exc_info
    assert (kind, str(error)) == (ValueError, "on purpose")
    assert [frame.name for frame in traceback.extract_tb(trace)] == ["fail"]


def test_not_before_the_token_is_gone(
    one: TokenGateExecutor, logged: Callable[[], list[str]]
) -> None:
    """As long as somebody holds the token, its exception may still be read."""
    token = one.submit(fail)
    one.shutdown()
    assert logged() == []
    del token
    assert logged() == [complaint_about(f"{HERE}.fail")]


def test_arguments_are_not_told(one: TokenGateExecutor, logged: Callable[[], list[str]]) -> None:
    """The name of the call is logged, nothing that it was given."""
    one.submit(partial(int, "secret"), base=16)
    one.shutdown()
    assert logged() == [complaint_about("builtins.int")]


@pytest.mark.parametrize(
    "read",
    [
        lambda token: token.exception(30),
        lambda token: outcome(token.result),
        lambda token: outcome(token.get),
        lambda token: next(as_completed([token])).exception(),
        lambda token: wait([token]).done.pop().exception(),
        lambda token: (wait([token]), token.add_done_callback(bool)),
    ],
    ids=["exception", "result", "get", "as_completed", "wait", "late callback"],
)
def test_what_was_read_is_not_logged(
    one: TokenGateExecutor, logged: Callable[[], list[str]], read: Callable[[Token[Any]], object]
) -> None:
    """Whoever asked for the outcome, or has a callback for it, knows of it."""
    read(one.submit(fail))
    one.shutdown()
    assert logged() == []


def test_one_with_a_callback_is_not_logged(
    one: TokenGateExecutor, logged: Callable[[], list[str]]
) -> None:
    """A callback that was there before the call ended has been given the token."""
    release, seen = threading.Event(), list[object]()

    def fail_later() -> None:
        release.wait(30)
        fail()

    one.submit(fail_later).add_done_callback(lambda token: seen.append(token.done()))
    release.set()
    one.shutdown()
    assert seen == [True]
    assert logged() == []


def test_what_asyncio_got_is_not_logged(
    one: TokenGateExecutor, logged: Callable[[], list[str]]
) -> None:
    """Whoever awaits it has it, directly, wrapped, or through `run_in_executor`."""

    async def main() -> None:
        for waiting in (
            one.submit(fail),
            asyncio.wrap_future(one.submit(fail)),
            asyncio.get_running_loop().run_in_executor(one, fail),
        ):
            with pytest.raises(ValueError, match="on purpose"):
                await waiting

    asyncio.run(main())
    one.shutdown()
    assert logged() == []


def test_waiting_is_not_reading(one: TokenGateExecutor, logged: Callable[[], list[str]]) -> None:
    """One who only waits until it is done does not know that it failed."""
    wait([one.submit(fail)], timeout=30)
    one.shutdown()
    assert logged() == [complaint_about(f"{HERE}.fail")]


def test_what_did_not_fail_is_not_logged(
    one: TokenGateExecutor, logged: Callable[[], list[str]]
) -> None:
    """Results, cancelled tokens, those that were killed or are late, and bare ones say nothing."""
    release = threading.Event()

    def stay() -> None:
        release.wait(30)
        token = current_token()
        assert token is not None
        token.checkpoint()

    running = one.submit(stay)
    one.submit(fail).cancel()
    one.options(operation="this").submit(fail)
    one.options(queue_timeout=0).submit(fail)
    bare: Token[None] = Token()
    bare.set_exception(ValueError())
    del bare
    assert one.kill(operation="this") == 1
    release.set()
    assert running.result(30) is None
    with pytest.raises(TokenKilledError):
        one.submit(kill_myself, one).result(30)
    one.submit(kill_myself, one)
    one.shutdown()
    assert logged() == []


def kill_myself(executor: TokenGateExecutor) -> None:
    """Have the running call killed, and heed it."""
    token = current_token()
    assert token is not None
    executor.kill(token.id)
    token.checkpoint()


@pytest.mark.parametrize("submit", ["submit", "view", "task"])
def test_it_can_be_turned_off(logged: Callable[[], list[str]], submit: str) -> None:
    """With `log_unread_exceptions=False` nothing is logged, whichever way the call came."""
    with TokenGateExecutor(1, log_unread_exceptions=False) as executor:
        if submit == "task":
            executor.task(weight="light")(fail)()
        else:
            view = executor.options(weight="heavy")
            (executor if submit == "submit" else view).submit(fail)
    assert logged() == []


def test_unread_by_itself(logged: Callable[[], list[str]]) -> None:
    """It logs when it goes, unless its exception was taken away before."""
    read, unread = Unread(ValueError(), "read"), Unread(ValueError(), "unread")
    read.exception = None
    del read
    assert logged() == []
    del unread
    assert logged() == [complaint_about("unread")]
