"""Workers: their loop, what they run inside a call that waits, and when their threads end."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest

from tokengate_executor import AffinityPolicy, Token, TokenGateExecutor
from tokengate_executor.engine.lanes import Lane
from tokengate_executor.engine.workers import Worker


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


def worker_of(executor: TokenGateExecutor) -> Worker:
    """Return its first worker."""
    return executor._crew.regulars[0]


# -- threads --------------------------------------------------------------------------------------


def test_a_worker_has_a_thread_once_it_was_roused(one: TokenGateExecutor) -> None:
    """The first time its thread is started, and then the same one goes on."""
    worker = worker_of(one)
    assert worker.thread is None
    idents = [one.submit(threading.get_ident).result(30) for _ in range(3)]
    assert worker.thread is not None
    assert idents == [worker.thread.ident] * 3
    assert worker.started == worker.completed == 3


def test_threads_do_not_keep_the_interpreter() -> None:
    """They are daemons with the names that the standard library gives, numbered from 0."""
    with TokenGateExecutor(2, "named") as executor:
        barrier = threading.Barrier(2)
        wait([executor.submit(barrier.wait, 30) for _ in range(2)], timeout=30)
        assert {(t.name, t.daemon) for t in executor._threads} == {
            ("named_0", True),
            ("named_1", True),
        }


def test_a_worker_thread_begins_with_an_empty_context() -> None:
    """An initializer sees nothing of who happened to submit the first call."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    seen: list[str] = []
    user.set("alice")
    with TokenGateExecutor(1, initializer=lambda: seen.append(user.get())) as executor:
        assert executor.submit(user.get).result(30) == "alice"
    assert seen == ["nobody"]


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, KeyboardInterrupt, BaseException])
def test_a_worker_outlives_its_calls(one: TokenGateExecutor, kind: type[BaseException]) -> None:
    """Whatever a call raises is the caller's, and the same thread runs the next one."""

    def throw() -> None:
        raise kind

    before = one.submit(threading.get_ident).result(30)
    assert type(one.submit(throw).exception(30)) is kind
    assert one.submit(threading.get_ident).result(30) == before
    assert one.statistics().workers == 1


def test_a_failed_initializer_ends_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the worker runs nothing, and its thread is over."""

    def broken() -> None:
        raise LookupError("not prepared")

    executor = TokenGateExecutor(1, initializer=broken)
    worker = worker_of(executor)
    executor._crew.router.idle.remove(worker)
    worker.rouse()
    assert worker.thread is not None
    worker.thread.join(30)
    assert not worker.thread.is_alive()
    assert (worker.started, executor._broken) == (0, executor._gate.refusal().args[0])
    assert [record.name for record in caplog.records] == ["concurrent.futures"]


def test_a_system_that_refuses_a_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread says so in the log, and works all the same."""

    def refuse(*_: Any) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1024)), raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    with TokenGateExecutor(1, "pinned", pin_lanes=True) as executor:
        assert executor.submit(pow, 2, 3).result(30) == 8
        cpus = executor.statistics().lanes[0].cpus
    (record,) = caplog.records
    assert record.name == "tokengate_executor"
    assert record.getMessage() == f"cannot pin pinned_0 to CPUs {cpus}"


def test_a_thread_is_pinned_before_it_is_prepared() -> None:
    """An initializer runs on the CPUs of its lane already."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot pin threads to CPUs")
    seen: list[set[int]] = []

    def prepare() -> None:
        seen.append(os.sched_getaffinity(0))

    with TokenGateExecutor(1, initializer=prepare, pin_lanes=True) as executor:
        assert executor.submit(int).result(30) == 0
        assert seen == [set(executor.statistics().lanes[0].cpus)]


def test_one_that_is_roused_before_it_sleeps(
    one: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes it off the list as it has its last look: it uses the wake-up up, and goes on."""
    worker, gate, idle = worker_of(one), one._gate, one._crew.router.idle
    has_work = gate.has_work
    roused: list[object] = []

    def rouse(lane: Lane) -> bool:
        if not roused and worker in idle:
            idle.remove(worker)
            worker.rouse()
            roused.append(worker)
            return True
        return has_work(lane)

    monkeypatch.setattr(gate, "has_work", rouse)
    assert one.submit(pow, 2, 3).result(30) == 8
    assert one.submit(pow, 2, 4).result(30) == 16
    one.shutdown()
    assert roused == [worker]
    assert not worker._wake.acquire(blocking=False), "each wake-up is used up once"


