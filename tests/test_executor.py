"""The executor: each thing that ThreadPoolExecutor gets wrong, and the invariants under stress."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)

import pytest

from tokengate_executor import (
    AffinityPolicy,
    DeadlockError,
    InvalidOptionError,
    Token,
    TokenGateExecutor,
    TokenState,
    UnknownOptionError,
    gated,
)


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


def assert_adds_up(executor: TokenGateExecutor, submitted: int) -> None:
    """Check the statistics of a quiet executor against what the test knows."""
    now = executor.statistics()
    parts = now.waiting, now.executing, now.completed, now.failed, now.cancelled
    assert now.submitted == sum(parts) == submitted, now
    assert now.waiting == now.executing == 0, now


def run_script(script: str, seconds: float = 20) -> subprocess.CompletedProcess[str]:
    """Run a script in another interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.parametrize("how", ["result", "exception", "get", "timeout", "wait", "as_completed"])
def test_nested_waits_end(one: TokenGateExecutor, how: str) -> None:
    """With one worker, calls that wait for calls that wait do not deadlock."""

    def nest(depth: int) -> int:
        if not depth:
            return 0
        token = one.submit(nest, depth - 1)
        if how == "exception":
            assert token.exception() is None
        elif how == "timeout":
            token.result(timeout=30)
        elif how == "wait":
            wait([token])
        elif how == "as_completed":
            assert list(as_completed([token])) == [token]
        return (token.get() if how == "get" else token.result()) + 1

    assert one.submit(nest, 70).result() == 70
    assert_adds_up(one, 71)


def test_ring_of_waits_is_refused(one: TokenGateExecutor) -> None:
    """A token that would wait for itself gets an error, not a hang."""
    box: list[Token[object]] = []
    ready = threading.Event()

    def wait_for_self() -> object:
        ready.wait()
        return box[0].result()

    box.append(one.submit(wait_for_self))
    ready.set()
    with pytest.raises(DeadlockError, match="ring"):
        box[0].result()


def test_no_spares_is_refused() -> None:
    """Beyond the cap of spare workers the last worker is refused its wait."""
    with TokenGateExecutor(1, max_spare_workers=0) as executor:

        def nest() -> None:
            wait([executor.submit(int)])

        with pytest.raises(DeadlockError, match="max_spare_workers"):
            executor.submit(nest).result()


def test_wait_sees_a_cancelled_queued_token(one: TokenGateExecutor) -> None:
    """`wait` reports a cancelled token as done, and its call is free at once."""
    gate = threading.Event()
    started = threading.Event()

    def hold() -> None:
        started.set()
        gate.wait()

    class Argument:
        pass

    argument = Argument()
    gone = weakref.ref(argument)
    one.submit(hold)
    started.wait()
    token = one.submit(print, argument)
    del argument
    assert token.cancel()
    assert wait([token], timeout=0).done == {token}
    assert gone() is None
    gate.set()


def test_many_cancelled_leave_the_queue(one: TokenGateExecutor) -> None:
    """After 20,000 are cancelled nothing waits, and few shells are left in the queue."""
    gate = threading.Event()
    one.submit(gate.wait)
    tokens = [one.submit(int) for _ in range(20_000)]
    assert all(token.cancel() for token in reversed(tokens))
    assert one._work_queue.qsize() == 0
    assert len(one._gate.routes[None].backlog) < 200
    gate.set()
    one.shutdown()
    assert_adds_up(one, 20_001)


def test_submit_in_finaliser_during_submit() -> None:
    """A `__del__` that the collector runs inside `submit` may submit."""
    with TokenGateExecutor(2) as executor:

        class Cyclic:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                finalised.append(executor.submit(int))

        finalised: list[Token[int]] = []
        thresholds = gc.get_threshold()
        gc.set_threshold(1, 1, 1)
        try:
            tokens = []
            for _ in range(300):
                Cyclic()
                tokens.append(executor.submit(int))
        finally:
            gc.set_threshold(*thresholds)
            # The last of them, while the executor still takes calls. While a worker collects, this
            # does nothing.
            while len(finalised) < 300:
                gc.collect()
        assert [token.result(timeout=20) for token in tokens] == [0] * 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_child_starts_afresh() -> None:
    """In a forked child submit works, and an inherited token fails with a clear error."""
    script = """if True:
        import os, threading
        from tokengate_executor import TokenGateExecutor, ForkedError
        executor = TokenGateExecutor(1)
        hold = threading.Event()
        running, queued = executor.submit(hold.wait), executor.submit(int)
        while not running.running(): pass
        if os.fork() == 0:
            ok = executor.submit(pow, 2, 3).result(timeout=10) == 8
            for token in running, queued:
                ok = ok and isinstance(token.exception(timeout=10), ForkedError)
            os._exit(42 if ok else 1)
        status = os.waitstatus_to_exitcode(os.wait()[1])
        hold.set()
        print(status, queued.result())
    """
    assert run_script(script).stdout.split() == ["42", "0"]


def test_exit_abandons_a_stuck_call() -> None:
    """With `exit_policy="abandon"` a stuck call does not keep the process; its stack is logged."""
    script = """if True:
        import threading
        from tokengate_executor import TokenGateExecutor
        def stuck(started):
            started.set()
            threading.Event().wait()
        executor = TokenGateExecutor(1, exit_policy="abandon")
        started = threading.Event()
        executor.submit(stuck, started); executor.submit(int)
        started.wait()
        executor.shutdown(wait=False, cancel_futures=True)
    """
    ended = run_script(script)
    assert ended.returncode == 0
    assert "abandoned at exit: __main__.stuck" in ended.stderr
    assert "in stuck" in ended.stderr


