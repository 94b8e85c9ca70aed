"""Executors with something going on in them, made ready for calls to be timed beside it.

A *scene* is a context manager. Inside it everything is in place, and what it gives is the ``submit``
for the calls that are timed. When it ends it checks that what it is about was there to the last:
a flood that ran dry, or a paused call that started, is an error and no sample.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tokengate_executor import AffinityPolicy, TokenGateExecutor

from .contenders import Call
from .measuring import meet_all_workers
from .workloads import no_operation

Submit = Callable[[Call], Future[Any]]
Scene = Callable[[], AbstractContextManager[Submit]]

WORKERS = 4
PLACES = 100
PRODUCERS = 4


@dataclass(frozen=True)
class Doors:
    """Where the many calls go in, and where the timed ones do."""

    executors: tuple[Executor, ...]
    many: Submit
    timed: Submit
    is_fair: bool = True  # False: a timed call waits until all of the many have started


def shared_pool(workers: int) -> Doors:
    """One ThreadPoolExecutor for both."""
    pool = ThreadPoolExecutor(workers)
    return Doors((pool,), pool.submit, pool.submit, is_fair=False)


def pool_for_each(workers: int) -> Doors:
    """A ThreadPoolExecutor for each, with half of the workers: isolation by hand."""
    pools = ThreadPoolExecutor(workers // 2), ThreadPoolExecutor(workers // 2)
    return Doors(pools, pools[0].submit, pools[1].submit)


def isolated_weights(workers: int) -> Doors:
    """Heavy calls and light ones, with half of the workers on lanes that heavy ones never enter."""
    executor = TokenGateExecutor(workers, lanes=2, policy=AffinityPolicy.isolated(2))
    heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
    return Doors((executor,), heavy.submit, light.submit)


def ungoverned(workers: int) -> Doors:
    """An executor as it comes: without a governor, and without a bound."""
    executor = TokenGateExecutor(workers)
    return Doors((executor,), executor.submit, executor.submit)


def prioritised(workers: int) -> Doors:
    """Calls that have a priority: the governor chooses each."""
    executor = TokenGateExecutor(workers)
    urgent = executor.options(priority=1)
    return Doors((executor,), urgent.submit, urgent.submit)


def two_tenants(workers: int) -> Doors:
    """One tenant's calls and another's."""
    executor = TokenGateExecutor(workers)
    first, second = executor.options(tenant="first"), executor.options(tenant="second")
    return Doors((executor,), first.submit, second.submit)


@contextlib.contextmanager
def running(doors: Doors, workers: int, *, one_cpu: bool = False) -> Iterator[Doors]:
    """Bring all workers up; afterwards cancel what waits, and stop.

    ``one_cpu``: this thread and the workers stay on one CPU. The executor was made before, so that it
    has the lanes that it has elsewhere.
    """
    pin = getattr(os, "sched_setaffinity", None) if one_cpu else None
    cpus = os.sched_getaffinity(0) if pin else set()
    try:
        if pin:
            pin(0, {min(cpus)})
        for executor in doors.executors:
            each = workers // len(doors.executors)
            for arrival in meet_all_workers(executor.submit, each):
                arrival.result()
        for _ in range(20):
            doors.timed(no_operation).result()
        yield doors
    finally:
        for executor in doors.executors:
            if isinstance(executor, TokenGateExecutor):
                executor.purge()
            executor.shutdown(cancel_futures=True)
        if pin:
            pin(0, cpus)


def check(holds: bool, text: str) -> None:
    """Refuse a sample that is not what it is said to be."""
    if not holds:
        raise RuntimeError(text)


def wait_until(holds: Callable[[], bool], text: str) -> None:
    """Look every millisecond, for half a minute at most."""
    deadline = time.perf_counter() + 30
    while not holds():
        check(time.perf_counter() < deadline, f"in vain: wait until {text}")
        time.sleep(0.001)


# -- floods and busy workers ------------------------------------------------------------------------


@contextlib.contextmanager
def idle(
    open_doors: Callable[[int], Doors], workers: int = WORKERS, *, one_cpu: bool = False
) -> Iterator[Submit]:
    """Nothing else."""
    with running(open_doors(workers), workers, one_cpu=one_cpu) as doors:
        yield doors.timed


@contextlib.contextmanager
def flooded(
    open_doors: Callable[[int], Doors], call: Call, count: int, workers: int = WORKERS
) -> Iterator[Submit]:
    """So many calls were submitted before, and more of them wait than are done in the meantime."""
    with running(open_doors(workers), workers) as doors:
        flood = [doors.many(call) for _ in range(count)]
        last = flood[-1]
        check(not (last.running() or last.done()), "the flood was over too soon")
        done_before = sum(one.done() for one in flood)
        yield doors.timed
        check(sum(one.done() for one in flood) > done_before, "the flood stands still")
        if doors.is_fair:
            check(not (last.running() or last.done()), "the flood was over too soon")


@contextlib.contextmanager
def busy(
    open_doors: Callable[[int], Doors], call: Call, workers: int = WORKERS
) -> Iterator[Submit]:
    """Each worker runs a call, and none waits: one that ends is followed by the next."""
    over = threading.Event()
    with running(open_doors(workers), workers) as doors:

        def follow(_: object) -> None:
            if not over.is_set():
                with contextlib.suppress(RuntimeError):  # shut down meanwhile
                    doors.many(call).add_done_callback(follow)

        for _ in range(workers):
            follow(None)
        try:
            yield doors.timed
        finally:
            over.set()


# -- what keeps calls from starting: all on one CPU ----------------------------------------------------


@contextlib.contextmanager
def paused(waiting: int) -> Iterator[Submit]:
    """So many calls of a paused operation wait."""
    executor = TokenGateExecutor(WORKERS)
    doors = Doors((executor,), executor.submit, executor.submit)
    with running(doors, WORKERS, one_cpu=True):
        executor.pause("paused")
        view = executor.options(operation="paused")
        for _ in range(waiting):
            view.submit(no_operation)

        def are_parked() -> bool:
            return executor.statistics().parked == waiting

        wait_until(are_parked, "all are parked")
        yield executor.submit
        check(are_parked(), "a paused call has started")


@contextlib.contextmanager
def one_permit(waiting: int) -> Iterator[Submit]:
    """A call holds a limit's only permit, and so many wait for it."""
    executor = TokenGateExecutor(WORKERS, limits={"one": 1})
    release = threading.Event()
    doors = Doors((executor,), executor.submit, executor.submit)
    with running(doors, WORKERS, one_cpu=True):
        view = executor.options(limits=("one",))
        view.submit(release.wait)
        for _ in range(waiting):
            view.submit(no_operation)

        def are_parked() -> bool:
            limit = executor.statistics().limits["one"]
            return limit.used == 1 and limit.waiting == waiting

        try:
            wait_until(are_parked, "all wait for the permit")
            yield executor.submit
            check(are_parked(), "the permit has changed hands")
        finally:
            executor.purge()
            release.set()


@contextlib.contextmanager
def full(waiting: int, producers: int) -> Iterator[Submit]:
    """The heavy workers are taken; so many more wait in ``PLACES`` places, and producers for one."""
    executor = TokenGateExecutor(
        WORKERS, lanes=2, policy=AffinityPolicy.isolated(2), max_pending={"heavy": PLACES}
    )
    heavy, light = executor.options(weight="heavy"), executor.options(weight="light")
    release = threading.Event()
    doors = Doors((executor,), heavy.submit, light.submit)
    with running(doors, WORKERS, one_cpu=True), ThreadPoolExecutor(PRODUCERS) as threads:

        def is_full() -> bool:
            now = executor.statistics()
            return (now.pending, now.blocked_producers) == (waiting, producers)

        try:
            for _ in range(WORKERS // 2):
                heavy.submit(release.wait)
            wait_until(lambda: executor.statistics().pending == 0, "the heavy workers are taken")
            for _ in range(waiting):
                heavy.submit(no_operation)
            for _ in range(producers):
                threads.submit(heavy.submit, no_operation)
            wait_until(is_full, "the weight is full")
            yield light.submit
            check(is_full(), "the weight is not full any more")
        finally:
            release.set()
