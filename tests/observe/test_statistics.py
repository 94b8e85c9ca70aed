"""Statistics: they add up at every quiet moment, lane by lane and all together."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, wait
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest

from tokengate_executor import (
    AffinityPolicy,
    ExecutorStatistics,
    GateFullError,
    LaneStatistics,
    LimitStatistics,
    OperationBlockedError,
    RateLimit,
    RetryPolicy,
    Token,
    TokenGateExecutor,
    TokenTimeoutError,
    current_token,
)
from tokengate_executor.policies.weights import Weight


class Held:
    """Calls that have all started and stay until they are let go."""

    def __init__(self, target: Any, calls: int = 1) -> None:
        self.release = threading.Event()
        barrier = threading.Barrier(calls + 1)

        def stay() -> None:
            barrier.wait(30)
            self.release.wait(30)

        self.tokens: list[Token[None]] = [target.submit(stay) for _ in range(calls)]
        barrier.wait(30)

    def let_go(self) -> None:
        """Let them end, and wait for that."""
        self.release.set()
        assert wait(self.tokens, timeout=30).not_done == set()


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker that logs no unread exceptions."""
    with TokenGateExecutor(1, log_unread_exceptions=False) as executor:
        yield executor


def checked(executor: TokenGateExecutor, submitted: int, **expected: int) -> ExecutorStatistics:
    """Return the statistics; they add up to that many, and unnamed outcomes are none."""
    now = executor.statistics()
    parts = {
        name: getattr(now, name)
        for name in (
            "rejected",
            "waiting",
            "executing",
            "completed",
            "failed",
            "timed_out",
            "cancelled",
        )
    }
    assert parts == dict.fromkeys(parts, 0) | expected
    assert now.submitted == sum(parts.values()) == submitted
    assert now.executing == sum(lane.executing for lane in now.lanes)
    assert now.completed == sum(lane.completed for lane in now.lanes)
    for lane in now.lanes:
        started = lane.executing + lane.completed + lane.failed + lane.killed
        assert sum(lane.started_by_weight.values()) == started
    return now


def test_of_one_that_has_done_nothing() -> None:
    """All is zero but what it was told."""
    with TokenGateExecutor(3, lanes=2) as executor:
        now = checked(executor, 0)
    assert (now.workers, now.idle_workers, now.spare_workers, now.max_workers) == (0, 0, 0, 3)
    assert (now.oldest_wait_seconds, now.pending, now.capacity, now.limits) == (0.0, 0, None, {})
    assert (now.is_paused, now.is_draining, now.paused_operations) == (False, False, ())
    assert [lane.number for lane in now.lanes] == [1, 2]
    assert [lane.busy_seconds + lane.waited_seconds for lane in now.lanes] == [0.0, 0.0]


def test_each_outcome(one: TokenGateExecutor) -> None:
    """What completed, failed, was cancelled, killed or late is counted as that."""

    def killed() -> None:
        token = current_token()
        assert token is not None
        one.kill(token.id)
        token.checkpoint()

    wait([one.submit(int), one.submit(int), one.submit(fail), one.submit(killed)], timeout=30)
    checked(one, 4, completed=2, failed=1, cancelled=1)
    held = Held(one)
    one.submit(int).cancel()
    one.options(operation="this").submit(int)
    assert one.kill(operation="this") == 1
    late = one.options(queue_timeout=0).submit(int)
    wait([late], timeout=30)
    one.submit(int)
    checked(one, 9, completed=2, failed=1, cancelled=3, timed_out=1, waiting=1, executing=1)
    held.let_go()
    one.shutdown()
    now = checked(one, 9, completed=4, failed=1, cancelled=3, timed_out=1)
    assert (now.lanes[0].failed, now.lanes[0].killed) == (1, 1)


def test_cancelled_before_and_after_a_worker_has_met_them(one: TokenGateExecutor) -> None:
    """They are counted at once, and once."""
    held = Held(one)
    tokens = [one.submit(int) for _ in range(200)]
    for count, token in enumerate(tokens[::2], start=1):
        assert token.cancel()
        checked(one, 201, cancelled=count, executing=1, waiting=200 - count)
    held.let_go()
    one.shutdown()
    checked(one, 201, completed=101, cancelled=100)


def test_executing_is_exact(one: TokenGateExecutor) -> None:
    """While calls are held it is just as many, in each lane; the rest waits."""
    with TokenGateExecutor(5, lanes=3) as executor:
        held = Held(executor, 5)
        for _ in range(4):
            executor.submit(int)
        now = checked(executor, 9, executing=5, waiting=4)
        assert [lane.executing for lane in now.lanes] == [2, 2, 1]
        assert [lane.workers for lane in now.lanes] == [2, 2, 1]
        assert (now.workers, now.idle_workers) == (5, 0)
        held.let_go()
        executor.shutdown()
        checked(executor, 9, completed=9)
    assert one.statistics().submitted == 0, "each executor has its own"


