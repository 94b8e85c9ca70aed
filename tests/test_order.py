"""Who is next: priority, keys, tenants, limits and deadlines, as a user sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import pytest

from tokengate_executor import (
    DeadlockError,
    InvalidOptionError,
    RateLimit,
    Token,
    TokenGateExecutor,
    TokenState,
    TokenTimeoutError,
    gated,
)


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1, limits={"db": 2, "file": 1, "api": RateLimit(1000, burst=1)}) as one:
        yield one


@contextmanager
def paused(executor: TokenGateExecutor) -> Iterator[None]:
    """Let nothing start until the block is left."""
    executor.pause()
    yield
    executor.resume()


class Crowd:
    """Calls that wait to be let go, and how many are inside."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.inside = threading.Semaphore(0)

    def stay(self) -> None:
        """Be inside until all are let go."""
        self.inside.release()
        self.release.wait(30)

    def wait_for(self, number: int) -> None:
        """Wait until so many more are inside."""
        for _ in range(number):
            assert self.inside.acquire(timeout=30)


def test_priority_then_arrival(one: TokenGateExecutor) -> None:
    """Higher priorities go first, equal ones in the order of their submission."""
    order: list[tuple[int, int]] = []
    with paused(one):
        tokens = [
            one.options(priority=priority).submit(order.append, (priority, number))
            for number, priority in enumerate([0, 5, -1, 5, 3, 0])
        ]
    wait(tokens)
    assert order == [(5, 1), (5, 3), (3, 4), (0, 0), (0, 5), (-1, 2)]


def test_ageing() -> None:
    """A call that has waited long enough goes before a later one of higher priority."""
    order: list[str] = []
    with TokenGateExecutor(1, ageing=1e-6) as executor:
        with paused(executor):
            old = executor.options(priority=0).submit(order.append, "old")
            new = executor.options(priority=3).submit(order.append, "new")
        wait([old, new])
    assert order == ["old", "new"]


def test_a_key_runs_one_at_a_time_in_order() -> None:
    """Equal keys never overlap and keep their order, on eight workers; other keys run beside them."""
    with TokenGateExecutor(8) as executor:
        seen: list[int] = []
        both = threading.Barrier(2)
        here = executor.options(key="here")
        tokens: list[Token[Any]] = []
        for number in range(50):
            tokens.append(here.submit(seen.append, number))
            tokens.append(here.submit(seen.append, number))
        tokens.append(here.submit(both.wait, 30))
        tokens.append(executor.options(key="there").submit(both.wait, 30))
        for token in tokens:
            token.result(30)
    assert seen == [number for number in range(50) for _ in range(2)]


def test_a_key_goes_on_after_failure_cancel_and_kill(one: TokenGateExecutor) -> None:
    """Whatever becomes of the first, the next of its key runs."""
    keyed = one.options(key=("tuple", 1))
    with paused(one):
        failing, cancelled, killed, last = (keyed.submit(int, text) for text in "xyz7")
        assert cancelled.cancel()
        assert one.kill(operation="builtins.int") == 3
        last = keyed.submit(int, "7")
    assert last.result(30) == 7
    assert failing.state is killed.state is TokenState.KILLED


def test_sticky_stays_on_its_lane_while_it_has_work() -> None:
    """Calls of a sticky key run on one lane; when none is left the next may go anywhere."""
    with TokenGateExecutor(4, lanes=4) as executor:
        sticky = executor.options(key="s", sticky="lane")
        with paused(executor):
            tokens = [sticky.submit(int) for _ in range(20)]
        wait(tokens)
        assert len({token.lane for token in tokens}) == 1


def test_tenants_take_turns(one: TokenGateExecutor) -> None:
    """One call each, however many one of them has."""
    order: list[str] = []
    with paused(one):
        many = [one.options(tenant="many").submit(order.append, "m") for _ in range(100)]
        few = [one.options(tenant="few").submit(order.append, "f") for _ in range(2)]
        none = one.submit(order.append, "-")
    wait([*many, *few, none])
    assert "".join(order[:5]) in {"mf-mf", "m-fmf", "mf-fm"}


