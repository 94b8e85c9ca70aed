"""Which coordinator a call goes to, and who keeps coordinators: many of them, threads, forks."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from contextvars import copy_context

import pytest

from tokengate_executor import OperationsCoordinator, Token, TokenGateExecutor, task_token_guard
from tokengate_executor.coordinator_runs import CoordinatorRuns, run_here
from tokengate_executor.errors import CoordinatorNotRunningError

FIRST, SECOND = {"thread_name_prefix": "first"}, {"thread_name_prefix": "second"}


@task_token_guard
def where() -> str:
    """Return the name of the coordinator that runs it."""
    return threading.current_thread().name.rpartition("_")[0]


@task_token_guard
def where_from_inside() -> str:
    """Return the name of the coordinator that runs a call which this one makes."""
    return where().get(timeout=30)


def elsewhere(call: Callable[[], str]) -> str:
    """Return what it returns on a thread of its own, which has an empty context."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(30)


def where_now() -> str:
    """Return which coordinator a call goes to that is made here."""
    return where().get(timeout=30)


# -- outside of calls -----------------------------------------------------------------------------


def test_the_last_one_that_was_started_here() -> None:
    """Calls go to it; and when it is stopped, to the one before that."""
    with OperationsCoordinator(**FIRST):
        assert where_now() == "first"
        with OperationsCoordinator(**SECOND):
            assert where_now() == "second"
        assert where_now() == "first"


def test_starting_one_that_runs_makes_it_the_one_here() -> None:
    """It keeps its executor."""
    with OperationsCoordinator(**FIRST) as first, OperationsCoordinator(**SECOND):
        executor = first.executor
        assert first.start() is first
        assert (where_now(), first.executor) == ("first", executor)
        assert elsewhere(where_now) == "second", "it was started before that"
        assert elsewhere(lambda: first.start() and where_now()) == "first"


def test_where_none_was_started_here() -> None:
    """On other threads calls go to the last one that was started anywhere, and still runs."""
    with OperationsCoordinator(**FIRST) as first:
        assert elsewhere(where_now) == "first"
        with OperationsCoordinator(**SECOND):
            assert elsewhere(where_now) == "second"
            first.stop()
            first.start()
            assert elsewhere(where_now) == "first", "it has been started again since"
        assert elsewhere(where_now) == "first"


def test_a_context_is_taken_along() -> None:
    """Who runs in a copy of a context finds what was started in it."""
    with OperationsCoordinator(**FIRST):
        context = copy_context()
        with OperationsCoordinator(**SECOND):
            assert elsewhere(lambda: context.run(where_now)) == "first"


def test_threads_with_coordinators_of_their_own() -> None:
    """Each has its calls run by its own, whatever the others start and stop meanwhile."""
    barrier = threading.Barrier(4)

    def work(name: str) -> set[str]:
        seen: set[str] = set()
        for _ in range(10):
            with OperationsCoordinator(thread_name_prefix=name, max_workers=2):
                barrier.wait(30)
                seen |= {where_now(), where_from_inside().get(timeout=30)}
        return seen

    names = ["one", "two", "three", "four"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, names, timeout=50)) == [{name} for name in names]


def test_tasks_with_coordinators_of_their_own() -> None:
    """Those of asyncio do not see each other's either, though they share a thread."""

    async def work(name: str, others: asyncio.Barrier) -> tuple[str, str]:
        async with OperationsCoordinator(thread_name_prefix=name):
            await others.wait()
            return await where(), await where_from_inside()

    async def main() -> list[tuple[str, str]]:
        others = asyncio.Barrier(3)
        return await asyncio.gather(*(work(name, others) for name in "abc"))

    assert asyncio.run(main()) == [("a", "a"), ("b", "b"), ("c", "c")]


def test_one_whose_executor_was_shut_down() -> None:
    """It is passed over, here and elsewhere, as if it had been stopped."""
    with OperationsCoordinator(**FIRST), OperationsCoordinator(**SECOND) as second:
        second.executor.shutdown()
        assert not second.is_running
        assert (where_now(), elsewhere(where_now)) == ("first", "first")
        second.start()
        assert (where_now(), elsewhere(where_now)) == ("second", "second")