def test_weights() -> None:
    """Each lane tells how many of each weight it started, and the sums are right."""
    policy = AffinityPolicy(lanes=3, heavy=(1,), medium=(2,), light=(3,))
    with TokenGateExecutor(3, lanes=3, policy=policy) as executor:
        weights: list[Weight] = ["heavy"] * 5 + ["medium"] * 3 + ["light"]  # type: ignore[list-item]
        tokens = [executor.options(weight=weight).submit(int) for weight in weights]
        tokens += [executor.submit(int) for _ in range(20)]
        assert wait(tokens, timeout=30).not_done == set()
        now = checked(executor, 29, completed=29)
    for weight, counts in {"heavy": [5, 0, 0], "medium": [0, 3, 0], "light": [0, 0, 1]}.items():
        assert [lane.started_by_weight[weight] for lane in now.lanes] == counts
    assert sum(lane.started_by_weight["unweighted"] for lane in now.lanes) == 20


def test_mailboxes_and_steals() -> None:
    """What lies in a mailbox waits; what another lane takes from there is counted as stolen."""
    policy = AffinityPolicy(lanes=2, heavy=(1, 2), medium=(1,), light=(2,))
    with TokenGateExecutor(2, lanes=2, policy=policy) as executor:
        heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
        first, second = Held(executor.options(weight="medium")), Held(light)
        again = threading.Event()
        started = threading.Event()
        heavy.submit(lambda: (started.set(), again.wait(30)))
        for _ in range(16):
            heavy.submit(int)
        first.let_go()
        assert started.wait(30)
        now = checked(executor, 19, completed=1, executing=2, waiting=16)
        depths = [lane.depth for lane in now.lanes]
        assert depths == [4, 0], (
            "with 17 queued a lane's share is a quarter of what is behind the first"
        )
        second.let_go()
        last = heavy.submit(int)
        assert last.result(30) == 0
        while executor.statistics().waiting:
            pass
        now = checked(executor, 20, completed=19, executing=1)
        assert [lane.stolen for lane in now.lanes] == [0, 4]
        assert now.lanes[1].started_by_weight["heavy"] == 17
        again.set()


def test_nested_calls(one: TokenGateExecutor) -> None:
    """A call that runs inside another's wait is executing beside it; busy time is counted once."""
    seen: list[ExecutorStatistics] = []

    def nest(depth: int) -> None:
        if depth:
            one.submit(nest, depth - 1).result()
        else:
            seen.append(checked(one, 4, executing=4))

    token = one.submit(nest, 3)
    token.result(30)
    now = checked(one, 4, completed=4)
    assert len(seen) == 1
    assert token.started_at is not None
    assert token.settled_at is not None
    assert now.lanes[0].busy_seconds <= token.settled_at - token.started_at


def test_spare_workers(one: TokenGateExecutor) -> None:
    """While one stands in there is one more, of the same lane; it is no more when that is over."""
    seen: list[ExecutorStatistics] = []
    spares: list[threading.Thread] = []

    def look() -> None:
        spares.append(threading.current_thread())
        seen.append(one.statistics())

    def waits() -> None:
        wait([one.submit(look)])
        spares[0].join(30)
        seen.append(one.statistics())

    one.submit(waits).result(30)
    told = [(now.workers, now.spare_workers, now.lanes[0].workers, now.executing) for now in seen]
    assert told == [(2, 1, 2, 2), (1, 0, 1, 1)]
    checked(one, 2, completed=2)


def test_a_failed_initializer(caplog: pytest.LogCaptureFixture) -> None:
    """What waited has failed in no lane; calls that were refused afterwards are not counted."""
    go = threading.Event()

    def prepare() -> None:
        go.wait(30)
        fail()

    with TokenGateExecutor(2, lanes=1, initializer=prepare) as executor:
        tokens = [executor.submit(int) for _ in range(5)]
        tokens[3].cancel()
        go.set()
        wait(tokens, timeout=30)
        with suppress(BrokenExecutor):
            executor.submit(int)
    now = checked(executor, 5, failed=4, cancelled=1)
    assert (now.lanes[0].failed, now.workers) == (0, 0)
    assert {record.name for record in caplog.records} == {"concurrent.futures"}


def test_shutdown_that_cancels(one: TokenGateExecutor) -> None:
    """What it cancels is counted as cancelled, wherever it waited."""
    held = Held(one)
    for weight in ("heavy", None, "light"):
        one.options(weight=weight).submit(int)  # type: ignore[arg-type]
    one.shutdown(wait=False, cancel_futures=True)
    checked(one, 4, executing=1, cancelled=3)
    held.let_go()
    one.shutdown()
    now = checked(one, 4, completed=1, cancelled=3)
    assert (now.workers, now.idle_workers) == (0, 0)