def test_a_limit_holds_no_worker() -> None:
    """Two at once of what is limited to two, while others pass with eight workers."""
    with TokenGateExecutor(4, limits={"db": 2}) as executor:
        crowd = Crowd()
        limited = executor.options(limits=("db",))
        tokens = [limited.submit(crowd.stay) for _ in range(10)]
        crowd.wait_for(2)
        for _ in range(100):
            assert executor.submit(int).result(30) == 0
        now = executor.statistics()
        assert (now.limits["db"].used, now.limits["db"].free, now.executing) == (2, 0, 2)
        assert (now.waiting, now.parked, now.limits["db"].waiting) == (8, 8, 8)
        assert not crowd.inside.acquire(blocking=False)
        crowd.release.set()
        for token in tokens:
            token.result(30)


def test_all_permits_or_none() -> None:
    """One that needs two permits holds neither while it lacks the other."""
    with TokenGateExecutor(4, limits={"a": 1, "b": 1}) as executor:
        crowd = Crowd()
        holder = executor.options(limits=("a",)).submit(crowd.stay)
        crowd.wait_for(1)
        both = executor.options(limits=("a", "b")).submit(int)
        assert executor.options(limits=("b",)).submit(int).result(30) == 0
        assert not both.done()
        crowd.release.set()
        assert both.result(30) == 0
        holder.result(30)


def test_storage_tiers() -> None:
    """A tier in any letter case: ten at once on slow storage."""
    with TokenGateExecutor(16) as executor:
        crowd = Crowd()
        slow = executor.options(storage="SLOW")
        tokens = [slow.submit(crowd.stay) for _ in range(12)]
        crowd.wait_for(10)
        assert executor.statistics().limits["storage:slow"].used == 10
        assert not crowd.inside.acquire(blocking=False)
        crowd.release.set()
        for token in tokens:
            token.result(30)


def test_rate_limit() -> None:
    """After the burst, starts keep their distance, without a worker being held meanwhile."""
    with TokenGateExecutor(2, limits={"api": RateLimit(100, burst=3)}) as executor:
        limited = executor.options(limits=("api",))
        tokens = [limited.submit(perf_counter) for _ in range(8)]
        assert executor.submit(int).result(30) == 0
        starts = sorted(token.result(30) for token in tokens)
        for index in range(3, 8):
            assert starts[index] - starts[0] >= (index - 2) * 0.01 - 0.002


def test_limits_change_while_running() -> None:
    """More permits count at once, fewer as they come back."""
    with TokenGateExecutor(8, limits={"db": 1, "api": RateLimit(1)}) as executor:
        crowd = Crowd()
        tokens = [executor.options(limits=("db",)).submit(crowd.stay) for _ in range(6)]
        crowd.wait_for(1)
        executor.set_limit("db", 4)
        crowd.wait_for(3)
        executor.set_limit("db", 2)
        assert executor.statistics().limits["db"].free == 0
        crowd.release.set()
        for token in tokens:
            token.result(30)
        executor.set_limit("api", RateLimit(1e6))
        with pytest.raises(InvalidOptionError, match="limit 'db' must be an int of at least 1"):
            executor.set_limit("db", RateLimit(1))
        with pytest.raises(InvalidOptionError, match="limit 'api' must be a RateLimit, not 3"):
            executor.set_limit("api", 3)
        with pytest.raises(
            InvalidOptionError, match=r"limit must be one of .*'db', 'api', not 'no'"
        ):
            executor.set_limit("no", 3)


