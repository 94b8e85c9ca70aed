"""The snapshot: what it says of executors in many states, and that it says nothing else."""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tokengate_executor import (
    BreakerPolicy,
    ConvergencePolicy,
    RateLimit,
    RetryPolicy,
    SpikePolicy,
    TokenGateExecutor,
    __version__,
    current_token,
)
from tokengate_executor.dashboard.launcher import Launcher
from tokengate_executor.dashboard.patches import apply, diff
from tokengate_executor.dashboard.snapshot import Gatherer, is_last
from tokengate_executor.errors import QuarantineFileError


def gatherer(executor: TokenGateExecutor, *, show_arguments: bool = False) -> Gatherer:
    """What gathers of it."""
    launcher = Launcher({"tidy": tidy})
    return Gatherer(weakref.ref(executor), launcher, show_arguments=show_arguments)


def snapshot_of(executor: TokenGateExecutor, *, show_arguments: bool = False) -> dict[str, Any]:
    """One snapshot."""
    found = gatherer(executor, show_arguments=show_arguments).gather()
    assert found is not None
    return found


def tidy() -> None:
    """Tidy up.

    What follows is not shown.
    """


def fail(_secret: str = "") -> None:
    """Raise something that nobody should see."""
    raise ValueError("a text that tells much")


class Gate:
    """Calls wait in it until it is opened."""

    def __init__(self) -> None:
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, *_: object) -> None:
        """Wait."""
        self._entered.release()
        assert self._open.wait(30)

    def await_calls(self, count: int) -> None:
        """Wait until so many are inside."""
        for _ in range(count):
            assert self._entered.acquire(timeout=30)

    def open(self) -> None:
        """Let them go."""
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Opened at the end, so that no executor waits for ever."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def busy(gate: Gate) -> Iterator[TokenGateExecutor]:
    """An executor with something of everything."""
    with TokenGateExecutor(
        4,
        "shop",
        lanes=2,
        limits={"db": 1, "api": RateLimit(10, per=1.0, burst=3)},
        max_pending=100,
        breaker=BreakerPolicy(min_calls=3),
        quarantine=True,
        log_unread_exceptions=False,
    ) as executor:
        assert executor.name == "shop"
        executor.submit(len, "abc").result()
        for _ in range(3):
            executor.options(operation="shop.fail").submit(fail).exception()
        executor.options(retry=RetryPolicy(attempts=1, on=ValueError)).submit(
            fail, "p4ssw0rd"
        ).exception()
        for _ in range(2):
            executor.options(operation="shop.db", limits=("db",), weight="heavy").submit(gate)
        executor.options(operation="shop.run").submit(gate)
        gate.await_calls(2)
        executor.pause("shop.late")
        executor.options(operation="shop.late", priority=1).submit(len, "p4ssw0rd")
        # A worker that has just been roused by it finds only then that there is nothing for it.
        while (known := executor.statistics()).parked < 2 or known.busy_workers > 2:
            time.sleep(0.001)
        try:
            yield executor
        finally:
            executor.resume("shop.late")
            gate.open()


def test_it_agrees_with_the_statistics(busy: TokenGateExecutor) -> None:
    """Each number that both have is the same, and the tokens add up."""
    shown, known = snapshot_of(busy), busy.statistics()
    for part, names in (
        ("tokens", list(shown["tokens"])),
        (
            "system",
            ["max_workers", "workers", "idle_workers", "busy_workers", "blocked_workers"],
        ),
        ("system", ["spare_workers", "abandoned"]),
        ("queue", ["pending", "capacity", "blocked_producers"]),
        ("steering", ["is_paused", "is_draining", "is_shutdown"]),
    ):
        assert {name: shown[part][name] for name in names} == {
            name: getattr(known, name) for name in names
        }
    tokens = shown["tokens"]
    assert tokens["submitted"] == sum(
        tokens[name]
        for name in (
            *("rejected", "waiting", "executing", "retrying", "quarantined"),
            *("completed", "failed", "timed_out", "cancelled"),
        )
    )
    assert (tokens["executing"], tokens["waiting"], tokens["failed"]) == (2, 2, 4)
    assert len(shown["running"]) == tokens["executing"]
    assert len(shown["waiting"]) == tokens["waiting"]
    for lane in known.lanes:
        told = shown["lanes"][str(lane.number)]
        for name in ("workers", "depth", "executing", "completed", "failed", "killed", "stolen"):
            assert told[name] == getattr(lane, name)
        assert told["started_by_weight"] == dict(lane.started_by_weight)
        assert told["cpus"] == list(lane.cpus)
    assert shown["quarantine"]["counts"] == busy.quarantine.counts()