def test_unread_exception_is_logged(
    one: TokenGateExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that nobody reads is logged once its token is gone; a read one is not."""
    with caplog.at_level(logging.ERROR, "tokengate_executor"):
        assert one.submit(int, "read").exception() is not None
        one.submit(int, "unread")
        one.submit(int).result()
        one.shutdown()
        gc.collect()
    assert [record.getMessage() for record in caplog.records] == [
        "exception in builtins.int was never retrieved"
    ]


def test_each_call_sees_its_submitters_context(one: TokenGateExecutor) -> None:
    """A call runs in a copy of its own submitter's context."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    def submit_as(name: str) -> Token[str]:
        user.set(name)
        return one.submit(user.get)

    tokens = [contextvars.copy_context().run(submit_as, name) for name in ("alice", "bob")]
    assert [token.result() for token in tokens] == ["alice", "bob"]


def test_map_takes_input_lazily() -> None:
    """With `buffersize`, no more than that is taken before a result is."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    with TokenGateExecutor(2) as executor:
        results = executor.map(abs, numbers(), buffersize=3)
        assert taken == [0, 1, 2]
        assert next(results) == 0
        assert taken == [0, 1, 2, 3]
        assert list(results) == list(range(1, 10))
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            executor.map(abs, [1], buffersize=0)


def test_falsy_exception_is_raised(one: TokenGateExecutor) -> None:
    """An exception whose truth is false is an exception."""

    class FalsyError(Exception):
        def __bool__(self) -> bool:
            return False

    def fail() -> None:
        raise FalsyError

    with pytest.raises(FalsyError):
        one.submit(fail).result()


def test_worker_survives_system_exit_in_callback(one: TokenGateExecutor) -> None:
    """A callback or a call that raises `SystemExit` leaves the worker alive."""
    gate = threading.Event()
    token = one.submit(gate.wait)
    token.add_done_callback(lambda _: sys.exit(1))
    gate.set()
    with pytest.raises(SystemExit):
        one.submit(sys.exit, 2).result(timeout=20)
    assert one.submit(pow, 2, 3).result(timeout=20) == 8
    assert one.statistics().workers == 1


def test_last_reference_ends_the_threads() -> None:
    """Pending calls are finished, then the workers end, once nobody holds the executor."""
    executor = TokenGateExecutor(3)
    tokens = [executor.submit(pow, 2, n) for n in range(50)]
    threads = executor._threads
    del executor
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert [token.result() for token in tokens] == [2**n for n in range(50)]


def test_options_and_weights() -> None:
    """Views, `@gated` and `@task` carry options; lanes run what the policy lets them."""
    policy = AffinityPolicy(lanes=3, heavy=(1,), medium=(2,), light=(3,))
    with TokenGateExecutor(3, lanes=3, policy=policy) as executor:

        @gated(weight="light", operation="listed")
        def listed() -> int:
            return 1

        @executor.task(weight="medium")
        def made(number: int) -> int:
            return number

        heavy = executor.options(weight="heavy")
        assert isinstance(heavy, Executor)
        tokens: list[Token[int]] = [executor.submit(listed), made(3), heavy.submit(listed)]
        assert listed() == 1
        assert [token.result() for token in tokens] == [1, 3, 1]
        assert [token.weight for token in tokens] == ["light", "medium", "heavy"]
        assert [token.lane for token in tokens] == [3, 2, 1]
        assert [token.operation for token in tokens][::2] == ["listed", "listed"]
        assert tokens[0].state is TokenState.COMPLETED
        assert {record.token_id for record in executor.history()} == {t.id for t in tokens}
        with pytest.raises(UnknownOptionError, match=r"unknown option 'wieght'.*weight, operation"):
            executor.options(wieght="heavy")  # type: ignore[call-arg]
        with pytest.raises(InvalidOptionError, match=r"'heavy', 'medium', 'light'.*'huge'"):
            executor.options(weight="huge")  # type: ignore[arg-type]


def test_asyncio() -> None:
    """The executor can be asyncio's default, a view can be handed over, a token be awaited."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = TokenGateExecutor(1)
        loop.set_default_executor(executor)
        assert await asyncio.to_thread(pow, 2, 3) == 8
        view = executor.options(weight="heavy")
        assert await loop.run_in_executor(view, pow, 2, 4) == 16
        gate = threading.Event()
        first, second = executor.submit(gate.wait), executor.submit(int)

        async def wait_for_second() -> int:
            return await second

        waiting = asyncio.ensure_future(wait_for_second())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert second.cancelled()
        gate.set()
        assert await first
        await loop.shutdown_default_executor()

    asyncio.run(main())


def outcome(future: Future[int]) -> object:
    """What became of a future, in a form that can be compared."""
    try:
        return future.result(timeout=30)
    except (CancelledError, ValueError, ZeroDivisionError) as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize("seed", range(5))
def test_random_programs_agree_with_the_standard_library(seed: int) -> None:
    """The same random program on both classes has the same outcomes."""

    def run(kind: type[ThreadPoolExecutor]) -> list[object]:
        chance = random.Random(seed)
        with kind(1) as executor:
            gate = threading.Event()
            first = executor.submit(gate.wait)
            while not first.running():
                time.sleep(0)
            futures = [
                executor.submit(divmod, chance.randrange(9), chance.randrange(3))
                for _ in range(200)
            ]
            cancelled = [future.cancel() for future in futures if chance.random() < 0.3]
            gate.set()
            return [*cancelled, *(outcome(future) for future in futures)]

    assert run(TokenGateExecutor) == run(ThreadPoolExecutor)
