"""What the executors have to do: each workload times itself and returns its metrics.

Seconds, but for ``resident_growth``: bytes.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import hashlib
import importlib
import random
import statistics
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

from .contenders import Call, Pool

Metrics = dict[str, float]


def no_operation() -> None:
    """Do nothing: the call whose only cost is the executor's."""


def identity(item: int) -> int:
    """Give back the item, so that ``map`` can be checked."""
    return item


def fan_out(pool: Pool, size: int) -> Metrics:
    """Submit all from this thread, then read all."""
    return {"seconds": all_at_once(pool.submit, pool.read_all, no_operation, size)}


def all_at_once(
    submit: Callable[[Call], Any], read_all: Callable[[list[Any]], object], call: Call, size: int
) -> float:
    """Time submitting so many calls and reading their results."""
    started = time.perf_counter()
    futures = [submit(call) for _ in range(size)]
    read_all(futures)
    return time.perf_counter() - started


def four_producers(pool: Pool, size: int) -> Metrics:
    """Submit and read from four threads at once, a quarter each."""
    count = 4
    start_line = threading.Barrier(count)
    spans: list[tuple[float, float]] = []

    def produce() -> None:
        submit = pool.submit
        start_line.wait()
        started = time.perf_counter()
        futures = [submit(no_operation) for _ in range(size // count)]
        pool.read_all(futures)
        spans.append((started, time.perf_counter()))

    producers = [threading.Thread(target=produce) for _ in range(count)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    if len(spans) != count:
        raise RuntimeError("a producer thread failed; its traceback is on standard error")
    return {"seconds": max(end for _, end in spans) - min(start for start, _ in spans)}


def round_trips(pool: Pool, size: int) -> Metrics:
    """Submit one call at a time and wait for it."""
    return percentiles(one_at_a_time(pool.submit, pool.read_one, no_operation, size))


def one_at_a_time(
    submit: Callable[[Call], Any], read_one: Callable[[Any], object], call: Call, size: int
) -> list[float]:
    """Time each of so many round trips."""
    clock = time.perf_counter
    durations: list[float] = []
    for _ in range(size):
        started = clock()
        read_one(submit(call))
        durations.append(clock() - started)
    return durations


def two_lock_round_trips(size: int) -> Metrics:
    """Time the least that handing a call to a waiting thread and waiting for it can cost."""
    wanted, done = threading.Lock(), threading.Lock()
    wanted.acquire()
    done.acquire()

    def answer() -> None:
        for _ in range(size):
            wanted.acquire()
            done.release()

    partner = threading.Thread(target=answer)
    partner.start()
    clock = time.perf_counter
    durations: list[float] = []
    for _ in range(size):
        started = clock()
        wanted.release()
        done.acquire()
        durations.append(clock() - started)
    partner.join()
    return percentiles(durations)


def percentiles(durations: list[float]) -> Metrics:
    """Return the 50th and the 99th percentile."""
    cuts = statistics.quantiles(durations, n=100)
    return {"p50": cuts[49], "p99": cuts[98]}


def map_items(pool: Pool, size: int) -> Metrics:
    """Map over a range, and check what comes back after the clock stopped."""
    started = time.perf_counter()
    results = pool.map_all(identity, range(size))
    seconds = time.perf_counter() - started
    if results != list(range(size)):
        raise RuntimeError("map gave wrong results")
    return {"seconds": seconds}


def gather_run_in_executor(pool: Pool, size: int) -> Metrics:
    """Gather calls from an event loop; loop start and end are not timed."""

    async def gather() -> float:
        loop = asyncio.get_running_loop()
        executor = pool.raw
        started = time.perf_counter()
        await asyncio.gather(*[loop.run_in_executor(executor, no_operation) for _ in range(size)])
        return time.perf_counter() - started

    return {"seconds": asyncio.run(gather())}


def gather_own_verb(pool: Pool, size: int) -> Metrics:
    """The same by the executor's own verb, ``arun``, if it has one."""
    executor = pool.raw
    if not hasattr(executor, "arun"):
        return gather_run_in_executor(pool, size)

    async def gather() -> float:
        started = time.perf_counter()
        await asyncio.gather(*[executor.arun(no_operation) for _ in range(size)])
        return time.perf_counter() - started

    return {"seconds": asyncio.run(gather())}


def sleep_five_milliseconds() -> None:
    """Stand for a call that waits, for a disk or a network."""
    time.sleep(0.005)


def sleep_calls(pool: Pool, size: int) -> Metrics:
    """Submit sleeping calls, then read all."""
    submit = pool.submit
    started = time.perf_counter()
    futures = [submit(sleep_five_milliseconds) for _ in range(size)]
    pool.read_all(futures)
    return {"seconds": time.perf_counter() - started}


@functools.cache
def one_megabyte() -> bytes:
    """Return 1 MB that compresses to about a half: random digits, the same in every run."""
    return random.Random(7).randbytes(500_000).hex().encode()


def hash_one_megabyte() -> bytes:
    """Hash without the GIL, about a millisecond."""
    return hashlib.sha256(one_megabyte()).digest()


@functools.cache
def nine_megabytes() -> bytes:
    """Return 9 MB."""
    return one_megabyte() * 9


def hash_nine_megabytes() -> bytes:
    """Hash without the GIL, about 5 ms where the processor has instructions for it."""
    return hashlib.sha256(nine_megabytes()).digest()


def compress_one_megabyte() -> bytes:
    """Compress without the GIL, several milliseconds."""
    return zlib.compress(one_megabyte(), level=1)


def gil_releasing_calls(pool: Pool, size: int) -> Metrics:
    """Submit hashing and compressing calls in turn, then read all."""
    one_megabyte()
    submit = pool.submit
    started = time.perf_counter()
    futures = [
        submit(compress_one_megabyte if number % 2 else hash_one_megabyte) for number in range(size)
    ]
    pool.read_all(futures)
    return {"seconds": time.perf_counter() - started}


def resident_growth(pool: Pool, size: int) -> Metrics:
    """Return the bytes of resident memory that each queued call takes; one worker is needed."""
    submit, process = pool.submit, importlib.import_module("psutil").Process()
    futures: list[Any] = [None] * size
    running, release = threading.Event(), threading.Event()

    def block_the_worker() -> None:
        running.set()
        release.wait()

    submit(block_the_worker)
    running.wait()
    gc.collect()
    before = process.memory_info().rss
    for number in range(size):
        futures[number] = submit(no_operation)
    gc.collect()
    growth = process.memory_info().rss - before
    release.set()
    pool.read_all(futures)
    return {"bytes": growth / size}
