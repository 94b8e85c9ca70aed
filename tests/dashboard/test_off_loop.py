"""Running beside the loop: results, errors, cancelled waiters, and loops that are gone."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard.off_loop import run_off_loop


def test_results_and_errors_come_back() -> None:
    """From a daemon thread of its own, which ends."""

    def where() -> threading.Thread:
        return threading.current_thread()

    def fail() -> None:
        raise ValueError("here")

    async def scene() -> threading.Thread:
        with pytest.raises(ValueError, match="here"):
            await run_off_loop(fail)
        return await run_off_loop(where)

    thread = asyncio.run(scene())
    assert thread is not threading.current_thread()
    assert thread.daemon
    thread.join(10)
    assert not thread.is_alive()


def test_the_loop_goes_on_meanwhile() -> None:
    """Also when the loop's default executor is one that is paused."""
    go_on = threading.Event()

    async def scene() -> None:
        with TokenGateExecutor(1) as executor:
            executor.pause()
            asyncio.get_running_loop().set_default_executor(executor)
            waiting = asyncio.create_task(run_off_loop(lambda: go_on.wait(10)))
            await asyncio.sleep(0)
            assert not waiting.done()
            go_on.set()
            assert await waiting

    asyncio.run(scene())


def test_who_is_cancelled_does_not_wait() -> None:
    """What comes of it then is dropped, result or error, and nobody is troubled with it."""
    go_on = threading.Event()
    threads: list[threading.Thread] = []
    problems: list[object] = []

    def succeed() -> None:
        threads.append(threading.current_thread())
        go_on.wait(10)

    def fail() -> None:
        succeed()
        raise ValueError

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: problems.append(context))
        waiting = [asyncio.create_task(run_off_loop(each)) for each in (succeed, fail)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        go_on.set()
        await asyncio.to_thread(lambda: [thread.join(10) for thread in threads])
        await asyncio.sleep(0)

    asyncio.run(scene())
    assert len(threads) == 2
    assert problems == []


def test_the_loop_may_be_gone_by_then() -> None:
    """The thread ends all the same, and raises nothing."""
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def wait() -> None:
        threads.append(threading.current_thread())
        go_on.wait(10)

    async def scene() -> None:
        task = asyncio.create_task(run_off_loop(wait))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(scene())
    go_on.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