def test_who_it_is_of(busy: TokenGateExecutor) -> None:
    """Name, state, versions, machine; what does not change does not."""
    made = gatherer(busy)
    first, second = made.gather(), made.gather()
    assert first is not None
    assert second is not None
    assert first["executor"] == second["executor"]
    of = first["executor"]
    assert (of["name"], of["state"], of["version"], of["pid"]) == (
        "shop",
        "running",
        __version__,
        os.getpid(),
    )
    assert abs(time.time() - busy.statistics().uptime_seconds - of["started_at"]) < 1
    assert first["system"]["lanes"] == 2
    assert first["system"]["policy"] == str(busy.policy)
    assert first["protocol"] == 1


def test_what_runs_and_what_waits(busy: TokenGateExecutor) -> None:
    """By token, with the times that people know."""
    shown = snapshot_of(busy)
    running = sorted(one["operation"] for one in shown["running"].values())
    assert running == ["shop.db", "shop.run"]
    for token_id, one in shown["running"].items():
        assert abs(time.time() - one["started_at"]) < 30
        assert (one["attempt"], one["kill_requested"]) == (1, False)
        assert token_id == f"{one['worker']}-{token_id.partition('-')[2]}"
    waiting = {one["operation"]: one for one in shown["waiting"].values()}
    assert waiting.keys() == {"shop.db", "shop.late"}
    assert (waiting["shop.db"]["weight"], waiting["shop.db"]["state"]) == ("heavy", "waiting")
    assert "weight" not in waiting["shop.late"]
    assert waiting["shop.late"]["attempts"] == 0
    assert abs(time.time() - waiting["shop.late"]["submitted_at"]) < 30


def test_what_was_killed_while_it_runs(busy: TokenGateExecutor) -> None:
    """Is told of as long as it runs."""
    assert busy.kill(operation="shop.run") == 1
    killed = [one["kill_requested"] for one in snapshot_of(busy)["running"].values()]
    assert sorted(killed) == [False, True]


def test_what_has_finished(busy: TokenGateExecutor) -> None:
    """With state and type of the error, not with its text."""
    recent = {one["operation"]: one for one in snapshot_of(busy)["recent"].values()}
    done, failed = recent["builtins.len"], recent["shop.fail"]
    assert (done["state"], done["attempts"], done["complexity"]) == ("COMPLETED", 1, "UNKNOWN")
    assert "error" not in done
    assert "score" not in done
    assert (failed["state"], failed["error"]) == ("FAILED", "ValueError")
    assert failed["score"] > 0
    assert abs(time.time() - failed["settled_at"]) < 30


def test_limits(busy: TokenGateExecutor) -> None:
    """Of both kinds."""
    assert snapshot_of(busy)["limits"] == {
        "db": {"kind": "permits", "limit": 1, "used": 1, "free": 0, "waiting": 1},
        "api": {"kind": "rate", "limit": 10, "per": 1.0, "burst": 3, "free": 3, "waiting": 0},
    }


def test_operations(busy: TokenGateExecutor) -> None:
    """How they are doing, whether they are blocked or paused, also those without any call."""
    busy.guard_house.open("shop.never")
    busy.guard_house.open("shop.later", 60)
    shown = snapshot_of(busy)["operations"]
    assert shown["builtins.len"] | {"mean_seconds": 0} == {
        "health": "UNKNOWN",
        "calls": 1,
        "success_rate": 1.0,
        "mean_seconds": 0,
        "failures": 0,
        "timeouts": 0,
        "circuit": "closed",
        "paused": False,
    }
    assert shown["shop.fail"]["circuit"] == "open"
    assert 0 < shown["shop.fail"]["retry_after_seconds"] <= 30
    assert shown["shop.never"] == {
        "health": "UNKNOWN",
        "calls": 0,
        "failures": 0,
        "timeouts": 0,
        "circuit": "open",
        "paused": False,
    }
    assert shown["shop.later"]["retry_after_seconds"] == pytest.approx(60, abs=1)
    assert shown["shop.late"]["paused"] is True
    steering = snapshot_of(busy)["steering"]
    assert steering["paused_operations"] == {"shop.late": True}