def test_queue_timeout(one: TokenGateExecutor) -> None:
    """One that does not start in time never does, and no worker is needed to say so."""
    crowd = Crowd()
    one.submit(crowd.stay)
    crowd.wait_for(1)
    ran: list[int] = []
    late = one.options(queue_timeout=0.01).submit(ran.append, 1)
    with pytest.raises(TokenTimeoutError, match=r"list\.append.* did not start within 0\.01 s"):
        late.result(30)
    assert isinstance(late.exception(), TimeoutError)
    assert late.state is TokenState.TIMEOUT
    assert not late.cancelled()
    in_time = one.options(queue_timeout=30).submit(ran.append, 2)
    crowd.release.set()
    in_time.result(30)
    assert ran == [2]
    now = one.statistics()
    assert (now.timed_out, now.failed, now.completed) == (1, 0, 2)


def test_queue_timeout_of_zero_is_never_started(one: TokenGateExecutor) -> None:
    """No time at all is over at once, even if a worker is idle."""
    tokens = [one.options(queue_timeout=0).submit(int) for _ in range(20)]
    assert all(isinstance(token.exception(30), TokenTimeoutError) for token in tokens)


def test_run_in_place_keeps_limits_and_keys(one: TokenGateExecutor) -> None:
    """A worker that waits for a child runs it in place with its permits, and gives them back."""

    def parent() -> list[int]:
        children = [
            one.options(limits=("file",), key="child", priority=number).submit(int, str(number))
            for number in range(5)
        ]
        return [child.result(30) for child in reversed(children)]

    assert one.submit(parent).result(30) == [4, 3, 2, 1, 0]
    assert one.statistics().limits["file"].used == 0


@pytest.mark.parametrize("options", [{"key": "k"}, {"limits": ("one",)}, {"limits": ("two",)}])
def test_a_wait_for_what_one_has_oneself_is_refused(options: dict[str, Any]) -> None:
    """A call that waits for another of its own key or last permit gets an error, not a hang."""
    with TokenGateExecutor(4, limits={"one": 1, "two": 2}) as executor:
        view = executor.options(**options)
        both = threading.Barrier(2)

        def wait_for_another() -> int:
            if options == {"limits": ("two",)}:
                both.wait(30)  # the two permits are held by two that wait for a third each
            return view.submit(int).result()

        tokens = [view.submit(wait_for_another) for _ in range(2)]
        errors = [token.exception(30) for token in tokens]
        assert any(isinstance(error, DeadlockError) for error in errors)
        assert all(error is None or isinstance(error, DeadlockError) for error in errors)
        assert view.submit(int).result(30) == 0


def test_a_wait_for_a_permit_that_will_come_back_is_none() -> None:
    """As long as one of those who hold the permits does not wait for us, it is a wait like others."""
    with TokenGateExecutor(4, limits={"two": 2}) as executor:
        crowd = Crowd()
        view = executor.options(limits=("two",))
        other = view.submit(crowd.stay)
        crowd.wait_for(1)
        token = view.submit(lambda: view.submit(int).result())
        while executor.statistics().limits["two"].waiting != 1:
            time.sleep(0)
        crowd.release.set()
        assert token.result(30) == 0
        other.result(30)


@pytest.mark.parametrize("leave", [Token.cancel, lambda token: token.set_result(1)])
def test_whoever_leaves_early_holds_no_permit(
    one: TokenGateExecutor, leave: Callable[[Token[int]], object]
) -> None:
    """Tokens that end unrun, in whatever way, never take a permit with them."""
    limited = one.options(limits=("file", "db"), key=1)
    with paused(one):
        tokens = [limited.submit(int) for _ in range(10)]
        for token in tokens[::2]:
            leave(token)
    for token in tokens[1::2]:
        assert token.result(30) == 0
    now = one.statistics()
    assert [now.limits[name].used for name in ("file", "db")] == [0, 0]


