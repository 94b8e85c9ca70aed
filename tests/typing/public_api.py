"""What a type checker makes of calls of the public interface; it is checked, and never run.

``assert_type`` says what a call gives. A deliberate error carries a ``type: ignore`` with its code;
both checkers report one that is not needed, so an error that they no longer see fails the check.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import AbstractContextManager
from typing import Any, assert_type

from tokengate_executor import (
    Event,
    ExecutorStatistics,
    ExecutorView,
    LaneStatistics,
    LiveToken,
    LoggingListener,
    OperationsCoordinator,
    RateLimit,
    Token,
    TokenGateExecutor,
    TokenSettled,
    TokenState,
    current_token,
    gated,
    task_token_guard,
)


def repeat(text: str, times: int = 1, *, separator: str = "") -> list[str]:
    """Have arguments of every kind."""
    return [text + separator] * times


def length(text: str) -> int:
    """Have one argument."""
    return len(text)


async def fetch(text: str) -> bytes:
    """Be a coroutine function."""
    return text.encode()


def submit_keeps_the_signature(executor: TokenGateExecutor) -> None:
    """Arguments are checked as in a call of the function, and its result is the token's."""
    assert_type(executor.submit(repeat, "a"), Token[list[str]])
    assert_type(executor.submit(repeat, "a", 2, separator="b"), Token[list[str]])
    assert_type(executor.submit(length, text="a"), Token[int])
    assert_type(executor.submit(lambda: None), Token[None])
    executor.submit(repeat)  # type: ignore[call-arg]
    executor.submit(repeat, 1)  # type: ignore[arg-type]
    executor.submit(repeat, "a", "b")  # type: ignore[arg-type]
    executor.submit(repeat, "a", separator=1)  # type: ignore[arg-type]
    executor.submit(length, "a", "b")  # type: ignore[call-arg]
    executor.submit(length, "a", weight="heavy")  # type: ignore[call-arg]
    executor.submit(fn=length, text="a")  # type: ignore[call-arg]
    executor.submit("length")  # type: ignore[arg-type]


def map_gives_results(executor: TokenGateExecutor) -> None:
    """The results come as an iterator, with ``buffersize`` on every Python."""
    assert_type(executor.map(length, ["a", "b"]), Iterator[int])
    assert_type(executor.map(repeat, ["a"], [1], timeout=1.5, buffersize=3), Iterator[list[str]])
    assert_type(list(executor.map(length, "ab", chunksize=2)), list[int])
    executor.map(length, ["a"], buffersize=1.5)  # type: ignore[arg-type]
    executor.map(length, 1)  # type: ignore[arg-type]


def views_are_executors(executor: TokenGateExecutor) -> None:
    """A view has the executor's verbs; its options are checked by name and by value."""
    heavy = executor.options(weight="heavy", operation="repeat")
    assert_type(heavy, ExecutorView)
    assert_type(heavy.options(weight="light"), ExecutorView)
    assert_type(heavy.submit(repeat, "a", times=2), Token[list[str]])
    assert_type(heavy.map(length, ["a"], buffersize=1), Iterator[int])
    executor.options(weight="huge")  # type: ignore[arg-type]
    executor.options(wieght="heavy")  # type: ignore[call-arg]
    executor.options(operation=1)  # type: ignore[arg-type]
    executor.options("heavy")  # type: ignore[call-arg]
    heavy.submit(repeat, 1)  # type: ignore[arg-type]
    an_executor: Executor = heavy
    a_pool: ThreadPoolExecutor = executor
    no_pool: ThreadPoolExecutor = heavy  # type: ignore[assignment]
    del an_executor, a_pool, no_pool


def task_makes_calls_return_tokens(executor: TokenGateExecutor) -> None:
    """``@executor.task`` keeps the arguments, with options and without."""

    @executor.task
    def plain(text: str, *, times: int = 1) -> list[str]:
        return [text] * times

    @executor.task(weight="medium", operation="listed")
    def weighted(text: str) -> bytes:
        return text.encode()

    assert_type(plain("a"), Token[list[str]])
    assert_type(plain("a", times=2), Token[list[str]])
    assert_type(weighted("a"), Token[bytes])
    assert_type(executor.task(length)("a"), Token[int])
    plain(1)  # type: ignore[arg-type]
    plain("a", 2)  # type: ignore[call-arg]
    weighted()  # type: ignore[call-arg]
    executor.task(weight="huge")  # type: ignore[call-overload]


