"""Which idle worker is roused: by the policy's order of lanes, last in first out, vacancies last."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tokengate_executor.engine.router import Router
from tokengate_executor.engine.routes import Route

PLAIN = Route(0, None, None)


class FakeWorker:
    """What the router needs of a worker."""

    def __init__(self, lane_number: int, *, vacant: bool = False) -> None:
        self.lane_number = lane_number
        self.thread = None if vacant else object()
        self.roused_for: list[Route | None] = []
        self.when_roused: Callable[[], object] = lambda: None

    def rouse(self, route: Route | None = None) -> None:
        """Note it."""
        self.roused_for.append(route)
        self.when_roused()


def router_of(*idle: Any) -> Router:
    """Return a router with these idle workers, the first one idle first."""
    router = Router()
    router.idle.extend(idle)
    return router


def order(router: Router, route: Route) -> list[Any]:
    """Rouse until nobody is roused any more; return who was, in that order."""
    roused: list[Any] = []
    while True:
        before = list(router.idle)
        router.rouse(route)
        gone = [worker for worker in before if worker not in router.idle]
        if not gone:
            return roused
        (worker,) = gone
        assert worker.roused_for == [route]  # type: ignore[attr-defined]
        roused.append(worker)


def test_nobody_is_idle() -> None:
    """Then nobody is roused, whatever the route."""
    router = Router()
    router.rouse(PLAIN)
    router.rouse(Route(1, "heavy", (1, 2)))
    assert router.idle == []


def test_last_in_first_out() -> None:
    """For plain tokens the worker that became idle last, wherever it is."""
    workers = [FakeWorker(lane) for lane in (2, 1, 3, 1)]
    assert order(router_of(*workers), PLAIN) == workers[::-1]


@pytest.mark.parametrize("lanes", [(1, 2, 3), (3, 1, 2), (2,), (3, 2)])
def test_the_policys_order_of_lanes(lanes: tuple[int, ...]) -> None:
    """The preferred lane first, then the next; a lane that is not in it sleeps on."""
    workers = {lane: FakeWorker(lane) for lane in (3, 1, 2)}
    router = router_of(*workers.values())
    assert order(router, Route(1, "heavy", lanes)) == [workers[lane] for lane in lanes]
    assert {worker.lane_number for worker in router.idle} == {1, 2, 3} - set(lanes)


def test_last_in_first_out_within_a_lane() -> None:
    """Among equals of a weighted route, too."""
    workers = [FakeWorker(lane) for lane in (1, 2, 1, 2)]
    expected = [workers[n] for n in (3, 1, 2, 0)]
    assert order(router_of(*workers), Route(1, "light", (2, 1))) == expected


def test_vacancies_come_last() -> None:
    """No thread is started while a running one is idle, not even on the preferred lane."""
    vacant = [FakeWorker(lane, vacant=True) for lane in (2, 1)]
    started = [FakeWorker(lane) for lane in (2, 3)]
    route = Route(1, "heavy", (1, 2, 3))
    expected = [started[0], started[1], vacant[1], vacant[0]]
    assert order(router_of(*vacant, *started), route) == expected


def test_one_that_somebody_else_rouses_meanwhile_is_not_roused_twice() -> None:
    """Who lost it to another chooses again; if that was the last, nobody is roused."""
    first, second = FakeWorker(1), FakeWorker(2)
    router = router_of(first, second)

    class Rank(dict[int, int]):
        """An order of lanes; at the first question somebody else takes the preferred worker."""

        taken: Any = None

        def __getitem__(self, lane: int) -> int:
            if self.taken is None:
                self.taken = first
                router.idle.remove(first)  # type: ignore[arg-type]
            return super().__getitem__(lane)

    route = Route(1, "heavy", (1, 2))
    route.rank = Rank({1: 0, 2: 1})
    router.rouse(route)
    assert (first.roused_for, second.roused_for) == ([], [route])


def test_many_rouse_each_once() -> None:
    """Many threads that rouse for plain and for weighted tokens rouse no worker twice."""
    workers = [FakeWorker(1 + n % 3) for n in range(300)]
    router = router_of(*workers)
    routes = [PLAIN, Route(1, "heavy", (1, 2, 3)), Route(2, "light", (3,)), PLAIN]
    barrier = threading.Barrier(len(routes))

    def rouse(route: Route) -> None:
        barrier.wait(30)
        for _ in range(100):
            router.rouse(route)

    threads = [threading.Thread(target=rouse, args=(route,)) for route in routes]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    counts = [len(worker.roused_for) for worker in workers]
    assert set(counts) <= {0, 1}
    assert sum(counts) + len(router.idle) == 300
    assert all(not worker.roused_for for worker in router.idle)  # type: ignore[attr-defined]


def test_no_thread_can_be_started() -> None:
    """The error of the worker is the rouser's."""
    worker = FakeWorker(1, vacant=True)

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    worker.when_roused = refuse
    for route in (PLAIN, Route(1, "heavy", (1,))):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            router_of(worker).rouse(route)
