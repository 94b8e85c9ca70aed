"""Take the samples, in rounds.

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
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import functools
import gc
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .contenders import Call, Contender, Pool
from .relaunch import take_sample_in_process
from .rows import MEASUREMENTS, Measurement
from .workloads import Metrics

MOST_MEMORY_ROUNDS = 3  # fresh processes repeat each other within a few per cent

Samples = dict[str, list[Metrics]]


@contextlib.contextmanager
def warm_pool(contender: Contender, measurement: Measurement, size: int) -> Iterator[Pool]:
    """Start the executor, bring all its workers up, and try the workload once, smaller."""
    pool = contender.start(measurement.workers)
    try:
        pool.read_all(meet_all_workers(pool.submit, measurement.workers))
        ran: list[int] = []
        pool.read_all([pool.submit(functools.partial(ran.append, 1)) for _ in range(100)])
        if len(ran) != 100:
            raise RuntimeError(f"{contender.name} ran {len(ran)} of 100 calls")
        measurement.run(pool, max(size // 10, 20))
        yield pool
    finally:
        pool.stop()


def meet_all_workers(submit: Callable[[Call], Any], workers: int) -> list[Any]:
    """Have each worker take a call that waits for all others; return what was submitted."""
    everyone = threading.Barrier(workers + 1)
    meeting = functools.partial(everyone.wait, timeout=30)
    arrivals = [submit(meeting) for _ in range(workers)]
    meeting()
    return arrivals


@contextlib.contextmanager
def ending_if_it_hangs(seconds: int) -> Iterator[None]:
    """End the process, with the stacks of all threads, if the block takes longer."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def take_sample(
    contender: Contender, measurement: Measurement, size: int, hang_seconds: int
) -> Metrics:
    """Measure one executor once, in this process; end the process if it hangs."""
    with ending_if_it_hangs(hang_seconds), warm_pool(contender, measurement, size) as pool:
        gc.collect()
        return measurement.run(pool, size)


def order_of_round(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Keep the reference and the candidate side by side; turn both groups round each time."""
    step = -1 if number % 2 else 1
    return [*contenders[:2][::step], *contenders[2:][::step]]


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