def gated_functions_stay_what_they_are(executor: TokenGateExecutor) -> None:
    """``@gated`` gives back the function itself: called, submitted, or a coroutine function."""

    @gated(weight="light", operation="length")
    def light(text: str) -> int:
        return len(text)

    assert_type(light("a"), int)
    assert_type(executor.submit(light, "a"), Token[int])
    assert_type(gated(weight="heavy")(repeat)("a", 2), list[str])
    a_function: Callable[[str], int] = light
    light(1)  # type: ignore[arg-type]
    executor.submit(light, 1)  # type: ignore[arg-type]
    gated(weight="huge")  # type: ignore[arg-type]
    gated(urgency=1)  # type: ignore[call-arg]
    del a_function


def guarded_functions_return_tokens() -> None:
    """``@task_token_guard`` keeps the arguments; those of a coordinator are the executor's."""

    @task_token_guard
    def plain(text: str, *, times: int = 1) -> list[str]:
        return [text] * times

    @task_token_guard("listed", tags={"weight": "HEAVY"})
    def weighted(text: str) -> bytes:
        return text.encode()

    class Shop:
        @task_token_guard
        def pay(self, sum_: int) -> int:
            return sum_

    assert_type(Shop().pay(5), Token[int])
    Shop().pay("5")  # type: ignore[arg-type]
    with OperationsCoordinator(max_workers=2, on_full="raise") as coordinator:
        assert_type(coordinator, OperationsCoordinator)
        assert_type(plain("a", times=2), Token[list[str]])
        assert_type(weighted("a"), Token[bytes])
        assert_type(task_token_guard()(length)("a"), Token[int])
        assert_type(coordinator.executor, TokenGateExecutor)
        assert_type(coordinator.stop(timeout=1), bool)
    plain(1)  # type: ignore[arg-type]
    plain("a", 2)  # type: ignore[call-arg]
    weighted()  # type: ignore[call-arg]
    task_token_guard(5)  # type: ignore[call-overload]
    OperationsCoordinator(on_full="wait")  # type: ignore[arg-type]
    OperationsCoordinator(workers=2)  # type: ignore[call-arg]


def tokens_are_futures(token: Token[int], tokens: list[Token[str]]) -> None:
    """What a token tells, and the standard library's functions over tokens."""
    assert_type(token.result(), int)
    assert_type(token.result(timeout=1), int)
    assert_type(token.get(), int)
    assert_type(token.get(1.5), int)
    assert_type(token.exception(), BaseException | None)
    assert_type(token.exception(timeout=None), BaseException | None)
    assert_type(token.cancel(), bool)
    assert_type(token.done(), bool)
    assert_type(token.state, TokenState)
    assert_type(token.id, str)
    assert_type(token.operation, str)
    assert_type(token.lane, int | None)
    assert_type(token.attempts, int)
    assert_type(token.submitted_at, float)
    assert_type(token.started_at, float | None)
    assert_type(token.settled_at, float | None)
    assert_type(wait(tokens).done, set[Future[str]])
    assert_type(wait(tokens, timeout=1).not_done, set[Future[str]])
    assert_type(as_completed(tokens), Iterator[Future[str]])
    assert_type(asyncio.wrap_future(token), asyncio.Future[int])
    a_future: Future[int] = token
    another_future: Future[str] = token  # type: ignore[assignment]
    token.result("soon")  # type: ignore[arg-type]
    token.state = TokenState.COMPLETED  # type: ignore[misc]
    del a_future, another_future