def test_one_that_is_broken() -> None:
    """Calls do not slip to another one but raise what is wrong, until it is stopped or started anew."""
    attempts: list[None] = []

    def prepare() -> None:
        attempts.append(None)
        if len(attempts) == 1:
            raise LookupError("not prepared")

    with OperationsCoordinator(**FIRST):
        broken = OperationsCoordinator(**SECOND, max_workers=1, initializer=prepare).start()
        with pytest.raises(BrokenThreadPool):
            where_now()
        for call in (where, lambda: elsewhere(where_now)):
            with pytest.raises(BrokenThreadPool):
                call()
        assert not broken.is_running
        broken.start()
        assert (where_now(), broken.is_running) == ("second", True)
        broken.stop()
        assert where_now() == "first"


# -- inside of calls ------------------------------------------------------------------------------


def test_a_call_inside_a_call() -> None:
    """It goes to the coordinator that runs the one which makes it, whichever was started last."""
    with OperationsCoordinator(**FIRST) as first:
        before = where_from_inside()
        with OperationsCoordinator(**SECOND):
            inside = first.executor.submit(
                lambda: (where_now(), where_from_inside().get(timeout=30))
            )
            assert inside.result(30) == ("first", "first")
            assert before.get(timeout=30) == "first"
            assert where_from_inside().get(timeout=30) == "second"


def test_a_callback_on_a_coordinators_thread() -> None:
    """A call that it makes goes to that coordinator."""
    release, called = threading.Event(), threading.Event()
    tokens: list[Token[str]] = []

    def call(_: object) -> None:
        tokens.append(where())
        called.set()

    with OperationsCoordinator(**FIRST):
        held = task_token_guard()(release.wait)(30)
        held.add_done_callback(call)
        with OperationsCoordinator(**SECOND):
            release.set()
            assert called.wait(30)
            assert tokens[0].get(timeout=30) == "first"


def test_a_call_of_a_plain_executor() -> None:
    """It runs in its submitter's context, so calls go to the last one that was started there."""
    with TokenGateExecutor(1) as plain, OperationsCoordinator(**FIRST):
        assert plain.submit(where_now).result(30) == "first"


def test_inside_the_last_calls_of_one_that_was_stopped() -> None:
    """They are refused, and do not slip to another coordinator; after another start they are taken."""
    started, go_on = threading.Event(), threading.Event()

    @task_token_guard
    def call_late() -> str:
        started.set()
        assert go_on.wait(30)
        return where().get(timeout=30)

    with OperationsCoordinator(**SECOND):
        first = OperationsCoordinator(**FIRST).start()
        refused = call_late()
        assert started.wait(30)
        assert not first.stop(wait=False)
        go_on.set()
        with pytest.raises(
            CoordinatorNotRunningError, match=r"where was not submitted: .* stopped"
        ):
            refused.get(timeout=30)
        started.clear()
        go_on.clear()
        first.start()
        taken = call_late()
        assert started.wait(30)
        first.stop(wait=False)
        first.start()
        go_on.set()
        assert taken.get(timeout=30) == "first"
        first.stop()


# -- who keeps them -------------------------------------------------------------------------------


def test_nobody_keeps_one_that_was_stopped() -> None:
    """Neither contexts in which it was started, nor functions whose calls it ran, nor their tokens."""

    def use() -> tuple[list[weakref.ref[object]], Token[str]]:
        with OperationsCoordinator(max_workers=1) as coordinator:
            token = where()
            token.get(timeout=30)
            elsewhere(lambda: repr(coordinator.start()))
            kept = coordinator, coordinator.executor, coordinator._runs
            return [weakref.ref(one) for one in kept], token

    references, token = use()
    gc.collect()
    assert [reference() for reference in references] == [None] * 3
    assert token.done()


def test_one_that_runs_goes_on_without_its_object() -> None:
    """Whoever starts one and lets go of it has calls run all the same, until the end of the process."""
    runs = OperationsCoordinator(**FIRST).start()._runs
    gc.collect()
    assert where_now() == "first"
    run = runs.end()
    assert run is not None
    run.executor.shutdown()


