"""Measure an executor against ``concurrent.futures.ThreadPoolExecutor``, side by side.

    python bench/side_by_side.py                          every row, this interpreter
    python bench/side_by_side.py --quick --rows fan_out_4,map
    python bench/side_by_side.py --python A --python B --json costs.json --check
    python bench/side_by_side.py --candidate concurrent.futures:ThreadPoolExecutor

How each number is made
    A *sample* is one executor, built, warmed, timed and shut down; only the work itself is inside
    the timed region. Warming starts every worker (they meet at a barrier) and runs a tenth of
    the work untimed, so that neither thread starts nor a cold interpreter are counted.
    ``gc.collect()`` runs before the clock starts; the collector stays enabled, as users have it.

    A *round* takes one sample of each executor, in one process. The reference and the candidate
    always stand next to each other and swap places from round to round; the further columns
    follow them. Each round gives one ratio per executor, reference / executor (a speed-up), and
    the table shows the median of these ratios, the interval that holds the true median in 95 of
    100 runs, and the quartiles. Absolute figures are medians of the samples, so they need not
    divide to exactly the ratio.

    All executors run the same workload functions, through their own ``submit`` and ``result``.
    ``multiprocessing.pool.ThreadPool`` has other verbs: ``apply_async`` and ``get`` stand in, and
    its ``map`` cuts the input into chunks unasked. more-executors is its plain thread pool.

Rows (`--rows` takes these names, comma separated)
    fan_out_4, fan_out_32   submit 20,000 no-ops from one thread, then read every result.
    producers_4             the same from 4 threads, 5,000 each, on 4 workers: from the first
                            thread's start to the last thread's end; 3 times as many rounds.
    one_at_a_time_p50, _p99 2,000 times submit, then result; percentiles of the single round trips.
                            The aim is measured, not fixed: two threads that wake each other
                            through two bare locks, the floor for any hand-over to a thread.
                            8 times as many rounds.
    map                     ``list(executor.map(identity, range(20_000)))``, chunk size 1.
    run_in_executor         5,000 ``loop.run_in_executor`` calls, gathered, on a running loop.
    memory                  growth of the resident set while 100,000 calls are queued behind one
                            blocked worker, per call; a fresh process for each sample. It includes
                            what tracemalloc cannot see, such as locks. executor / reference: less
                            is better. The list that holds the futures is allocated beforehand.
    sleeping                200 calls that sleep 5 ms, on 8 workers; twice as many rounds.
    gil_releasing           80 calls that hash or compress 1 MB, on 4 workers.

Verdicts
    ``aim`` and ``pass``: the median reaches the aim, or what is asked at least. ``short``: it does
    not. ``unclear``: the median misses by at most 10 % and its interval reaches the mark, so this
    run cannot tell; take more rounds on a quieter machine. ``error``: it raised.
    In ``sleeping`` and ``gil_releasing`` 1.0 is the best there can be, and noise alone puts half of
    all medians below it: these two pass from 0.99.

What the numbers cannot show
    Other load on the machine, frequency changes and the scheduler move single samples by 10 % and
    more. Interleaving removes what lasts longer than a round, the median removes single outliers,
    nothing removes a load that hits one executor only; the quartiles tell how far to trust a
    ratio. Where two threads take turns, a sample takes about half the time if the system happens
    to keep both on one CPU, and it tends to stay that way for the whole sample: ratios near 0.5
    and 2 in the rows ``one_at_a_time`` and ``producers_4`` are such pairs, and the reason for
    their extra rounds. `--one-cpu` takes this choice away and shows the executors' own cost; it is
    not what users have. p99 stands on 20 round trips per sample. No-op calls show the overhead
    alone: real work makes every ratio smaller. `--quick` is for trying things out.

Exit status: 0 if it measured, whatever it found; with `--check` 1 if a row is short or in error;
2 for unusable arguments or interpreters, or if `--python` names one that ends early. A sample that
hangs ends the run after `--hang-seconds`, with the stacks of all threads and status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import datetime
import faulthandler
import functools
import gc
import hashlib
import importlib
import importlib.metadata
import json
import math
import multiprocessing.pool
import operator
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = "ThreadPoolExecutor"
DEFAULT_CANDIDATE = "tokengate_executor:TokenGateExecutor"
REQUIRED_MODULES = ("psutil", "typing_extensions")
UNCLEAR_MARGIN = 0.1  # a median that misses its mark by more is short, however wide the noise
MOST_MEMORY_ROUNDS = 3  # fresh processes repeat each other within a few per cent

Call = Callable[[], object]
Metrics = dict[str, float]


class UsageError(Exception):
    """The arguments or the chosen interpreter cannot be used; the text says why."""


# ── executors ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Pool:
    """One running executor, reduced to the verbs that the workloads use."""

    raw: Any
    submit: Callable[[Call], Any]
    read_one: Callable[[Any], object]
    read_all: Callable[[list[Any]], list[object]]
    map_all: Callable[[Callable[[int], int], range], list[int]]
    stop: Callable[[], None]


@dataclass(frozen=True)
class Contender:
    """A name for a column, and how to start that executor with a number of workers."""

    name: str
    start: Callable[[int], Pool]
    is_executor: bool = True  # False: has no `submit`, so asyncio cannot use it


def results_of(futures: list[Any]) -> list[object]:
    """Read every future, in the order of submission."""
    return [future.result() for future in futures]


def gets_of(results: list[Any]) -> list[object]:
    """Read every ``AsyncResult``, in the order of submission."""
    return [result.get() for result in results]


def start_executor(factory: Callable[..., Any], workers: int) -> Pool:
    """Start anything with the interface of ``concurrent.futures.Executor``."""
    executor = factory(max_workers=workers)
    return Pool(
        raw=executor,
        submit=executor.submit,
        read_one=operator.methodcaller("result"),
        read_all=results_of,
        map_all=lambda function, items: list(executor.map(function, items)),
        stop=executor.shutdown,
    )


def start_multiprocessing_pool(workers: int) -> Pool:
    """Start a ``multiprocessing.pool.ThreadPool``."""
    pool = multiprocessing.pool.ThreadPool(workers)
    return Pool(
        raw=pool,
        submit=pool.apply_async,
        read_one=operator.methodcaller("get"),
        read_all=gets_of,
        map_all=pool.map,
        stop=functools.partial(close_and_join, pool),
    )


def start_pebble_pool(workers: int) -> Pool:
    """Start a ``pebble.ThreadPool``."""
    pool = importlib.import_module("pebble").ThreadPool(max_workers=workers)
    return Pool(
        raw=pool,
        submit=pool.submit,
        read_one=operator.methodcaller("result"),
        read_all=results_of,
        map_all=lambda function, items: list(pool.map(function, items).result()),
        stop=functools.partial(close_and_join, pool),
    )


def close_and_join(pool: Any) -> None:
    """Stop a pool that ends in two steps."""
    pool.close()
    pool.join()


def load_candidate(specification: str) -> Contender:
    """Import ``module:factory``; the factory is called with ``max_workers=N``."""
    module_name, _, factory_name = specification.partition(":")
    if not module_name or not factory_name:
        raise UsageError(f"--candidate: expected module:factory, got {specification!r}")
    try:
        factory = operator.attrgetter(factory_name)(importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--candidate {specification}: {error}") from error
    name = factory_name.rpartition(".")[2]
    # Measuring the reference against itself tests this script; its column needs its own name.
    return Contender(
        f"{name} (candidate)" if name == REFERENCE else name,
        functools.partial(start_executor, factory),
    )


def load_contenders(specification: str) -> tuple[Contender, ...]:
    """Return the reference, the candidate, then each further library that is installed."""
    stdlib_factory = concurrent.futures.ThreadPoolExecutor
    contenders = [
        Contender(REFERENCE, functools.partial(start_executor, stdlib_factory)),
        load_candidate(specification),
        Contender("multiprocessing", start_multiprocessing_pool, is_executor=False),
    ]
    with contextlib.suppress(ImportError):
        importlib.import_module("pebble")
        contenders.append(Contender("pebble", start_pebble_pool))
    with contextlib.suppress(ImportError):
        more_factory = importlib.import_module("more_executors").Executors.thread_pool
        contenders.append(
            Contender("more-executors", functools.partial(start_executor, more_factory))
        )
    return tuple(contenders)


# ── workloads: each returns its metrics, in seconds ──────────────────────────────────────────────


def no_operation() -> None:
    """Do nothing: the call whose only cost is the executor's."""