def test_bounds() -> None:
    """Refused calls are submitted and rejected; the places that are taken are pending."""
    bounds: dict[Weight | None, int] = {None: 3, "heavy": 2}
    with TokenGateExecutor(1, max_pending=bounds, on_full="raise") as executor:
        held = Held(executor)
        for _ in range(3):
            executor.submit(int)
        executor.options(weight="heavy").submit(int)
        executor.options(weight="light").submit(int)
        with pytest.raises(GateFullError):
            executor.submit(int)
        now = checked(executor, 7, executing=1, waiting=5, rejected=1)
        assert (now.pending, now.capacity, now.blocked_producers) == (4, 5, 0)
        held.let_go()
        executor.shutdown()
        now = checked(executor, 7, completed=6, rejected=1)
        assert now.pending == 0


def test_what_waits_for_more_than_a_worker() -> None:
    """Those parked at a limit or a key are waiting, too; the limits tell what is used and free."""
    limits = {"two": 2, "rate": RateLimit(1, per=3600, burst=1)}
    with TokenGateExecutor(4, lanes=1, limits=limits) as executor:
        held = Held(executor.options(limits=("two",)), 2)
        for _ in range(3):
            executor.options(limits=("two",)).submit(int)
        assert executor.options(limits=("rate",)).submit(int).result(30) == 0
        waiting = executor.options(limits=("rate",)).submit(int)
        executor.options(storage="slow").submit(int).result(30)
        now = checked(executor, 8, executing=2, completed=2, waiting=4)
        assert now.parked == 4
        assert now.limits["two"] == LimitStatistics(spec=2, used=2, free=0, waiting=3)
        assert now.limits["rate"] == LimitStatistics(limits["rate"], used=0, free=0, waiting=1)
        assert set(now.limits) == {"two", "rate"}, "a storage tier is told of while it is in use"
        waiting.cancel()
        held.let_go()
        executor.shutdown()
        now = checked(executor, 8, completed=7, cancelled=1)
        assert (now.limits["two"].used, now.limits["two"].free) == (0, 2)


def test_pauses(one: TokenGateExecutor) -> None:
    """What is paused is told, and what waits for it."""
    one.pause()
    one.pause("builtins.int")
    one.submit(int)
    now = checked(one, 1, waiting=1)
    assert (now.is_paused, now.paused_operations) == (True, ("builtins.int",))
    one.resume()
    one.resume("builtins.int")
    now = one.statistics()
    assert (now.is_paused, now.paused_operations) == (False, ())


def test_draining(one: TokenGateExecutor) -> None:
    """It is told until the executor takes calls again."""
    assert one.drain().is_complete
    assert one.statistics().is_draining
    one.resume()
    assert not one.statistics().is_draining


def test_how_long_the_oldest_has_waited(one: TokenGateExecutor) -> None:
    """It is the time of the one that waits longest, whatever its weight, and grows."""
    held = Held(one)
    heavy = one.options(weight="heavy").submit(int)
    one.submit(int)
    first, second = one.statistics(), one.statistics()
    assert 0 < first.oldest_wait_seconds <= second.oldest_wait_seconds
    heavy.cancel()
    assert one.statistics().oldest_wait_seconds < second.oldest_wait_seconds + 30
    held.let_go()
    one.shutdown()
    assert one.statistics().oldest_wait_seconds == 0.0


def test_idle_workers() -> None:
    """Threads that have nothing to do are idle; those that were never started are none."""
    with TokenGateExecutor(4, lanes=1) as executor:
        Held(executor, 3).let_go()
        held = Held(executor)
        while (now := executor.statistics()).idle_workers != 2:
            pass
        assert (now.workers, now.executing) == (3, 1)
        held.let_go()


@pytest.mark.parametrize("kind", [ExecutorStatistics, LaneStatistics, LimitStatistics])
def test_they_are_frozen(kind: type) -> None:
    """What one was handed can be changed by nobody, nor do later calls change it."""
    with TokenGateExecutor(1, limits={"one": 1}) as executor:
        now = executor.statistics()
        executor.submit(int).result(30)
        records: list[Any] = [now, now.lanes[0], now.limits["one"]]
    (record,) = (one for one in records if type(one) is kind)
    assert is_dataclass(kind)
    for field in fields(kind):
        with pytest.raises(FrozenInstanceError):
            setattr(record, field.name, None)
    assert now.completed == now.lanes[0].completed == 0
    for mapping in (now.limits, now.lanes[0].started_by_weight):
        with pytest.raises(TypeError):
            mapping["one"] = None  # type: ignore[index]


