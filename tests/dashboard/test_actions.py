"""Actions: each with right, wrong and missing arguments, and what it does to the executor."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tokengate_executor import (
    CircuitState,
    RateLimit,
    RetryPolicy,
    TokenGateExecutor,
    TokenState,
    current_token,
)
from tokengate_executor.dashboard import launcher as launchers
from tokengate_executor.dashboard.actions import ACTIONS, Desk
from tokengate_executor.dashboard.launcher import Launcher
from tokengate_executor.dashboard.refusals import Refusal

launched: list[int] = []


@pytest.fixture
def executor() -> Iterator[TokenGateExecutor]:
    """An executor that is open again in the end."""
    with TokenGateExecutor(
        2,
        lanes=1,
        limits={"db": 2, "api": RateLimit(5)},
        max_pending=50,
        quarantine=True,
        log_unread_exceptions=False,
    ) as made:
        yield made
        if not made.statistics().is_shutdown:
            made.resume()


@pytest.fixture
def desk(executor: TokenGateExecutor) -> Desk:
    """Takes orders for it."""
    launched.clear()
    launcher = Launcher({"note": lambda: launched.append(1)})
    return Desk(weakref.ref(executor), launcher, show_texts=False)


def refused(desk: Desk, action: str, /, **given: Any) -> tuple[int, str]:
    """Status and message of a refusal."""
    with pytest.raises(Refusal) as caught:
        desk.perform(action, given)
    return caught.value.status, caught.value.message


def fail() -> None:
    """As it says."""
    raise ValueError("a text")


# right


def test_pause_and_resume(desk: Desk, executor: TokenGateExecutor) -> None:
    """Of everything, and of one operation."""
    assert desk.perform("pause", {}) == "everything is paused"
    assert executor.statistics().is_paused
    assert desk.perform("resume", {}) == "everything goes on"
    assert not executor.statistics().is_paused
    assert desk.perform("pause", {"operation": "shop.pay"}) == "shop.pay is paused"
    assert executor.statistics().paused_operations == ("shop.pay",)
    assert desk.perform("resume", {"operation": "shop.pay"}) == "shop.pay goes on"
    assert executor.statistics().paused_operations == ()


def test_drain_returns_at_once(desk: Desk, executor: TokenGateExecutor) -> None:
    """The gate is closed, what is there goes on."""
    go_on = threading.Event()
    token = executor.submit(go_on.wait)
    try:
        assert desk.perform("drain", {}) == "no more calls are accepted; 1 call left to finish"
        assert executor.statistics().is_draining
        assert not token.done()
    finally:
        go_on.set()
    assert token.result(10) is True


def test_purge(desk: Desk, executor: TokenGateExecutor) -> None:
    """What waits is cancelled, and counted."""
    executor.pause()
    view = executor.options(operation="shop.pay")
    mine, others = [view.submit(int) for _ in range(3)], [executor.submit(int)]
    assert desk.perform("purge", {"operation": "shop.pay"}) == "3 waiting calls cancelled"
    assert all(token.cancelled() for token in mine)
    assert desk.perform("purge", {}) == "1 waiting call cancelled"
    assert others[0].cancelled()
    assert desk.perform("purge", {}) == "0 waiting calls cancelled"


def test_kill(desk: Desk, executor: TokenGateExecutor) -> None:
    """One token, or all of an operation, that wait or run."""
    entered, go_on = threading.Event(), threading.Event()

    def obey() -> None:
        entered.set()
        assert go_on.wait(10)
        token = current_token()
        assert token is not None
        token.checkpoint()

    running = executor.submit(obey)
    assert entered.wait(10)
    executor.pause()
    waiting = [executor.options(operation="shop.pay").submit(int) for _ in range(2)]
    assert desk.perform("kill", {"token_id": running.id}).startswith("1 token killed")
    assert refused(desk, "kill", token_id=running.id)[0] == 404, "it was killed already"
    assert desk.perform("kill", {"operation": "shop.pay"}).startswith("2 tokens killed")
    assert [token.state for token in waiting] == [TokenState.KILLED] * 2
    assert desk.perform("kill", {"operation": "shop.pay"}).startswith("0 tokens killed")
    go_on.set()
    executor.resume()
    executor.drain(10)
    assert running.state is TokenState.KILLED


def test_circuits(desk: Desk, executor: TokenGateExecutor) -> None:
    """Opened for good or for a time, closed, reset."""
    assert (
        desk.perform("open_circuit", {"operation": "a"})
        == "a is blocked until it is closed by hand"
    )
    assert (
        desk.perform("open_circuit", {"operation": "b", "seconds": 2.5}) == "b is blocked for 2.5 s"
    )
    circuits = executor.guard_house.circuits()
    assert (circuits["a"].state, circuits["a"].retry_after) == (CircuitState.OPEN, None)
    assert circuits["b"].retry_after == pytest.approx(2.5, abs=1)
    assert desk.perform("close_circuit", {"operation": "a"}) == "a is let in again"
    desk.perform("reset_circuit", {"operation": "b"})
    circuits = executor.guard_house.circuits()
    assert [circuits[name].state for name in "ab"] == [CircuitState.CLOSED] * 2
    assert [circuits[name].openings for name in "ab"] == [1, 0]


def test_set_limit(desk: Desk, executor: TokenGateExecutor) -> None:
    """Of both kinds, each with its own arguments."""
    assert desk.perform("set_limit", {"name": "db", "limit": 7}) == "db: 7 at once"
    given = {"name": "api", "limit": 3, "per": 0.5, "burst": 9}
    assert desk.perform("set_limit", given) == "api: 3 in 0.5 s"
    limits = executor.statistics().limits
    assert (limits["db"].spec, limits["api"].spec) == (7, RateLimit(3, 0.5, 9))
    desk.perform("set_limit", {"name": "api", "limit": 4, "per": 1})
    assert executor.statistics().limits["api"].spec == RateLimit(4, 1)
    desk.perform("set_limit", {"name": "storage:slow", "limit": 4})


def test_resize(desk: Desk, executor: TokenGateExecutor) -> None:
    """From now on."""
    assert desk.perform("resize", {"max_workers": 5}) == "at most 5 calls at a time from now on"
    assert executor.statistics().max_workers == 5


def test_the_quarantine(desk: Desk, executor: TokenGateExecutor) -> None:
    """Approved, rejected, replayed; and what cannot be is refused."""
    view = executor.options(retry=RetryPolicy(attempts=1, on=ValueError))
    for _ in range(3):
        view.submit(fail).exception()
    one, two, three = (call.id for call in executor.quarantine.pending())
    assert desk.perform("quarantine_approve", {"id": one}) == f"{one} is approved"
    assert desk.perform("quarantine_reject", {"id": two}) == f"{two} is rejected"
    assert desk.perform("quarantine_replay", {"id": three}) == f"{three} runs again"
    executor.drain(10)
    get = executor.quarantine.get
    assert [get(each).status for each in (one, two, three)] == ["approved", "rejected", "pending"]
    assert refused(desk, "quarantine_replay", id=two) == (
        409,
        f"quarantined call {two} is rejected and cannot become replayed",
    )
    assert refused(desk, "quarantine_approve", id=one)[0] == 409
    for name in ("approve", "reject", "replay"):
        assert refused(desk, f"quarantine_{name}", id="feedface")[0] == 404


def test_launch(desk: Desk, executor: TokenGateExecutor) -> None:
    """Once, or so many times."""
    assert desk.perform("launch", {"name": "note"}) == "1 call of note launched"
    assert desk.perform("launch", {"name": "note", "times": 4}) == "4 calls of note launched"
    executor.drain(10)
    assert len(launched) == 5


def test_launch_at_a_full_gate(
    desk: Desk, executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is refused after a while, with what came of it."""
    monkeypatch.setattr(launchers, "WAIT_SECONDS", 0.05)
    executor.pause()
    assert refused(desk, "launch", name="note", times=60) == (
        409,
        "50 of 60 calls of note launched: too many calls wait already (max_pending)",
    )