def test_shutdown_finishes_what_is_limited_paused_and_late() -> None:
    """`shutdown` resumes what is paused, and every token is settled when it returns."""
    executor = TokenGateExecutor(2, limits={"one": 1, "api": RateLimit(200, burst=1)})
    executor.pause()
    executor.pause("builtins.int")
    tokens = [executor.options(limits=("one",), key=n % 3).submit(int) for n in range(20)]
    tokens += [executor.options(limits=("api",)).submit(int) for _ in range(10)]
    tokens.append(executor.options(queue_timeout=0.0).submit(int))
    executor.shutdown()
    assert all(token.done() for token in tokens)
    now = executor.statistics()
    assert (now.completed, now.timed_out, now.waiting) == (30, 1, 0)


def test_shutdown_cancels_what_is_parked() -> None:
    """`cancel_futures` reaches what waits for a permit or a key."""
    executor = TokenGateExecutor(2, limits={"one": 1})
    crowd = Crowd()
    held = executor.options(limits=("one",)).submit(crowd.stay)
    crowd.wait_for(1)
    tokens = [executor.options(limits=("one",), key="k").submit(int) for _ in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(token.cancelled() for token in tokens)
    crowd.release.set()
    executor.shutdown()
    assert held.done()


def test_last_reference_ends_the_threads_of_a_governed_executor() -> None:
    """Also with limits, timers and a pause in use, dropping the executor ends it."""
    executor = TokenGateExecutor(2, limits={"api": RateLimit(1000, burst=1)})
    tokens = [executor.options(limits=("api",), queue_timeout=30).submit(int) for _ in range(5)]
    executor.pause()
    threads = executor._threads | {executor.gate.timers.thread}
    del executor
    for token in tokens:
        assert token.result(30) == 0
    for thread in threads:
        assert thread is not None
        thread.join(30)
        assert not thread.is_alive()


def test_options_at_the_function() -> None:
    """`@gated` carries every option; a view's own win."""

    @gated(key="mine", priority=2, limits=("one",), tenant="t", queue_timeout=30, storage="Fast")
    def call() -> int:
        return 1

    with TokenGateExecutor(1, limits={"one": 1}) as executor:
        assert executor.submit(call).result(30) == 1
        assert executor.options(key="other", weight="heavy").submit(call).result(30) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"priority": 1.5}, "priority must be an int or None, not 1.5"),
        ({"priority": True}, "priority must be an int or None, not True"),
        ({"key": []}, r"key must be hashable, not \[\]"),
        ({"tenant": {}}, r"tenant must be hashable, not {}"),
        ({"sticky": "core"}, "sticky must be 'lane' or None, not 'core'"),
        ({"sticky": "lane"}, "sticky must be None where there is no key, not 'lane'"),
        ({"limits": "db"}, "limits must be a tuple of names of limits or None, not 'db'"),
        ({"limits": ("no",)}, r"limits must be names of this executor's limits \('db'\), not 'no'"),
        (
            {"storage": "tape"},
            "storage must be one of 'slow', 'moderate', 'fast', 'insane' or None",
        ),
        ({"queue_timeout": -1}, "queue_timeout must be seconds, at least 0, or None, not -1"),
        ({"queue_timeout": "1"}, "queue_timeout must be seconds, at least 0, or None, not '1'"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    """Each is an error at the call that names it."""
    with (
        TokenGateExecutor(1, limits={"db": 1}) as executor,
        pytest.raises(InvalidOptionError, match=text),
    ):
        executor.options(**options)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"limits": {"db": 0}}, r"limits must be ints of at least 1 or RateLimits, by name, not"),
        ({"limits": {1: 1}}, "limits must be named by non-empty strings, not 1"),
        ({"limits": ["db"]}, r"limits must be a mapping from names to limits, not \['db'\]"),
        ({"ageing": 0}, "ageing must be seconds, above 0 and finite, not 0"),
        ({"ageing": "1"}, "ageing must be seconds, above 0, not '1'"),
        ({"keep_alive": -1}, "keep_alive must be seconds, at least 0, or None, not -1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], text: str) -> None:
    """The error names the argument, what is allowed and what was given."""
    with pytest.raises(InvalidOptionError, match=text):
        TokenGateExecutor(1, **arguments)