def test_very_many_operations(executor: TokenGateExecutor) -> None:
    """The busiest are shown, and what is blocked; how many others there are is told."""
    for n in range(150):
        for _ in range(1 + (n == 77)):
            executor.options(operation=f"op {n:03}").submit(int).result()
    executor.guard_house.open("op 149")
    shown = snapshot_of(executor)
    assert len(shown["operations"]) == 101
    assert shown["operations_left_out"] == 49
    assert list(shown["operations"])[:2] == ["op 149", "op 077"]


def test_a_half_open_circuit(executor: TokenGateExecutor, gate: Gate) -> None:
    """Is told as the protocol spells it."""
    executor.guard_house.open("trial", 0.001)
    for _ in iter(lambda: executor.guard_house.circuits()["trial"].retry_after, 0.0):
        time.sleep(0)
    executor.options(operation="trial").submit(gate)
    gate.await_calls(1)
    assert snapshot_of(executor)["operations"]["trial"]["circuit"] == "half_open"


def test_the_quarantine_keeps_its_secrets(busy: TokenGateExecutor) -> None:
    """Arguments and what errors say are shown only if that was allowed."""
    shown = snapshot_of(busy)
    (call,) = shown["quarantine"]["calls"].values()
    assert (call["operation"], call["reason"], call["status"], call["attempts"]) == (
        f"{__name__}.fail",
        "given up",
        "pending",
        1,
    )
    assert call["error_type"].endswith("ValueError")
    assert call["replayable"] is False or call["replayable"] is True
    assert "p4ssw0rd" not in json.dumps(shown)
    assert "tells much" not in json.dumps(shown)
    (call,) = snapshot_of(busy, show_arguments=True)["quarantine"]["calls"].values()
    assert "p4ssw0rd" in call["call"]
    assert call["error"] == "a text that tells much"


def test_the_quarantine_is_read_when_it_changed(executor: TokenGateExecutor) -> None:
    """What was decided is shown the next time, and what was decided no more."""
    made = gatherer(executor)
    view = executor.options(retry=RetryPolicy(attempts=1, on=ValueError), operation="q")
    for _ in range(3):
        view.submit(fail).exception()
    calls: dict[str, Any] = (made.gather() or {})["quarantine"]["calls"]
    one, two, three = calls
    executor.quarantine.approve(one)
    executor.quarantine.reject(two)
    shown = (made.gather() or {})["quarantine"]
    assert {name: call["status"] for name, call in shown["calls"].items()} == {
        three: "pending",
        one: "approved",
    }
    assert shown["counts"] == {"pending": 1, "approved": 1, "rejected": 1, "replayed": 0}
    # Numbers that stay the same are no sign; whoever decides says so.
    executor.quarantine.reject(one)
    executor.quarantine.approve(two)
    made.look_again()
    assert two in (made.gather() or {})["quarantine"]["calls"]


def test_at_most_so_many_of_everything(gate: Gate) -> None:
    """Fifty of what runs, waits, has finished, is quarantined."""
    with TokenGateExecutor(60, quarantine=True, log_unread_exceptions=False) as executor:
        view = executor.options(retry=RetryPolicy(attempts=1, on=ValueError))
        for token in [view.submit(fail) for _ in range(60)]:
            token.exception()
        for _ in range(120):
            executor.submit(gate)
        gate.await_calls(60)
        shown = snapshot_of(executor)
        parts = ("running", "waiting", "recent")
        assert [len(shown[part]) for part in parts] == [50, 50, 50]
        assert len(shown["quarantine"]["calls"]) == 50
        assert shown["quarantine"]["counts"]["pending"] == 60
        gate.open()