# wrong


@pytest.mark.parametrize(
    ("name", "given", "status", "says"),
    [
        ("fly", {}, 404, "no action 'fly'"),
        ("__init__", {}, 404, "no action"),
        ("x" * 10_000, {}, 404, "..."),
        ("pause", {"operation": 7}, 400, "operation must be a text"),
        ("pause", {"operation": ""}, 400, "operation must be a text"),
        ("pause", {"operation": None}, 400, "operation must be a text"),
        ("pause", {"operation": "\ud800"}, 400, "operation must be a text"),
        ("pause", {"operation": "x" * 1001}, 400, "operation must be a text"),
        ("pause", {"operations": "a"}, 400, "unknown argument 'operations': pause takes operation"),
        ("drain", {"timeout": 60}, 400, "unknown argument 'timeout': drain takes no arguments"),
        ("kill", {}, 400, "kill takes token_id or operation"),
        ("kill", {"token_id": "1-1", "operation": "a"}, 400, "one of them"),
        ("kill", {"token_id": "9-99"}, 404, "no token '9-99' waits"),
        ("open_circuit", {}, 400, "operation is missing: open_circuit takes operation, seconds"),
        ("open_circuit", {"operation": "a", "seconds": 0}, 400, "seconds must be a number"),
        ("open_circuit", {"operation": "a", "seconds": True}, 400, "seconds must be a number"),
        ("open_circuit", {"operation": "a", "seconds": 1e300}, 400, "seconds must be a number"),
        ("close_circuit", {}, 400, "operation is missing"),
        ("reset_circuit", {"operation": ["a"]}, 400, "operation must be a text"),
        ("set_limit", {"name": "db"}, 400, "limit is missing"),
        ("set_limit", {"limit": 1}, 400, "name is missing"),
        ("set_limit", {"name": "db", "limit": 0}, 400, "limit must be a whole number from 1"),
        ("set_limit", {"name": "db", "limit": 1.5}, 400, "limit must be a whole number from 1"),
        ("set_limit", {"name": "db", "limit": True}, 400, "limit must be a whole number from 1"),
        ("set_limit", {"name": "db", "limit": 10**30}, 400, "limit must be a whole number from 1"),
        ("set_limit", {"name": "db", "limit": 1, "per": 1.0}, 400, "'db' must be an int"),
        ("set_limit", {"name": "api", "limit": 1}, 400, "'api' must be a RateLimit"),
        ("set_limit", {"name": "api", "limit": 1, "burst": 1}, 400, "burst needs per"),
        ("set_limit", {"name": "nothing", "limit": 1}, 404, "limit must be one of"),
        ("resize", {}, 400, "max_workers is missing"),
        ("resize", {"max_workers": 0}, 400, "max_workers must be a whole number from 1 to 10000"),
        ("resize", {"max_workers": 10_001}, 400, "max_workers must be a whole number"),
        ("resize", {"max_workers": "4"}, 400, "max_workers must be a whole number"),
        ("quarantine_approve", {}, 400, "id is missing"),
        ("quarantine_reject", {"id": 7}, 400, "id must be a text"),
        ("quarantine_replay", {"id": "\udfff"}, 400, "id must be a text"),
        ("launch", {}, 400, "name is missing"),
        ("launch", {"name": "other"}, 404, "nothing named 'other' to launch"),
        (
            "launch",
            {"name": "note", "times": 0},
            400,
            "times must be a whole number from 1 to 1000",
        ),
        ("launch", {"name": "note", "times": 1001}, 400, "times must be a whole number"),
    ],
)
def test_wrong_orders(  # noqa: PLR0917  pytest passes them by name
    desk: Desk,
    executor: TokenGateExecutor,
    name: str,
    given: dict[str, Any],
    status: int,
    says: str,
) -> None:
    """Are refused, in words, and change nothing."""
    before = executor.statistics()
    found, message = refused(desk, name, **given)
    assert (found, says in message) == (status, True), message
    assert len(message) < 400
    after = executor.statistics()
    assert (after.limits, after.max_workers, after.is_paused, after.submitted) == (
        before.limits,
        before.max_workers,
        before.is_paused,
        before.submitted,
    )
    assert executor.guard_house.circuits() == {}