def identity(item: int) -> int:
    """Give back the item, so that ``map`` can be checked."""
    return item


def fan_out(pool: Pool, size: int) -> Metrics:
    """Submit all from this thread, then read all."""
    submit = pool.submit
    started = time.perf_counter()
    futures = [submit(no_operation) for _ in range(size)]
    pool.read_all(futures)
    return {"seconds": time.perf_counter() - started}


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
    submit, read_one, clock = pool.submit, pool.read_one, time.perf_counter
    durations: list[float] = []
    for _ in range(size):
        started = clock()
        read_one(submit(no_operation))
        durations.append(clock() - started)
    return percentiles(durations)


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


# ── measurements and rows, as data ───────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Measurement:
    """One timed workload; one or more rows show its metrics."""

    run: Callable[[Pool, int], Metrics]
    workers: int
    size: int
    quick_size: int
    floor: Callable[[int], Metrics] | None = None
    needs_executor: bool = False
    own_process: bool = False
    repeats: int = 1  # rounds for each one asked for: more for short samples that scatter


MEASUREMENTS = {
    "fan_out_4": Measurement(fan_out, 4, 20_000, 10_000),
    "fan_out_32": Measurement(fan_out, 32, 20_000, 10_000),
    "producers_4": Measurement(four_producers, 4, 20_000, 10_000, repeats=3),
    "one_at_a_time": Measurement(round_trips, 4, 2_000, 2_000, two_lock_round_trips, repeats=8),
    "map": Measurement(map_items, 4, 20_000, 10_000),
    "run_in_executor": Measurement(gather_run_in_executor, 4, 5_000, 2_000, needs_executor=True),
    "memory": Measurement(resident_growth, 1, 100_000, 20_000, own_process=True),
    "sleeping": Measurement(sleep_calls, 8, 200, 80, repeats=2),
    "gil_releasing": Measurement(gil_releasing_calls, 4, 80, 16),
}


