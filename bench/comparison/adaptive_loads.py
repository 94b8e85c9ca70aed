"""The loads of ``convergence.py``, and one sample of one of them on one executor.

A *job* is a fixed list of calls. How many there are is found once, from what a call takes on this
machine alone, so that the job would take ``--seconds`` on an executor of the right size:

    sleeping        each call sleeps for 20 ms: as many at a time as there may be.
    gil_bound       each call is a loop in Python, about 2 ms: one at a time.
    gil_releasing   each call compresses 1 MB without the GIL: one for each core.
    changing        half of the time nine of ten calls sleep, one parses; then all parse. A call that
                    parses reads 600 records of a file, one at a time, and does a little with each: it is
                    bound by the GIL, but lets go of it at each read. Threads that do so get in each
                    other's way.
    changing_to_loops   the same, but what comes after half of the time are the loops of gil_bound. These
                    do not mind how many threads run them, so the most workers are the best all along,
                    and nothing can be won by adapting: what it costs is seen.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import psutil

from .contenders import Call
from .workloads import compress_one_megabyte, one_megabyte

SIZES = (1, 2, 4, 8, 16, 32)
MOST = SIZES[-1]
SLEEP_SECONDS = 0.02


def sleep() -> None:
    time.sleep(SLEEP_SECONDS)


def compute() -> int:
    total = 0
    for number in range(40_000):
        total += number * number
    return total


@functools.cache
def records() -> int:
    """Return the descriptor of a file that has been deleted, with 64 KiB of text in it."""
    with tempfile.TemporaryFile() as file:
        file.write(b"some words, and numbers 123\n" * 2341)
        file.flush()
        return os.dup(file.fileno())


def parse() -> int:
    descriptor, words = records(), 0
    for number in range(600):
        record = os.pread(descriptor, 64, 64 * number)
        words += len(record.split())
    return words


@dataclass(frozen=True)
class Load:
    """One row: ``parts`` are its calls, one after the other, as a share of each in every ten."""

    name: str
    title: str
    parts: tuple[dict[Call, int], ...]
    at_most: float  # of the time of the best fixed size
    reason: str


LOADS = (
    Load("sleeping", "sleeping I/O", ({sleep: 10},), 1.1, "within 10 % of the best"),
    Load("gil_bound", "GIL-bound", ({compute: 10},), 1.1, "within 10 % of the best"),
    Load(
        "gil_releasing", "GIL-releasing", ({compress_one_megabyte: 10},), 1.1,
        "within 10 % of the best",
    ),
    Load(
        "changing", "changes half-way", ({sleep: 9, parse: 1}, {parse: 10}), 1.0,
        "better than every single one",
    ),
    Load(
        "changing_to_loops", "the same, to loops", ({sleep: 9, compute: 1}, {compute: 10}), 1.1,
        "within 10 % of the best",
    ),
)  # fmt: skip


def make_job(load: Load, seconds: float) -> list[Call]:
    """Return the calls that take so long on an executor of the right size for each part."""
    one_megabyte()
    job: list[Call] = []
    for part in load.parts:
        ten = [call for call, share in part.items() for _ in range(share)]
        # What keeps ten calls from being done sooner: the workers, the cores or the GIL.
        on_workers = sum(seconds_of(call) * share for call, share in part.items()) / MOST
        on_gil = sum(seconds_of(call) * part.get(call, 0) for call in (compute, parse))
        on_cores = seconds_of(compress_one_megabyte) * part.get(compress_one_megabyte, 0)
        on_cores /= os.cpu_count() or 1
        tens = seconds / len(load.parts) / max(on_workers, on_gil, on_cores)
        job += ten * max(1, round(tens))
    return job


@functools.cache
def seconds_of(call: Call) -> float:
    """Return what a call takes when nothing else runs: the least of several."""
    if call is sleep:
        return SLEEP_SECONDS
    times: list[float] = []
    for _ in range(20):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)


def take_sample(executor: Any, job: list[Call], most_seconds: float) -> dict[str, float]:
    """Run the job once; one that takes too long is given up, and ``done`` says how far it came."""
    others = OtherProcesses()
    begun = time.perf_counter()
    try:
        futures = [executor.submit(call) for call in job]
        for future in futures:
            left = begun + most_seconds - time.perf_counter()
            future.result(timeout=max(0.0, left))
    except TimeoutError:
        pass
    seconds = time.perf_counter() - begun
    cores = others.cores()
    executor.shutdown(cancel_futures=True)
    done = executor.statistics().completed / len(job)
    return {"seconds": seconds, "done": done, "others_cores": cores}


class OtherProcesses:
    """How busy the rest of the machine is meanwhile."""

    def __init__(self) -> None:
        self.begun, self.before = time.perf_counter(), self._used()

    @staticmethod
    def _used() -> float:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return sum(times) - idle - guest - time.process_time()

    def cores(self) -> float:
        """Return how many cores they used on average."""
        return max(0.0, self._used() - self.before) / (time.perf_counter() - self.begun)
