"""``exporters.points``: what metrics take from a reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import pytest

from tokengate_executor import CircuitState, RateLimit, TokenGateExecutor
from tokengate_executor.exporters import points
from tokengate_executor.exporters.points import Reading


@pytest.fixture
def executor() -> Iterator[TokenGateExecutor]:
    """Yield one with limits of both kinds."""
    limits: dict[str, int | RateLimit] = {"db": 3, "api": RateLimit(0.001, burst=5)}
    with TokenGateExecutor(2, lanes=2, limits=limits) as made:
        yield made


def reading_of(executor: TokenGateExecutor) -> Reading:
    """Return what it says, with nothing in the guard house and the quarantine."""
    return Reading(executor.statistics(), {}, None)


def test_permits_of_both_kinds(executor: TokenGateExecutor) -> None:
    """Held ones are used until the call ends, those of a rate limit until time brings them back."""
    release, started = Event(), Event()

    def stay() -> None:
        started.set()
        release.wait(30)

    token = executor.options(limits=("db", "api")).submit(stay)
    assert started.wait(30)
    assert dict(points.permits(reading_of(executor))) == {
        ("db", "used"): 1,
        ("db", "free"): 2,
        ("db", "max"): 3,
        ("api", "used"): 1,
        ("api", "free"): 4,
        ("api", "max"): 5,
    }
    release.set()
    token.result(30)
    after = dict(points.permits(reading_of(executor)))
    assert (after["db", "used"], after["api", "used"]) == (0, 1)


def test_the_depth_is_all_that_waits(executor: TokenGateExecutor) -> None:
    """What is in no mailbox is at the gate; mailboxes that have more than waits leave it nothing."""
    executor.pause()
    tokens = [executor.submit(int) for _ in range(4)]
    now = executor.statistics()
    assert points.depths(now) == {"gate": 4, "1": 0, "2": 0}
    full = replace(now, lanes=tuple(replace(lane, depth=3) for lane in now.lanes))
    assert points.depths(full) == {"gate": 0, "1": 3, "2": 3}
    assert points.depths(replace(full, waiting=10)) == {"gate": 4, "1": 3, "2": 3}
    executor.resume()
    assert [token.result(30) for token in tokens] == [0] * 4


def test_each_circuit_has_all_states(executor: TokenGateExecutor) -> None:
    """1 for the one that it is in, 0 for the others; several are counted."""
    states = {
        "mail": {CircuitState.HALF_OPEN: 1},
        "other": Counter({CircuitState.OPEN: 2, CircuitState.CLOSED: 7}),
    }
    found = points.circuits(replace(reading_of(executor), circuits=states))
    assert dict(found) == {
        ("mail", "closed"): 0,
        ("mail", "open"): 0,
        ("mail", "half_open"): 1,
        ("other", "closed"): 7,
        ("other", "open"): 2,
        ("other", "half_open"): 0,
    }


def test_what_is_not_known_has_no_points(executor: TokenGateExecutor) -> None:
    """No capacity without a bound, no quarantined calls while the file cannot be read."""
    now = reading_of(executor)
    capacity = points.one(lambda said: said.capacity)
    assert list(capacity(now)) == []
    assert list(points.quarantined(now)) == []
    assert list(points.quarantined(replace(now, quarantined={"pending": 2}))) == [(("pending",), 2)]
    bounded = replace(now, statistics=replace(now.statistics, capacity=9))
    assert list(capacity(bounded)) == [((), 9)]


def test_reasons_are_there_from_the_first(executor: TokenGateExecutor) -> None:
    """As 0; one that is new here is told of all the same."""
    now = executor.statistics()
    assert points.rejected(replace(now, rejected_by_reason={"full": 2, "tired": 1})) == {
        "full": 2,
        "blocked": 0,
        "spike": 0,
        "tired": 1,
    }
