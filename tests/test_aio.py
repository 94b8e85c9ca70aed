"""The asyncio verbs: room and results are awaited, and nothing blocks the loop."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tokengate_executor import Token, TokenGateExecutor, TokenState


class Held:
    """A call that has started and stays until it is let go."""

    def __init__(self, executor: TokenGateExecutor) -> None:
        self.release = threading.Event()
        started = threading.Event()

        def stay() -> None:
            started.set()
            self.release.wait(30)

        self.token = executor.submit(stay)
        assert started.wait(30)


def bounded() -> TokenGateExecutor:
    """Return an executor of one worker and one place."""
    return TokenGateExecutor(1, max_pending=1)


async def ticks(number: int = 5) -> None:
    """Let everything else on the loop take some steps."""
    for _ in range(number):
        await asyncio.sleep(0)


def run(main: Callable[[], Any]) -> None:
    """Run a coroutine function in a debugging loop: what is never awaited or blocks is told."""
    asyncio.run(main(), debug=True)


def test_arun_results_and_errors() -> None:
    """Results, exceptions, and exceptions that no coroutine can raise, arrive."""

    async def main() -> None:
        async with TokenGateExecutor(2) as executor:
            assert await executor.arun(pow, 2, exp=5) == 32
            with pytest.raises(ValueError, match="invalid literal"):
                await executor.arun(int, "x")

            def stop() -> None:
                raise StopIteration("over")

            with pytest.raises(RuntimeError, match="StopIteration") as info:
                await executor.arun(stop)
            assert isinstance(info.value.__cause__, StopIteration)
            view = executor.options(operation="named", priority=1)
            assert await view.arun(int, "3") == 3
            assert executor.history()[-1].operation == "named"

    run(main)


def test_many_completions() -> None:
    """Thousands of completions from many workers all arrive, once."""

    async def main() -> None:
        async with TokenGateExecutor(8) as executor:
            assert await asyncio.gather(*[executor.arun(abs, -n) for n in range(5000)]) == list(
                range(5000)
            )

    run(main)


def test_asubmit_waits_for_room_not_for_the_result() -> None:
    """It returns the token as soon as that may wait."""

    async def main() -> None:
        with bounded() as executor:
            held = Held(executor)
            first = await executor.asubmit(int, "1")
            second = asyncio.ensure_future(executor.asubmit(int, "2"))
            await ticks()
            assert not first.done()
            assert not second.done()
            assert executor.statistics().blocked_producers == 1
            held.release.set()
            assert await (await second) == 2
            assert await first == 1

    run(main)


@pytest.mark.parametrize("verb", ["asubmit", "arun", "amap"])
def test_cancelling_who_waits_for_room_leaves_the_line(verb: str) -> None:
    """No place is lost, and the next in line gets it."""

    async def main() -> None:
        with bounded() as executor:
            held = Held(executor)
            filler = executor.submit(int)

            async def use() -> object:
                if verb == "amap":
                    return [result async for result in executor.amap(int, "1")]
                return await getattr(executor, verb)(int)

            waiting = asyncio.ensure_future(use())
            behind = asyncio.ensure_future(executor.asubmit(int, "4"))
            await ticks()
            assert executor.statistics().blocked_producers == 2
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert executor.statistics().blocked_producers == 1
            held.release.set()
            assert await (await behind) == 4
            await filler
        assert executor.statistics().pending == 0

    run(main)


def test_cancelling_a_woken_one_passes_the_place_on() -> None:
    """One that is cancelled between being woken and coming in wakes the next."""

    async def main() -> None:
        with bounded() as executor:
            held = Held(executor)
            filler = executor.submit(int)
            first = asyncio.ensure_future(executor.asubmit(int, "1"))
            second = asyncio.ensure_future(executor.asubmit(int, "2"))
            await ticks()
            assert filler.cancel()  # wakes the first, whose turn on the loop is still to come
            first.cancel()
            token = await asyncio.wait_for(second, 30)
            held.release.set()
            assert await token == 2
            assert first.cancelled()

    run(main)


def test_cancelling_the_awaiter_takes_a_waiting_token_back() -> None:
    """`arun` and `await token` cancel what has not started; what runs goes on."""

    async def main() -> None:
        with TokenGateExecutor(1) as executor:
            held = Held(executor)
            future = executor.arun(int)
            token = executor.submit(int)

            async def wait_for(one: Token[int]) -> int:
                return await one

            waiting = asyncio.ensure_future(wait_for(token))
            running = asyncio.ensure_future(wait_for(held.token))  # type: ignore[arg-type]
            await ticks()
            for task in (future, waiting, running):
                task.cancel()
            await asyncio.wait([future, waiting, running])
            assert token.state is TokenState.CANCELLED
            assert executor.statistics().cancelled == 2
            assert held.token.running()
            held.release.set()

    run(main)


def test_a_killed_or_cancelled_token_cancels_its_awaiter() -> None:
    """As asyncio does with futures of executors."""

    async def main() -> None:
        with TokenGateExecutor(1) as executor:
            held = Held(executor)
            futures = [executor.arun(int), executor.arun(int)]
            assert executor.kill(operation="builtins.int") == 2
            await asyncio.wait(futures)
            assert all(future.cancelled() for future in futures)
            token = executor.submit(int)
            executor.purge()
            with pytest.raises(asyncio.CancelledError):
                await token
            held.release.set()

    run(main)


def test_amap() -> None:
    """Results in order; with `buffersize` no more input is taken than that."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    async def main() -> None:
        async with TokenGateExecutor(3) as executor:
            assert [r async for r in executor.amap(pow, [2, 3], [5, 2])] == [32, 9]
            results = executor.amap(abs, numbers(), buffersize=3)
            assert await anext(results) == 0
            assert taken == [0, 1, 2, 3]
            assert [result async for result in results] == list(range(1, 10))
            with pytest.raises(ValueError, match="buffersize must be None or > 0"):
                executor.amap(abs, [1], buffersize=0)

    run(main)