def test_one_that_is_to_leave_ends_after_its_call() -> None:
    """What it runs is finished, and what waits is for those who stay."""
    with TokenGateExecutor(2, lanes=1) as executor:
        barrier = threading.Barrier(3)
        release = threading.Event()

        def stay() -> threading.Thread:
            barrier.wait(30)
            release.wait(30)
            return threading.current_thread()

        tokens = [executor.submit(stay) for _ in range(2)]
        barrier.wait(30)
        executor.resize(1)
        leaver = executor._crew.leavers[0].thread
        release.set()
        threads = {token.result(30) for token in tokens}
        assert leaver in threads
        leaver.join(30)
        assert executor.submit(threading.current_thread).result(30) in threads - {leaver}


# -- running in place -----------------------------------------------------------------------------


def test_a_call_that_is_waited_for_runs_on_the_thread_that_waits(one: TokenGateExecutor) -> None:
    """It needs no other thread, and the worker knows both of them, the outer one first."""
    worker = worker_of(one)

    def inner() -> tuple[int, list[Token[Any]]]:
        return threading.get_ident(), worker.executing()

    def outer() -> tuple[bool, list[Token[Any]], Token[Any]]:
        child = one.submit(inner)
        ident, executing = child.result()
        return ident == threading.get_ident(), executing, child

    token = one.submit(outer)
    in_place, executing, child = token.result(30)
    assert in_place
    assert executing == [token, child]
    one.shutdown()
    assert worker.executing() == []


def test_so_deep_and_no_deeper(one: TokenGateExecutor) -> None:
    """A thread runs 33 calls inside each other; what is deeper gets the stack of another thread."""
    idents: list[int] = []

    def nest(depth: int) -> None:
        idents.append(threading.get_ident())
        if depth:
            one.submit(nest, depth - 1).result()

    one.submit(nest, 39).result(30)
    assert len(idents) == 40
    assert len(set(idents[:33])) == len(set(idents[33:])) == 1
    assert idents[33] != idents[32]


def test_another_executors_token_is_not_run_in_place(one: TokenGateExecutor) -> None:
    """That executor's own worker runs it."""
    with TokenGateExecutor(1) as other:

        def waits() -> tuple[int, int]:
            return threading.get_ident(), other.submit(threading.get_ident).result()

        here, there = one.submit(waits).result(30)
    assert here != there
    assert (one.statistics().completed, other.statistics().completed) == (1, 1)


def test_its_executor_goes_on_while_a_worker_waits_for_nobodys_token(
    one: TokenGateExecutor,
) -> None:
    """What it waits for may be settled by a call behind it, which another thread then runs."""
    bare: Token[int] = Token(int)

    def settle_it() -> None:
        bare.set_result(threading.get_ident())

    def waits() -> tuple[int, int]:
        one.submit(settle_it)
        return threading.get_ident(), bare.result()

    here, there = one.submit(waits).result(30)
    assert here != there


def test_a_lane_runs_in_place_only_what_it_may() -> None:
    """A heavy call that waits for a light one, which is another lane's, has it run there."""
    policy = AffinityPolicy(lanes=2, heavy=(1,), medium=(1,), light=(2,))
    with TokenGateExecutor(2, lanes=2, policy=policy) as executor:
        heavy, light = executor.options(weight="heavy"), executor.options(weight="light")

        def outer() -> tuple[int | None, int | None]:
            first, second = light.submit(int), heavy.submit(int)
            first.result()
            second.result()
            return first.lane, second.lane

        token = heavy.submit(outer)
        assert token.result(30) == (2, 1)
        assert token.lane == 1


def test_one_that_runs_elsewhere_is_waited_for(one: TokenGateExecutor) -> None:
    """Only what is queued can be run in place."""
    with TokenGateExecutor(2) as executor:
        started, release = threading.Event(), threading.Event()

        def stay() -> int:
            started.set()
            release.wait(30)
            return threading.get_ident()

        running = executor.submit(stay)
        assert started.wait(30)

        def waits() -> tuple[int, int]:
            one.submit(release.set)
            return threading.get_ident(), running.result()

        here, there = executor.submit(waits).result(30)
        assert here != there


def test_a_callback_that_waits_has_it_run_elsewhere(one: TokenGateExecutor) -> None:
    """It is no call of its own, so nothing can be run inside of it; a spare worker does."""
    release = threading.Event()
    seen: list[object] = []
    token = one.submit(release.wait)
    token.add_done_callback(lambda _: seen.append(one.submit(threading.get_ident).result()))
    token.add_done_callback(lambda _: seen.append(threading.get_ident()))
    release.set()
    one.submit(int).result(30)
    one.shutdown()
    assert len(set(seen)) == 2


# -- idle workers that end ------------------------------------------------------------------------