def test_every_field_is_explained() -> None:
    """The docstrings name each of them."""
    for kind in (ExecutorStatistics, LaneStatistics, LimitStatistics):
        text = (kind.__doc__ or "").replace(",", " ").replace(":", " ").split()
        assert {field.name for field in fields(kind)} <= set(text)


def test_what_the_workers_do() -> None:
    """Idle, busy, blocked and abandoned ones are told apart; what runs long is seen."""
    began, release = threading.Barrier(3), threading.Event()

    def hold() -> None:
        began.wait(20)
        release.wait(20)

    def wait_for_one() -> None:
        began.wait(20)
        inner.result(20)

    with TokenGateExecutor(3, thread_name_prefix="crew") as executor:
        before = executor.statistics()
        assert (before.name, before.workers, before.longest_running_seconds) == ("crew", 0, 0.0)
        executor.submit(pow, 2, 2).result()
        inner: Future[None] = Future()
        tokens = [executor.submit(hold), executor.submit(wait_for_one)]
        began.wait(20)
        now = executor.statistics()
        assert (now.busy_workers, now.blocked_workers, now.abandoned_workers) == (2, 0, 0)
        assert now.workers == now.idle_workers + now.busy_workers
        assert 0 < now.longest_running_seconds <= now.unfinished_seconds
        assert now.unfinished_seconds <= 2 * now.longest_running_seconds
        assert now.longest_running_seconds < now.uptime_seconds
        inner.set_result(None)
        release.set()
        for token in tokens:
            token.result()
    after = executor.statistics()
    assert after.is_shutdown
    assert not before.is_shutdown
    assert (after.longest_running_seconds, after.unfinished_seconds) == (0.0, 0.0)


def test_a_worker_that_waits_for_a_token_is_blocked() -> None:
    """It is not busy; one whose call was given up is neither."""
    inside, release = threading.Event(), threading.Event()

    def outer() -> None:
        token = executor.options(operation="inner").submit(inner)
        token.result(20)

    def inner() -> None:
        inside.set()
        release.wait(20)

    with TokenGateExecutor(2) as executor:
        token = executor.submit(outer)
        assert inside.wait(20)
        while executor.statistics().blocked_workers != 1:  # it is on its way to wait
            pass
        now = executor.statistics()
        assert (now.busy_workers, now.executing) == (1, 2)
        release.set()
        token.result()
        inside.clear()
        release.clear()
        late = executor.options(timeout=0.01).submit(inner)
        assert isinstance(late.exception(), TokenTimeoutError)
        assert inside.is_set()
        now = executor.statistics()
        assert (now.abandoned, now.abandoned_workers, now.blocked_workers) == (1, 1, 0)
        assert now.longest_running_seconds == 0.0
        release.set()


def test_why_calls_were_refused() -> None:
    """The reasons add up to all of them."""
    with TokenGateExecutor(1, max_pending=1, on_full="raise") as executor:
        executor.guard_house.open("blocked")
        for _ in range(2):
            with pytest.raises(OperationBlockedError):
                executor.options(operation="blocked").submit(int)
        executor.pause()
        executor.submit(int)
        with pytest.raises(GateFullError):
            executor.submit(int)
        now = executor.statistics()
        assert now.rejected_by_reason == {"full": 1, "blocked": 2}
        assert now.rejected == 3
        executor.resume()


def test_submitted_is_never_too_high() -> None:
    """Nor are ends and starts, however much calls move on and go round while they are gathered."""
    twice = RetryPolicy(attempts=3, on=ValueError, delay=0, budget=None)
    executor = TokenGateExecutor(4, retry=twice, log_unread_exceptions=False)
    light = executor.options(weight="light")
    submitted = cancelled = 0
    ended = threading.Event()
    calls: tuple[Callable[[], Any], ...] = (int, fail)

    def produce() -> None:
        nonlocal submitted, cancelled
        try:
            for _ in range(60):
                tokens: list[Token[int]] = []
                for number in range(200):
                    submitted += 1
                    tokens.append(light.submit(calls[number % 2]))
                for token in tokens[::2]:
                    cancelled += 1
                    token.cancel()
                for token in tokens[1::2]:
                    token.exception(30)
        finally:
            ended.set()

    producer = threading.Thread(target=produce)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    producer.start()
    try:
        while not ended.is_set():
            now = executor.statistics()
            assert now.submitted <= submitted
            assert now.cancelled <= cancelled
            assert all(lane.started_by_weight["unweighted"] == 0 for lane in now.lanes)
    finally:
        sys.setswitchinterval(interval)
        producer.join(30)
        executor.shutdown()
    assert executor.statistics().submitted == submitted