def callbacks_take_the_token(token: Token[int]) -> None:
    """A callback has one argument, and its result is of no account."""

    def on_token(settled: Token[int]) -> int:
        return settled.result()

    def on_future(settled: Future[int]) -> None:
        settled.result()

    token.add_done_callback(on_token)
    token.add_done_callback(on_future)
    token.add_done_callback(lambda _: None)
    token.add_done_callback(lambda: None)  # type: ignore[arg-type, misc]


async def tokens_can_be_awaited(executor: TokenGateExecutor, token: Token[int]) -> None:
    """``await`` gives the call's result; so does the loop that runs calls in a view."""
    assert_type(await token, int)
    assert_type(await executor.submit(repeat, "a"), list[str])
    assert_type(await (await executor.submit(fetch, "a")), bytes)
    assert_type(await asyncio.gather(token, executor.submit(length, "a")), tuple[int, int])
    assert_type(await asyncio.wait_for(token, 1), int)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(executor)
    assert_type(await loop.run_in_executor(executor.options(weight="heavy"), length, "a"), int)


def statistics_are_records(executor: TokenGateExecutor) -> None:
    """The numbers are numbers, and cannot be written."""
    now = executor.statistics()
    assert_type(now, ExecutorStatistics)
    assert_type(now.submitted, int)
    assert_type(now.lanes, tuple[LaneStatistics, ...])
    assert_type(now.lanes[0].busy_seconds, float)
    assert_type(now.lanes[0].started_by_weight["heavy"], int)
    now.submitted = 1  # type: ignore[misc]


def constructors_check_their_arguments() -> None:
    """The standard library's arguments by place, ours by name only; it closes as it does."""
    with TokenGateExecutor(4, "name", print, ("begin",)) as executor:
        assert_type(executor, TokenGateExecutor)
    TokenGateExecutor(max_workers=None, lanes=2, exit_policy="abandon").shutdown(
        wait=False, cancel_futures=True
    )
    TokenGateExecutor("4")  # type: ignore[arg-type]
    TokenGateExecutor(4, "name", None, (), 2)  # type: ignore[call-arg]
    TokenGateExecutor(exit_policy="never")  # type: ignore[arg-type]
    a_context: AbstractContextManager[TokenGateExecutor] = TokenGateExecutor(1)
    del a_context


async def asyncio_verbs_keep_the_signature(executor: TokenGateExecutor) -> None:
    """Awaiting a call gives what the function returns; awaiting room gives its token."""
    assert_type(await executor.arun(repeat, "a", separator="b"), list[str])
    assert_type(await executor.asubmit(length, "a"), Token[int])
    assert_type(await executor.options(priority=1).arun(length, "a"), int)
    assert_type([size async for size in executor.amap(length, ["a"])], list[int])
    await executor.arun(length, 1)  # type: ignore[arg-type]
    await executor.asubmit(length)  # type: ignore[call-arg]
    async with executor as entered:
        assert_type(entered, TokenGateExecutor)


def steering_says_what_came_of_it(executor: TokenGateExecutor) -> None:
    """Verbs return counts and reports."""
    assert_type(executor.drain(1.5).is_complete, bool)
    assert_type(executor.purge("operation"), int)
    assert_type(executor.kill(operation="operation"), int)
    assert_type(current_token(), Token[Any] | None)
    executor.set_limit("db", RateLimit(5))
    executor.options(key=[])  # type: ignore[arg-type]
    executor.options(sticky="core")  # type: ignore[arg-type]
    executor.options(limits="db")  # type: ignore[arg-type]
    TokenGateExecutor(on_full="wait")  # type: ignore[arg-type]


def what_is_seen(executor: TokenGateExecutor) -> None:
    """Records, live tokens, listeners."""

    def listen(event: Event) -> None:
        assert_type(event.at, float)
        if isinstance(event, TokenSettled):
            assert_type(event.state, TokenState)
            assert_type(event.worker, int | None)

    TokenGateExecutor(listeners=[listen, LoggingListener(), print])
    TokenGateExecutor(listeners=[1])  # type: ignore[list-item]
    assert_type(executor.tokens(5), tuple[LiveToken, ...])
    assert_type(executor.dump_history("file"), int)
    assert_type(executor.name, str)