@dataclass(frozen=True)
class Mark:
    """A ratio to reach, before Python 3.12 and from then on."""

    before_3_12: float
    since_3_12: float

    @property
    def here(self) -> float:
        """The ratio for the Python that runs this."""
        return self.since_3_12 if sys.version_info >= (3, 12) else self.before_3_12


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    measurement: str
    metric: str
    at_least: Mark
    aim: Mark | None  # None: the measurement's floor
    aim_note: str = ""  # why reaching the aim is not judged here
    less_is_better: bool = False
    tolerance: float = 0.0  # part of the mark that may be missing
    unit: str = "ms"


def both(ratio: float) -> Mark:
    """Make a mark that is the same for every Python."""
    return Mark(ratio, ratio)


ROWS = (
    Row(
        "fan_out_4", "20,000 no-ops, 4 workers", "fan_out_4", "seconds", Mark(4, 2.5), Mark(5, 3.5)
    ),
    Row("fan_out_32", "the same, 32 workers", "fan_out_32", "seconds", Mark(3, 2), Mark(4, 3)),
    Row("producers_4", "the same, 4 producers", "producers_4", "seconds", both(3), both(6)),
    Row(
        "one_at_a_time_p50", "one at a time, p50", "one_at_a_time", "p50", both(1), None, unit="µs"
    ),
    Row(
        "one_at_a_time_p99", "one at a time, p99", "one_at_a_time", "p99", both(1), None, unit="µs"
    ),
    Row("map", "map over 20,000 no-ops", "map", "seconds", Mark(3, 2.5), both(20)),
    Row(
        "run_in_executor",
        "5,000 run_in_executor, gathered",
        "run_in_executor",
        "seconds",
        both(1.3),
        both(4),
        aim_note="the aim is for an async verb of the package's own",
    ),
    Row(
        "memory",
        "memory per queued call",
        "memory",
        "bytes",
        both(0.4),
        both(0.25),
        less_is_better=True,
        unit="B",
    ),
    Row(
        "sleeping",
        "200 sleeps of 5 ms, 8 workers",
        "sleeping",
        "seconds",
        both(1),
        both(1),
        tolerance=0.01,
    ),
    Row(
        "gil_releasing",
        "80 calls hash or compress 1 MB",
        "gil_releasing",
        "seconds",
        both(1),
        both(1),
        tolerance=0.01,
    ),
)


