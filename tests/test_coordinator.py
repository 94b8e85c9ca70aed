"""``OperationsCoordinator``: start, stop, and the verbs under the seed's names."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tokengate_executor import (
    InvalidOptionError,
    OperationsCoordinator,
    RateLimit,
    RetryPolicy,
    Token,
    TokenKilledError,
    current_token,
    task_token_guard,
)
from tokengate_executor.errors import CoordinatorNotRunningError


@pytest.fixture
def one() -> Iterator[OperationsCoordinator]:
    """Return a coordinator that runs, with a single worker."""
    with OperationsCoordinator(max_workers=1) as coordinator:
        yield coordinator


@task_token_guard("parse")
def parse(text: str) -> int:
    """Return the number."""
    return int(text)


class Held:
    """A guarded call that has started and stays until it is let go."""

    def __init__(self) -> None:
        self.release, self._started = threading.Event(), threading.Event()
        self.token: Token[bool] = task_token_guard("hold")(self._stay)()
        assert self._started.wait(30)

    def _stay(self) -> bool:
        self._started.set()
        return self.release.wait(30)


# -- start, stop ----------------------------------------------------------------------------------


def test_each_start_makes_a_new_executor() -> None:
    """One that runs keeps its executor; one that was stopped can be started again."""
    coordinator = OperationsCoordinator(max_workers=3)
    assert coordinator.start() is coordinator
    first = coordinator.executor
    assert coordinator.start().executor is first
    assert coordinator.stop()
    second = coordinator.start().executor
    assert second is not first
    assert second.statistics().max_workers == 3
    assert parse("5").get(timeout=30) == 5
    assert (first.statistics().submitted, second.statistics().submitted) == (0, 1)
    coordinator.stop()


def test_stop_finishes_what_is_there(one: OperationsCoordinator) -> None:
    """What runs and what waits, also what is paused; stopping again does nothing."""
    one.pause_operation("parse")
    tokens = [parse(str(number)) for number in range(50)]
    assert one.stop()
    assert [token.get(0) for token in tokens] == list(range(50))
    assert one.stop()
    assert one.statistics().workers == 0
    assert not one.is_running


def test_stop_of_one_that_was_never_started() -> None:
    """There is nothing to be done."""
    assert OperationsCoordinator().stop()


def test_stop_without_waiting(one: OperationsCoordinator) -> None:
    """It returns while a call runs, and says that it has not waited; a later stop waits."""
    held = Held()
    waiting = parse("5")
    assert not one.stop(wait=False)
    assert not held.token.done()
    held.release.set()
    assert one.stop()
    assert (held.token.get(0), waiting.get(0)) == (True, 5)


def test_stop_with_a_timeout(one: OperationsCoordinator) -> None:
    """What is left when the time is over goes on; with enough time, nothing is left."""
    held = Held()
    waiting = parse("5")
    assert not one.stop(timeout=0.01)
    with pytest.raises(CoordinatorNotRunningError):
        parse("6")
    held.release.set()
    assert one.stop(timeout=30)
    assert (held.token.get(0), waiting.get(0)) == (True, 5)


def test_stop_that_cancels(one: OperationsCoordinator) -> None:
    """What waits is cancelled, what runs is finished."""
    held = Held()
    waiting = parse("5")
    assert not one.stop(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    held.release.set()
    assert held.token.get(timeout=30)


@pytest.mark.parametrize("stop", [OperationsCoordinator.stop, OperationsCoordinator.__exit__])
def test_stop_inside_a_call(
    one: OperationsCoordinator, stop: Callable[[OperationsCoordinator], Any]
) -> None:
    """It does not wait for the call that it is inside of, nor for another that stops it, too."""
    both = threading.Barrier(2)

    def stop_it() -> Any:
        both.wait(30)
        return stop(one)

    one.executor.resize(2)
    tokens = [task_token_guard()(stop_it)() for _ in range(2)]
    assert not any(token.get(timeout=30) for token in tokens)
    assert one.stop()


@pytest.mark.parametrize("timeout", [-1, "1", float("inf"), float("nan"), True])
def test_a_timeout_that_is_none(one: OperationsCoordinator, timeout: Any) -> None:
    """It is an error, and the coordinator still runs."""
    with pytest.raises(InvalidOptionError, match="timeout must be seconds, at least 0, or None"):
        one.stop(timeout=timeout)
    with pytest.raises(InvalidOptionError, match="timeout must be None unless there is a wait"):
        one.stop(wait=False, timeout=1.0)
    assert one.is_running


def test_as_a_context_manager() -> None:
    """It runs inside, and is stopped behind it, whatever was raised."""
    coordinator = OperationsCoordinator(max_workers=1)

    def fail() -> None:
        with coordinator as entered:
            assert entered is coordinator
            assert coordinator.is_running
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert not coordinator.is_running


def test_as_an_asynchronous_context_manager() -> None:
    """Leaving it waits without blocking the event loop, which calls may need to end."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()

        async def answer() -> int:
            return 42

        def ask() -> int:
            return asyncio.run_coroutine_threadsafe(answer(), loop).result(30)

        async with OperationsCoordinator(max_workers=1) as coordinator:
            token = task_token_guard()(ask)()
        assert not coordinator.is_running
        return [token.get(0), await token]

    assert asyncio.run(main()) == [42, 42]