def test_one_whose_executor_was_shut_down_is_let_go() -> None:
    """By the next call that looks for one; or when it is started and stopped again."""

    def shut_down(*, again: bool) -> weakref.ref[CoordinatorRuns]:
        coordinator = OperationsCoordinator(**SECOND).start()
        coordinator.executor.shutdown()
        if again:
            coordinator.start().stop()
        return weakref.ref(coordinator._runs)

    kept = shut_down(again=False)
    with pytest.raises(CoordinatorNotRunningError):
        elsewhere(where_now)
    references = kept, shut_down(again=True)
    gc.collect()
    assert [reference() for reference in references] == [None, None]


# -- many threads, signals, forks -----------------------------------------------------------------


def test_started_by_many_threads_at_once() -> None:
    """One executor is made, and all of them have it."""
    coordinator = OperationsCoordinator(max_workers=1)
    barrier = threading.Barrier(8)

    def start() -> TokenGateExecutor:
        barrier.wait(30)
        return coordinator.start().executor

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                executors = {f.result(30) for f in [pool.submit(start) for _ in range(8)]}
                assert executors == {coordinator.executor}
                assert coordinator.stop()
    finally:
        sys.setswitchinterval(interval)


def test_started_and_stopped_by_many_threads() -> None:
    """Whoever is last, in the end it runs or it does not, and nothing stopped is left on the list."""
    coordinator = OperationsCoordinator(max_workers=1)

    def toggle() -> None:
        for _ in range(50):
            coordinator.start()
            coordinator.stop()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(toggle) for _ in range(4)]:
                future.result(50)
    finally:
        sys.setswitchinterval(interval)
    coordinator.stop()
    with pytest.raises(CoordinatorNotRunningError):
        elsewhere(where_now)
    coordinator.start()
    assert elsewhere(where_now).startswith("TokenGateExecutor")
    coordinator.stop()


def test_started_inside_its_own_start() -> None:
    """As by a signal handler: the inner one wins, and the outer one's executor is shut down."""
    runs = CoordinatorRuns()
    made: list[TokenGateExecutor] = []

    def make() -> TokenGateExecutor:
        if not made:
            made.append(TokenGateExecutor(1))
            runs.begin(make)
            return made[0]
        made.append(TokenGateExecutor(1))
        return made[1]

    runs.begin(make)
    run = runs.end()
    assert run is not None
    assert run.executor is made[1]
    with pytest.raises(RuntimeError, match="after shutdown"):
        made[0].submit(int)
    run.executor.shutdown()


def test_none_is_found_at_once() -> None:
    """Where none runs the error has the operation, and says whether there was one."""
    OperationsCoordinator().start().stop()
    with pytest.raises(CoordinatorNotRunningError) as caught:
        run_here("parse")
    assert (caught.value.operation, caught.value.was_stopped) == ("parse", True)


FORKED = """
import os, threading
from tokengate_executor import ForkedError, OperationsCoordinator, task_token_guard
from tokengate_executor import TokenGateExecutor

@task_token_guard
def where():
    return os.getpid()

def child():
    assert where().get(timeout=30) == os.getpid(), "in its own context"
    found = []
    thread = threading.Thread(target=lambda: found.append(where().get(timeout=30)))
    thread.start()
    thread.join(30)
    assert found == [os.getpid()], "elsewhere"
    coordinator.stop()
    try:
        where()
    except RuntimeError as error:
        assert error.was_stopped
    assert stuck.start().executor is not None
    assert where().get(timeout=30) == os.getpid()
    assert stuck.stop()
    return 42

coordinator = OperationsCoordinator(max_workers=2).start()
assert where().get(timeout=30) == os.getpid()

# Another thread is in the middle of a start when we fork: it holds the lock.
stuck = OperationsCoordinator(max_workers=1)
inside, go_on = threading.Event(), threading.Event()

def slow():
    inside.set()
    go_on.wait(30)
    return TokenGateExecutor(1)

starter = threading.Thread(target=stuck._runs.begin, args=(slow,))
starter.start()
assert inside.wait(30)
pid = os.fork()
if pid == 0:
    try:
        status = child()
    except BaseException:
        import traceback
        traceback.print_exc()
        status = 99
    os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
go_on.set()
starter.join(30)
assert where().get(timeout=30) == os.getpid()
assert coordinator.stop() and stuck.stop()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_in_a_forked_child() -> None:
    """Coordinators that run go on there; starting and stopping them does not wait for lost threads."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