# ── taking samples ───────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def warm_pool(contender: Contender, measurement: Measurement, size: int) -> Iterator[Pool]:
    """Start the executor, bring all its workers up, and try the workload once, smaller."""
    workers = measurement.workers
    pool = contender.start(workers)
    try:
        everyone = threading.Barrier(workers + 1)
        meeting = functools.partial(everyone.wait, timeout=30)
        arrivals = [pool.submit(meeting) for _ in range(workers)]
        meeting()
        pool.read_all(arrivals)
        ran: list[int] = []
        pool.read_all([pool.submit(functools.partial(ran.append, 1)) for _ in range(100)])
        if len(ran) != 100:
            raise RuntimeError(f"{contender.name} ran {len(ran)} of 100 calls")
        del arrivals
        measurement.run(pool, max(size // 10, 20))
        yield pool
    finally:
        pool.stop()


def take_sample(
    contender: Contender, measurement: Measurement, size: int, hang_seconds: int
) -> Metrics:
    """Measure one executor once, in this process; end the process if it hangs."""
    faulthandler.dump_traceback_later(hang_seconds, exit=True)
    try:
        with warm_pool(contender, measurement, size) as pool:
            gc.collect()
            return measurement.run(pool, size)
    finally:
        faulthandler.cancel_dump_traceback_later()


def take_sample_in_process(
    contender: Contender, name: str, size: int, arguments: argparse.Namespace
) -> Metrics:
    """Take the sample in a fresh interpreter, so that no earlier run left memory to reuse."""
    command = [sys.executable, __file__, "--sample", json.dumps([contender.name, name, size])]
    command += ["--candidate", arguments.candidate]
    command += ["--hang-seconds", str(arguments.hang_seconds)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or ["no message"]
        reason = lines[0] if lines[0].startswith("Timeout") else lines[-1]
        raise RuntimeError(f"the measuring process failed: {reason}\n{finished.stderr}")
    metrics: Metrics = json.loads(finished.stdout)
    return metrics


def order_of_round(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Keep the reference and the candidate side by side; turn both groups round each time."""
    step = -1 if number % 2 else 1
    return [*contenders[:2][::step], *contenders[2:][::step]]


Samples = dict[str, list[Metrics]]


def measure(
    name: str, contenders: Sequence[Contender], arguments: argparse.Namespace
) -> tuple[Samples, dict[str, str]]:
    """Run all rounds of one measurement; return samples and errors by contender.

    A contender that raises is left out of the rounds that follow. The floor, where there is one,
    is sampled in each round under the name ``floor``.
    """
    measurement = MEASUREMENTS[name]
    size = measurement.quick_size if arguments.quick else measurement.size
    rounds = arguments.rounds * measurement.repeats
    if measurement.own_process:
        rounds = min(rounds, MOST_MEMORY_ROUNDS)
    samples: Samples = collections.defaultdict(list)
    errors: dict[str, str] = {}
    taking_part = [one for one in contenders if one.is_executor or not measurement.needs_executor]
    for number in range(rounds):
        for contender in order_of_round(taking_part, number):
            if contender.name in errors:
                continue
            progress(arguments, f"{name}: round {number + 1} of {rounds}, {contender.name}")
            try:
                if measurement.own_process:
                    metrics = take_sample_in_process(contender, name, size, arguments)
                else:
                    metrics = take_sample(contender, measurement, size, arguments.hang_seconds)
            # One executor's failure must not cost the other columns.
            except Exception as error:
                errors[contender.name] = f"{type(error).__name__}: {error}"
            else:
                samples[contender.name].append(metrics)
        if measurement.floor is not None:
            gc.collect()
            samples["floor"].append(measurement.floor(size))
    progress(arguments, "")
    return samples, errors


def progress(arguments: argparse.Namespace, text: str) -> None:
    """Show on a terminal what is being measured."""
    if not arguments.quiet and sys.stderr.isatty():
        print(f"\r{text:<78}", end="" if text else "\r", file=sys.stderr, flush=True)


# ── from samples to a report ─────────────────────────────────────────────────────────────────────


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median, its 95 % interval, quartiles and extremes.

    The interval is the sign test's: it asks only that the values are independent, and reaches from
    one of them to another. Below six values there is none at 95 %; it is then their whole range.
    """
    ranked = sorted(values)
    low, median, high = ranked[0], ranked[0], ranked[0]
    if len(ranked) > 1:
        low, median, high = statistics.quantiles(ranked, n=4, method="inclusive")
    # Each value lies below the true median with the chance of a coin. `chance` is that of at most
    # `outside` heads; one more value may be cut off at either end while it stays under 2.5 %.
    outside, chance = 0, 2.0 ** -len(ranked)
    while (chance := chance + math.comb(len(ranked), outside + 1) * 2.0 ** -len(ranked)) <= 0.025:
        outside += 1
    return {
        "median": median,
        "interval_low": ranked[outside],
        "interval_high": ranked[-1 - outside],
        "lower_quartile": low,
        "upper_quartile": high,
        "minimum": ranked[0],
        "maximum": ranked[-1],
    }


def verdict(row: Row, ratio: dict[str, float], aim: float | None) -> str:
    """Compare the median with the marks; the module's docstring defines the words."""

    def reaches(value: float, mark: float) -> bool:
        return value <= mark if row.less_is_better else value >= mark

    at_least, median = row.at_least.here * (1 - row.tolerance), ratio["median"]
    if reaches(median, at_least):
        return "aim" if aim is not None and not row.aim_note and reaches(median, aim) else "pass"
    slack = UNCLEAR_MARGIN if row.less_is_better else -UNCLEAR_MARGIN
    better_end = ratio["interval_low" if row.less_is_better else "interval_high"]
    if reaches(median, at_least * (1 + slack)) and reaches(better_end, at_least):
        return "unclear"
    return "short"


def report_row(
    row: Row, contenders: Sequence[Contender], samples: Samples, errors: dict[str, str]
) -> dict[str, Any]:
    """Reduce the samples to one row of the report."""
    values = {name: [one[row.metric] for one in taken] for name, taken in samples.items()}

    def ratios_of(name: str) -> list[float]:
        pairs = zip(values.get(REFERENCE, ()), values.get(name, ()), strict=False)
        return [mine / base if row.less_is_better else base / mine for base, mine in pairs]

    aim = row.aim.here if row.aim else None
    if aim is None and (floor_ratios := ratios_of("floor")):
        aim = statistics.median(floor_ratios)
    columns: dict[str, Any] = {}
    for name in [*(one.name for one in contenders), "floor"]:
        if name in errors:
            columns[name] = {"error": errors[name]}
        elif name in values:
            columns[name] = {"value": summary(values[name]), "samples": values[name]}
            if ratios := ratios_of(name):
                columns[name]["ratio"] = summary(ratios)
    ratio = columns.get(contenders[1].name, {}).get("ratio")
    return {
        "name": row.name,
        "title": row.title,
        "unit": "bytes" if row.unit == "B" else "seconds",
        "less_is_better": row.less_is_better,
        "tolerance": row.tolerance,
        "at_least": row.at_least.here,
        "aim": aim,
        "aim_note": row.aim_note,
        "verdict": verdict(row, ratio, aim) if ratio else "error",
        "executors": columns,
    }


def describe_environment() -> dict[str, Any]:
    gil_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    versions = {}
    for distribution in ("tokengate_executor", "psutil", "pebble", "more-executors"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[distribution] = importlib.metadata.version(distribution)
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "gil_enabled": gil_enabled(),
        "switch_interval_seconds": sys.getswitchinterval(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "installed": versions,
    }


def make_report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen rows on this interpreter."""
    contenders = load_contenders(arguments.candidate)
    if arguments.only_pair:
        contenders = contenders[:2]
    environment = describe_environment()
    started = datetime.datetime.now(datetime.UTC)
    chosen = [row for row in ROWS if row.name in arguments.rows]
    taken: dict[str, tuple[Samples, dict[str, str]]] = {}
    for row in chosen:
        if row.measurement not in taken:
            taken[row.measurement] = measure(row.measurement, contenders, arguments)
    return {
        "started": started.isoformat(timespec="seconds"),
        "environment": environment,
        "reference": REFERENCE,
        "candidate": contenders[1].name,
        "further": [contender.name for contender in contenders[2:]],
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "one_cpu": arguments.one_cpu,
        "rows": [report_row(row, contenders, *taken[row.measurement]) for row in chosen],
    }


# ── the table ────────────────────────────────────────────────────────────────────────────────────

SCALES = {"ms": (1e3, ".1f"), "µs": (1e6, ".1f"), "B": (1.0, ".0f")}


def format_table(report: dict[str, Any], markdown: bool) -> str:
    """Lay the report out, for a terminal or as a Markdown table."""
    candidate, further = report["candidate"], report["further"]
    header = ["row", "ratio", "95 %", "quartiles", "at least", "aim", "verdict"]
    header += [REFERENCE, candidate, *further]
    lines = [header] + [format_row(report, row) for row in report["rows"]]
    environment = report["environment"]
    size = "quick sizes, " if report["quick"] else ""
    size += "on one CPU, " if report["one_cpu"] else ""
    threading_model = "" if environment["gil_enabled"] else " free-threaded"
    title = (
        f"{environment['implementation']} {environment['python']}{threading_model}, "
        f"{environment['cpus']} CPUs, {size}rounds: {report['rounds']}, candidate: {candidate}"
    )
    if markdown:
        rule = ["---"] + ["---:"] * (len(header) - 1)
        body = ["| " + " | ".join(cells) + " |" for cells in [header, rule, *lines[1:]]]
        return "\n".join([title, "", *body])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    body = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in lines
    ]
    notes = [f"{row['title']}: {row['aim_note']}" for row in report["rows"] if row["aim_note"]]
    notes += [
        f"{row['title']}: {name}: {column['error'].splitlines()[0]}"
        for row in report["rows"]
        for name, column in row["executors"].items()
        if "error" in column
    ]
    notes.append("further columns: their ratio to the reference, made as the candidate's is")
    return "\n".join([title, body[0], "─" * len(body[0]), *body[1:], *notes])


def format_row(report: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Return one row's cells."""
    unit = next(one.unit for one in ROWS if one.name == row["name"])
    scale, digits = SCALES[unit]
    columns = row["executors"]

    def ratio_cells(name: str) -> list[str]:
        ratio = columns.get(name, {}).get("ratio")
        if ratio is None:
            return ["error" if "error" in columns.get(name, {}) else "-", "-", "-"]
        return [
            f"{ratio['median']:.2f}",
            f"{ratio['interval_low']:.2f}-{ratio['interval_high']:.2f}",
            f"{ratio['lower_quartile']:.2f}-{ratio['upper_quartile']:.2f}",
        ]

    def value_cell(name: str) -> str:
        value = columns.get(name, {}).get("value")
        return f"{value['median'] * scale:{digits}} {unit}" if value else "-"

    sign = "≤ " if row["less_is_better"] else ""
    return [
        row["title"],
        *ratio_cells(report["candidate"]),
        f"{sign}{row['at_least']:g}",
        "-" if row["aim"] is None else f"{sign}{row['aim']:.3g}",
        row["verdict"],
        value_cell(REFERENCE),
        value_cell(report["candidate"]),
        *[ratio_cells(name)[0] for name in report["further"]],
    ]


# ── command line ─────────────────────────────────────────────────────────────────────────────────


def check_interpreter(path: str) -> None:
    """Raise UsageError unless the interpreter can run this script and the package."""
    imports = ", ".join(REQUIRED_MODULES)
    probe = f"import sys; assert sys.version_info >= (3, 11), 'older than 3.11'; import {imports}"
    try:
        finished = subprocess.run([path, "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"--python {path}: {error.strerror or error}") from error
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["it failed without a message"])[-1]
        raise UsageError(f"--python {path}: {reason} (needed: Python 3.11 or later with {imports})")


def stay_on_one_cpu() -> None:
    """Pin the process, and so every thread it will start."""
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--one-cpu: this system cannot pin a process to a CPU")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def report_of_interpreter(path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run this script with another interpreter; its table goes to our standard output."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "report.json")
        command = [path, __file__, "--json", str(result)]
        command += ["--candidate", arguments.candidate, "--rows", ",".join(arguments.rows)]
        command += ["--rounds", str(arguments.rounds)]
        command += ["--hang-seconds", str(arguments.hang_seconds)]
        for flag in ("quick", "quiet", "markdown", "only_pair", "one_cpu"):
            if getattr(arguments, flag):
                command.append("--" + flag.replace("_", "-"))
        status = subprocess.run(command, check=False).returncode
        if status or not result.exists():
            raise UsageError(f"--python {path}: ended with status {status} and without a report")
        report: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))["reports"][0]
        return report


def row_names(text: str) -> list[str]:
    """Parse ``--rows``."""
    known = [row.name for row in ROWS]
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        given = ", ".join(unknown) or "nothing"
        raise argparse.ArgumentTypeError(f"got {given}; rows are {', '.join(known)}")
    return names


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def parse_arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line and fill in the default of ``--rounds``."""
    parser = argparse.ArgumentParser(
        description="Measure an executor against ThreadPoolExecutor, side by side.",
        epilog="rows: " + ", ".join(row.name for row in ROWS),
    )
    add = parser.add_argument
    add("--candidate", default=DEFAULT_CANDIDATE, metavar="MODULE:FACTORY")
    add("--rows", type=row_names, default=[row.name for row in ROWS], metavar="A,B,…")
    add("--rounds", type=positive, help="default 9, with --quick 3; memory takes at most 3")
    add("--quick", action="store_true", help="less work and 3 rounds, to try things out")
    add("--only-pair", action="store_true", help="leave the further columns out")
    add("--one-cpu", action="store_true", help="pin the whole process to one CPU")
    add("--python", action="append", default=[], metavar="PATH", help="may be repeated")
    add("--json", type=Path, metavar="PATH", help="write everything, samples included")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--check", action="store_true", help="exit with status 1 if a row is short")
    add("--quiet", action="store_true", help="no progress line")
    add("--hang-seconds", type=positive, default=300, help="end a sample that takes longer")
    add("--sample", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 9)
    return arguments


def print_one_sample(arguments: argparse.Namespace) -> None:
    """Answer ``take_sample_in_process`` of the parent process."""
    contender_name, measurement_name, size = json.loads(arguments.sample)
    contender = {one.name: one for one in load_contenders(arguments.candidate)}[contender_name]
    metrics = take_sample(contender, MEASUREMENTS[measurement_name], size, arguments.hang_seconds)
    print(json.dumps(metrics))


def main(given: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    arguments = parse_arguments(given)
    # The package beside this script is measured, installed or not.
    sys.path.insert(0, str(REPOSITORY))
    try:
        if arguments.sample:
            print_one_sample(arguments)
            return 0
        for path in arguments.python or [sys.executable]:
            check_interpreter(path)
        if arguments.python:
            reports = [report_of_interpreter(path, arguments) for path in arguments.python]
        else:
            if arguments.one_cpu:
                stay_on_one_cpu()
            reports = [make_report(arguments)]
            print(format_table(reports[0], arguments.markdown), end="\n\n")
        if arguments.json:
            text = json.dumps({"schema": 1, "reports": reports}, indent=1)
            arguments.json.write_text(text + "\n", encoding="utf-8")
    except (UsageError, OSError) as error:
        print(f"side_by_side: {error}", file=sys.stderr)
        return 2
    verdicts = {row["verdict"] for report in reports for row in report["rows"]}
    return 1 if arguments.check and verdicts & {"short", "error"} else 0


if __name__ == "__main__":
    sys.exit(main())