def test_a_quarantine_out_of_reach(
    executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything else is shown; where the file is stands in the log only."""

    def counts() -> None:
        raise QuarantineFileError("/srv/secret.db", "it cannot be used")

    monkeypatch.setattr(executor.quarantine, "counts", counts)
    shown = snapshot_of(executor)
    assert shown["quarantine"] == {
        "counts": {},
        "held": 0,
        "calls": {},
        "problem": "the quarantine cannot be read; the log says why",
    }
    assert "/srv/secret.db" in caplog.text


def test_calls_that_are_held(executor: TokenGateExecutor) -> None:
    """Wait in the quarantine, and are told of as waiting."""
    view = executor.options(
        operation="big", spikes=SpikePolicy(min_samples=5, quarantine_at=1.0, review_at=0.5)
    )
    for _ in range(20):
        view.submit(len, "x").result()
    token = view.submit(len, "x" * 10_000_000)
    shown = snapshot_of(executor)
    assert shown["quarantine"]["held"] == 1
    assert [one["state"] for one in shown["waiting"].values()] == ["quarantined"]
    token.cancel()


def test_what_can_be_launched(executor: TokenGateExecutor) -> None:
    """By name, with the first line of its description."""
    assert snapshot_of(executor)["launcher"] == {"tidy": {"description": "Tidy up.", "launched": 0}}


def test_an_executor_that_adapts(executor: TokenGateExecutor) -> None:
    """Says how many workers it has and wants, and why; others say nothing of it."""
    assert "adaptive" not in snapshot_of(executor)
    policy = ConvergencePolicy(min_workers=2, max_workers=6)
    with TokenGateExecutor(convergence=policy, lanes=2) as adapting:
        adapting.submit(int).result()
        shown, report = snapshot_of(adapting)["adaptive"], adapting.convergence
    assert report is not None
    assert (shown["min_workers"], shown["max_workers"]) == (2, 6)
    assert shown.keys() == {"current", "wanted", "reason", "min_workers", "max_workers", "by_lane"}
    assert sum(shown["by_lane"].values()) == shown["current"]
    assert list(shown["by_lane"]) == ["1", "2"]
    assert isinstance(shown["reason"], str)


def test_states(gate: Gate) -> None:
    """Running, paused, draining, shut down; only when all calls have ended is it over."""
    executor = TokenGateExecutor(1)
    states: list[tuple[str, bool]] = []

    def note() -> None:
        shown = snapshot_of(executor)
        states.append((shown["executor"]["state"], is_last(shown)))

    note()
    executor.submit(gate)
    gate.await_calls(1)
    executor.submit(int)
    executor.pause()
    note()
    executor.drain(timeout=0)
    note()
    executor.shutdown(wait=False)
    note()
    gate.open()
    executor.shutdown()
    note()
    assert states == [
        ("running", False),
        ("paused", False),
        ("draining", False),
        ("shutdown", False),
        ("shutdown", True),
    ]


def test_an_executor_that_is_gone() -> None:
    """There is nothing to show; and gathering does not keep it."""
    executor = TokenGateExecutor(1)
    made = gatherer(executor)
    assert made.gather() is not None
    reference = weakref.ref(executor)
    del executor
    assert reference() is None
    assert made.gather() is None


def nulls(value: Any) -> int:
    """Count them, at any depth."""
    if isinstance(value, dict):
        return sum(map(nulls, value.values()))
    return sum(map(nulls, value)) if isinstance(value, list) else value is None


def test_it_is_json_without_null_and_differs_by_patches(
    busy: TokenGateExecutor, gate: Gate
) -> None:
    """From any moment to any other."""
    made = gatherer(busy, show_arguments=True)
    shown: list[Any] = [made.gather()]
    steps: list[Callable[[], object]] = [
        busy.pause,
        lambda: busy.submit(len, "x"),
        lambda: busy.guard_house.open("other"),
        lambda: busy.set_limit("db", 2),
        busy.resume,
        lambda: busy.resume("shop.late"),
        gate.open,
        lambda: busy.drain(timeout=30),
        lambda: busy.resize(3),
    ]
    for step in steps:
        step()
        shown.append(made.gather())
    for one in shown:
        assert nulls(one) == 0
        assert json.loads(json.dumps(one, allow_nan=False)) == one
    for before in shown:
        for after in shown:
            assert apply(before, diff(before, after)) == after


def test_names_are_only_names(executor: TokenGateExecutor) -> None:
    """Whatever an operation is called, it is a key of an object, and arrives as it is."""
    name = "</script><script>alert(1)</script>\u2028\"'&\0"
    executor.options(operation=name).submit(int).result()
    shown = json.loads(json.dumps(snapshot_of(executor)))
    assert name in shown["operations"]
    assert [one["operation"] for one in shown["recent"].values()] == [name]


def test_it_can_be_gathered_inside_a_call(executor: TokenGateExecutor) -> None:
    """A call that looks at its own executor sees itself."""

    def look() -> tuple[str, dict[str, Any]]:
        token = current_token()
        assert token is not None
        return token.id, snapshot_of(executor)

    token_id, shown = executor.submit(look).result()
    assert list(shown["running"]) == [token_id]
