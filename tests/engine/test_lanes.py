"""Lanes: what each may run, and its threads on the CPUs of its core."""

from __future__ import annotations

import os
import threading

import pytest

from tokengate_executor import InvalidOptionError, TokenGateExecutor
from tokengate_executor.engine.lanes import Lane, check_pinning, pin_this_thread
from tokengate_executor.engine.routes import Route

PLAIN = Route(0, None, None)

needs_pinning = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot pin threads to CPUs"
)


def affinities(executor: TokenGateExecutor, calls: int) -> dict[int, set[int]]:
    """Run so many calls at a time; return lane → the CPUs that its threads may use."""
    barrier = threading.Barrier(calls)

    def look() -> set[int]:
        barrier.wait(30)
        return set(os.sched_getaffinity(0))

    tokens = [executor.submit(look) for _ in range(calls)]
    found: dict[int, set[int]] = {}
    for token in tokens:
        cpus = token.result(30)
        assert token.lane is not None
        assert found.setdefault(token.lane, cpus) == cpus, "all threads of a lane are alike"
    return found


def test_what_a_lane_may_run() -> None:
    """Plain tokens every lane, weighted ones those that the policy names."""
    first, second = Lane(1, (), PLAIN), Lane(2, (), PLAIN)
    light = Route(3, "light", (2,))
    assert [lane.may_run(PLAIN) for lane in (first, second)] == [True, True]
    assert [lane.may_run(light) for lane in (first, second)] == [False, True]


def test_a_route_of_its_own() -> None:
    """Tokens that are to stay on a lane take a way that is that lane's alone, made once."""
    lane, other = Lane(2, (), PLAIN), Lane(1, (), PLAIN)
    heavy = Route(1, "heavy", (1, 2))
    own = lane.own_route(heavy)
    assert (own.index, own.weight, own.only_lane) == (1, "heavy", 2)
    assert lane.may_run(own)
    assert not other.may_run(own)
    assert own in lane.routes
    assert lane.own_route(heavy) is own
    assert lane.own_route(PLAIN) is not own
    assert len(lane.routes) == 2


def test_only_lane() -> None:
    """A route has one only if no other lane may run it."""
    routes = [PLAIN, Route(1, "heavy", (1, 2)), Route(3, "light", (2,))]
    assert [route.only_lane for route in routes] == [None, None, 2]


# -- pinning --------------------------------------------------------------------------------------


@needs_pinning
def test_pinned_threads_run_on_the_cpus_of_their_lane() -> None:
    """Inside a call the thread may use just the CPUs that the statistics tell of its lane."""
    with TokenGateExecutor(2, lanes=2, pin_lanes=True) as executor:
        lanes = {lane.number: set(lane.cpus) for lane in executor.statistics().lanes}
        assert affinities(executor, 2) == lanes
        assert all(cpus <= os.sched_getaffinity(0) for cpus in lanes.values())


@needs_pinning
def test_spare_threads_are_pinned_too() -> None:
    """A worker that stands in for one that waits is on the same CPUs."""

    def nest() -> tuple[set[int], set[int]]:
        child = executor.submit(os.sched_getaffinity, 0)
        return set(child.result(timeout=30)), set(os.sched_getaffinity(0))

    with TokenGateExecutor(1, pin_lanes=True) as executor:
        token = executor.submit(nest)
        child, parent = token.result(30)
        assert child == parent == set(executor.statistics().lanes[0].cpus)


@needs_pinning
def test_threads_are_not_pinned_by_default() -> None:
    """They may use whatever the process may, and pinned ones leave the rest of it alone."""
    before = os.sched_getaffinity(0)
    with TokenGateExecutor(2, lanes=2) as free, TokenGateExecutor(1, pin_lanes=True) as pinned:
        affinities(pinned, 1)
        assert list(affinities(free, 2).values()) == [before, before]
    assert os.sched_getaffinity(0) == before


@needs_pinning
def test_pin_this_thread() -> None:
    """It is the calling thread alone that is pinned."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    seen: list[set[int]] = []

    def pin() -> None:
        pin_this_thread((cpu,))
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=pin)
    thread.start()
    thread.join()
    assert seen == [{cpu}]
    assert os.sched_getaffinity(0) == before


def test_a_system_that_cannot_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pin_lanes=True` is refused there, with the reason."""
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(InvalidOptionError, match="on this system, which cannot pin threads") as e:
        TokenGateExecutor(1, pin_lanes=True)
    assert (e.value.option, e.value.given) == ("pin_lanes", True)
    with TokenGateExecutor(1) as executor:
        assert executor.submit(int).result(30) == 0


def test_cpus_that_this_process_may_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named; those that it may use are no reason to refuse."""
    monkeypatch.setattr(os, "sched_setaffinity", print, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    check_pinning(((0,), (1, 2)))
    with pytest.raises(InvalidOptionError) as caught:
        check_pinning(((0, 5), (2, 1), (4,)))
    assert str(caught.value) == (
        "pin_lanes must be False here: this process may not use the CPUs [4, 5], not True"
    )