def test_an_event_loop_inside_a_call(one: OperationsCoordinator) -> None:
    """Leaving it there, or leaving one that was never entered, does not wait for that call."""

    async def main() -> bool:
        async with one:
            pass
        await OperationsCoordinator().__aexit__()
        return one.is_running

    token = task_token_guard()(lambda: asyncio.run(main()))()
    assert token.get(timeout=30) is False


def test_start_prints_nothing() -> None:
    """Nor do a call and a stop."""
    program = """
from tokengate_executor import OperationsCoordinator, task_token_guard
with OperationsCoordinator(quarantine=True, timeout=60.0):
    task_token_guard()(int)().get()
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, timeout=50, check=True
    )
    assert (ended.stdout, ended.stderr) == (b"", b"")


def test_calls_that_wait_at_the_end_of_the_program() -> None:
    """Who forgets to stop has them finished all the same."""
    program = """
from tokengate_executor import OperationsCoordinator, task_token_guard
OperationsCoordinator(max_workers=1).start()
for number in range(3):
    task_token_guard()(print)(number)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True
    )
    assert (ended.stdout, ended.stderr) == ("0\n1\n2\n", "")


# -- what it has ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda it: it.executor,
        lambda it: it.topology,
        lambda it: it.policy,
        lambda it: it.guard_house,
        lambda it: it.quarantine,
        OperationsCoordinator.statistics,
        OperationsCoordinator.get_stats,
        OperationsCoordinator.pause_admission,
        OperationsCoordinator.resume_admission,
        OperationsCoordinator.drain_pool,
        OperationsCoordinator.purge_pool,
        lambda it: it.dump_execution_history("history.json"),
        lambda it: it.pause_operation("parse"),
        lambda it: it.resume_operation("parse"),
        lambda it: it.purge_operation("parse"),
        lambda it: it.kill_operation("parse"),
        lambda it: it.kill_token("1-1"),
    ],
)
def test_before_the_start(ask: Callable[[OperationsCoordinator], object]) -> None:
    """There is nothing to ask: the error says what to do, and nothing is started."""
    coordinator = OperationsCoordinator()
    with pytest.raises(CoordinatorNotRunningError, match=r"^no coordinator is running: call start"):
        ask(coordinator)
    assert not coordinator.is_running


def test_what_it_has_is_its_executors(one: OperationsCoordinator) -> None:
    """Topology, policy, guard house and quarantine; also when it is stopped."""
    for _ in range(2):
        executor = one.executor
        assert one.topology == executor.topology
        assert one.policy == executor.policy
        assert one.guard_house is executor.guard_house
        assert one.quarantine is executor.quarantine
        assert one.statistics().name == executor.name
        one.stop()


def test_repr() -> None:
    """It tells whether it runs, and the executor's name."""
    coordinator = OperationsCoordinator(thread_name_prefix="crawler")
    told = [repr(coordinator), repr(coordinator.start())]
    coordinator.stop()
    told.append(repr(coordinator))
    states = ["not started", "running crawler", "stopped crawler"]
    assert told == [f"<OperationsCoordinator {state}>" for state in states]


def test_get_stats() -> None:
    """They are the statistics, number by number, as JSON has them; also after the stop."""
    limits = {"db": 5, "api": RateLimit(100)}
    with OperationsCoordinator(max_workers=2, lanes=2, limits=limits) as coordinator:
        task_token_guard(tags={"limits": ("db", "api"), "weight": "light"})(int)().get(timeout=30)
        coordinator.pause_operation("parse")
        stats = coordinator.get_stats()
    told = json.loads(json.dumps(stats, allow_nan=False))
    assert told == stats
    now = coordinator.statistics()
    assert list(stats) == list(type(now).__dataclass_fields__)
    assert (stats["completed"], stats["paused_operations"]) == (1, ["parse"])
    assert stats["limits"]["db"] == {"spec": 5, "used": 0, "free": 5, "waiting": 0}
    assert stats["limits"]["api"]["spec"] == {"rate": 100, "per": 1.0, "burst": None}
    assert [lane["number"] for lane in stats["lanes"]] == [1, 2]
    assert stats["lanes"][1]["started_by_weight"]["light"] == 1
    assert coordinator.get_stats()["is_shutdown"]