class Wake:
    """A worker's wake lock: with a timeout nobody wakes it, without one it is woken at once."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.wakes_in_time = False
        self.asked: list[object] = []

    def acquire(self, timeout: float | None = None) -> bool:
        """Let something happen meanwhile."""
        self.asked.append(timeout)
        if timeout is not None:
            self.meanwhile()
        return timeout is None or self.wakes_in_time

    def release(self) -> None:
        """Wake it: nobody sleeps here."""


class Sleeper:
    """A worker with `keep_alive` whose thread is this one, and which is idle."""

    def __init__(self) -> None:
        self.executor = TokenGateExecutor(1, keep_alive=7.5)
        self.worker = worker_of(self.executor)
        self.idle = self.executor._crew.router.idle
        self.thread: Any = threading.current_thread()
        self.worker.thread = self.thread
        self.wake = Wake()
        self.worker._wake = self.wake  # type: ignore[assignment]

    def queue(self) -> None:
        """Let a token arrive whose submitter saw nobody idle."""
        executor = self.executor
        self.executor._gate.routes[None].backlog.append(Token(int, (), None, None, executor._plain))


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """Return an idle worker that is about to sleep, and leave it without a thread."""
    sleeper = Sleeper()
    yield sleeper
    sleeper.worker.thread = None
    sleeper.idle.clear()


def test_nobody_comes(sleeper: Sleeper) -> None:
    """It is a vacancy again: idle, without a thread, and its thread ends."""
    assert not sleeper.worker._sleep()
    assert sleeper.wake.asked == [7.5]
    assert (sleeper.worker.thread, sleeper.idle) == (None, [sleeper.worker])


def test_somebody_comes_in_time(sleeper: Sleeper) -> None:
    """It goes on, and whoever roused it took it off the list."""
    sleeper.wake.wakes_in_time = True
    sleeper.wake.meanwhile = sleeper.idle.clear
    assert sleeper.worker._sleep()
    assert sleeper.worker.thread is sleeper.thread


def test_its_thread_ends_and_the_next_call_starts_another() -> None:
    """With no time at all it ends as soon as there is nothing to do."""
    with TokenGateExecutor(1, keep_alive=0) as executor:
        first = executor.submit(threading.current_thread).result(30)
        first.join(30)
        assert executor._threads == set()
        second = executor.submit(threading.current_thread).result(30)
        assert second is not first
        assert first.name == second.name


def test_somebody_rouses_it_as_the_time_is_over(sleeper: Sleeper) -> None:
    """Whoever took it off the list wakes it, so the wake-up is used up and it goes on."""
    sleeper.wake.meanwhile = sleeper.idle.clear
    assert sleeper.worker._sleep()
    assert sleeper.wake.asked == [7.5, None]
    assert sleeper.worker.thread is sleeper.thread


def test_something_comes_as_the_time_is_over(sleeper: Sleeper) -> None:
    """A token whose submitter saw nobody idle is found in the last look, and the thread goes on."""
    sleeper.wake.meanwhile = sleeper.queue
    assert sleeper.worker._sleep()
    assert (sleeper.worker.thread, sleeper.idle) == (sleeper.thread, [])


def test_something_comes_for_a_thread_that_is_about_to_end(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If somebody has taken the vacancy meanwhile, another thread is started, and this one ends."""

    def arrives(_: object) -> bool:
        sleeper.idle.clear()
        return True

    monkeypatch.setattr(sleeper.executor._gate, "has_work", arrives)
    assert not sleeper.worker._sleep()
    assert sleeper.worker.thread is None


def test_the_executor_is_shut_down_as_a_thread_is_about_to_end(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its vacancy stays where it is, so the token that it has found in its last look is run."""

    def arrives(_: object) -> bool:
        sleeper.executor.shutdown(wait=False)
        return True

    monkeypatch.setattr(sleeper.executor._gate, "has_work", arrives)
    assert sleeper.worker._sleep()
    assert (sleeper.worker.thread, sleeper.idle) == (sleeper.thread, [])


def test_its_vacancy_is_taken_and_listed_again(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it then takes off the list is the other thread's: that one is roused, and this one ends."""
    other = threading.Thread()
    roused: list[bool] = []

    def arrives(_: object) -> bool:
        sleeper.idle.remove(sleeper.worker)
        sleeper.worker.thread = other
        sleeper.idle.append(sleeper.worker)
        return True

    monkeypatch.setattr(sleeper.executor._gate, "has_work", arrives)
    monkeypatch.setattr(sleeper.wake, "release", lambda: roused.append(True))
    assert not sleeper.worker._sleep()
    assert (sleeper.worker.thread, sleeper.idle, roused) == (other, [], [True])