def test_every_action_is_tried_here() -> None:
    """Of all that there are."""
    assert ACTIONS.keys() == {
        *("pause", "resume", "drain", "purge", "kill", "open_circuit", "close_circuit"),
        *("reset_circuit", "set_limit", "resize", "quarantine_approve", "quarantine_reject"),
        *("quarantine_replay", "launch"),
    }


# states that forbid it


def test_after_shutdown(desk: Desk, executor: TokenGateExecutor) -> None:
    """What then means nothing is refused, with the executor's own words."""
    executor.shutdown()
    for name, given in (("pause", {}), ("drain", {}), ("launch", {"name": "note"})):
        assert refused(desk, name, **given) == (409, "cannot schedule new futures after shutdown")


def test_an_executor_that_is_gone() -> None:
    """There is nothing left to steer."""
    executor = TokenGateExecutor(1)
    desk = Desk(weakref.ref(executor), Launcher(None), show_texts=False)
    del executor
    assert refused(desk, "pause") == (410, "the executor is gone")


def test_what_nobody_expects_is_raised(
    desk: Desk, executor: TokenGateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not for the client."""

    def explode(_operation: str | None) -> None:
        raise LookupError("inside")

    monkeypatch.setattr(executor, "pause", explode)
    with pytest.raises(LookupError):
        desk.perform("pause", {})