def test_dump_execution_history(one: OperationsCoordinator, tmp_path: Path) -> None:
    """The seed's fields are there for each call."""
    parse("5").get(timeout=30)
    assert one.dump_execution_history(tmp_path / "history.json") == 1
    (row,) = json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))
    assert (row["operation_type"], row["success"], row["core_id"]) == ("parse", True, 1)
    assert {"token_id", "execution_time", "worker_id", "complexity_score"} <= set(row)


# -- the admin verbs ------------------------------------------------------------------------------


def test_pause_and_resume_admission(one: OperationsCoordinator) -> None:
    """Calls are taken, and wait."""
    one.pause_admission()
    token = parse("5")
    assert one.statistics().is_paused
    assert one.statistics().waiting == 1
    one.resume_admission()
    assert token.get(timeout=30) == 5


def test_pause_and_resume_an_operation(one: OperationsCoordinator) -> None:
    """The others go on."""
    one.pause_operation("parse")
    token = parse("5")
    assert task_token_guard("other")(int)().get(timeout=30) == 0
    assert not token.done()
    one.resume_operation("parse")
    assert token.get(timeout=30) == 5


def test_drain_pool(one: OperationsCoordinator) -> None:
    """What is there is finished, with what it calls; new calls are refused until admission resumes."""
    held = Held()
    outer = task_token_guard()(lambda: parse("5").get(timeout=30))()
    report = one.drain_pool(timeout=0.01)
    assert report.left[0].operation == "hold"
    with pytest.raises(RuntimeError, match="drained"):
        parse("6")
    held.release.set()
    assert one.drain_pool().is_complete
    assert outer.get(0) == 5
    one.resume_admission()
    assert parse("6").get(timeout=30) == 6


def test_purge(one: OperationsCoordinator) -> None:
    """What waits is cancelled, of one operation or all."""
    one.pause_admission()
    tokens = [parse("5"), parse("6"), task_token_guard("other")(int)()]
    assert one.purge_operation("parse") == 2
    assert [token.cancelled() for token in tokens] == [True, True, False]
    assert one.purge_pool() == 1
    assert tokens[2].cancelled()


def test_kill(one: OperationsCoordinator) -> None:
    """One token, or all of an operation: what waits at once, what runs when it looks."""
    started = threading.Event()

    @task_token_guard("spin")
    def spin() -> None:
        token = current_token()
        assert token is not None
        started.set()
        while True:
            token.checkpoint()

    running = spin()
    assert started.wait(30)
    waiting = [parse("5"), parse("6"), parse("7")]
    assert one.kill_token(waiting[0].id)
    assert not one.kill_token(waiting[0].id)
    assert one.kill_operation("parse") == 2
    assert one.kill_token(running.id)
    for token in (running, *waiting):
        with pytest.raises(TokenKilledError):
            token.get(timeout=30)


@pytest.mark.parametrize("name", [None, "", 5])
@pytest.mark.parametrize(
    "verb",
    ["pause_operation", "resume_operation", "purge_operation", "kill_operation", "kill_token"],
)
def test_a_name_that_is_none(one: OperationsCoordinator, verb: str, name: Any) -> None:
    """It is an error, and never means all."""
    one.pause_admission()
    token = parse("5")
    argument = "token_id" if verb == "kill_token" else "name"
    with pytest.raises(InvalidOptionError, match=f"{argument} must be a non-empty string"):
        getattr(one, verb)(name)
    assert not token.done()
    assert one.statistics().is_paused
    assert one.statistics().paused_operations == ()


def test_quarantine_and_guard_house_over_restarts(tmp_path: Path) -> None:
    """A file keeps what was given up; the house of each run begins anew."""
    coordinator = OperationsCoordinator(
        max_workers=1,
        quarantine=tmp_path / "calls.db",
        retry=RetryPolicy(attempts=1, on=ValueError),
    )
    with coordinator:
        assert isinstance(parse("five").exception(timeout=30), ValueError)
        assert "parse" in str(coordinator.guard_house)
    with coordinator:
        (call,) = coordinator.quarantine.pending()
        assert (call.operation, call.error_type) == ("parse", "builtins.ValueError")
        assert "parse" not in str(coordinator.guard_house)