def test_leaving_amap_early_cancels_the_rest() -> None:
    """Closing the generator takes back what has not started."""

    async def main() -> None:
        with TokenGateExecutor(1) as executor:
            results = executor.amap(lambda n: n, range(5))
            held: Held | None = None
            async for _ in results:
                held = Held(executor)
                break
            pending = [executor.arun(int)]
            await results.aclose()
            assert held is not None
            held.release.set()
            await asyncio.gather(*pending)

    run(main)


def test_shutdown_wakes_who_waits_for_room() -> None:
    """They get the standard library's error."""

    async def main() -> None:
        executor = bounded()
        held = Held(executor)
        filler = executor.submit(int)
        waiting = [asyncio.ensure_future(executor.asubmit(int)) for _ in range(3)]
        await ticks()
        executor.shutdown(wait=False)
        for task in waiting:
            with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
                await task
        held.release.set()
        assert await filler == 0
        executor.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            await executor.arun(int)

    run(main)


def test_leaving_the_async_block_does_not_block_the_loop() -> None:
    """Other tasks go on while the executor finishes."""

    async def main() -> None:
        steps = 0
        async with TokenGateExecutor(1) as executor:
            held = Held(executor)

            async def let_go() -> None:
                nonlocal steps
                for _ in range(3):
                    await asyncio.sleep(0.001)
                    steps += 1
                held.release.set()

            task = asyncio.ensure_future(let_go())
        await task
        assert steps == 3
        assert held.token.done()

    run(main)


def test_loops_in_several_threads() -> None:
    """Each loop gets its own results."""
    with TokenGateExecutor(4) as executor:
        outcomes: list[list[int]] = []

        def one_loop(base: int) -> None:
            async def main() -> list[int]:
                return await asyncio.gather(*[executor.arun(abs, base + n) for n in range(500)])

            outcomes.append(asyncio.run(main()))

        threads = [threading.Thread(target=one_loop, args=(1000 * n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == [[1000 * n + m for m in range(500)] for n in range(3)]


def test_a_closed_loop_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """What settles for a loop that is gone is dropped, without a word and without a leak."""
    with bounded() as executor:
        held = Held(executor)

        async def main() -> None:
            executor.arun(int)

        asyncio.run(main())
        held.release.set()
        assert executor.submit(int).result(30) == 0
    assert caplog.records == []


def test_results_and_loops_are_let_go() -> None:
    """After it was awaited nothing of ours holds a result, nor a loop that has ended."""

    class Result:
        pass

    async def main(executor: TokenGateExecutor) -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        result = await executor.arun(Result)
        return weakref.ref(result), weakref.ref(asyncio.get_running_loop())

    with TokenGateExecutor(1) as executor:
        result, loop = asyncio.run(main(executor))
        executor.submit(int).result(30)
        gc.collect()
        assert result() is None
        assert loop() is None


def test_asyncio_is_not_imported_before_it_is_needed() -> None:
    """It is slow to import, and a thread pool can do without."""
    script = """if True:
        import sys
        from tokengate_executor import TokenGateExecutor
        with TokenGateExecutor(1, max_pending=1) as executor:
            executor.submit(int).result()
        print("asyncio" in sys.modules)
    """
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout.split() == ["False"]
