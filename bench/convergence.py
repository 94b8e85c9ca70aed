"""Measure executors that adapt their number of workers against every fixed number.

    python bench/convergence.py                             every load, this interpreter
    python bench/convergence.py --quick --rows changing
    python bench/convergence.py --python A --python B --json convergence.json --check
    python bench/convergence.py --record traces.json        what the rule saw, for its tests

``comparison/adaptive_loads`` says what the loads are.

How each number is made
    A *sample* is one executor that runs the whole job of a load: the time from the first submit to the
    last result. Fixed sizes have 1, 2, 4, 8, 16 or 32 workers and one lane; the adaptive one has
    ``ConvergencePolicy()``, at most 32 workers, and starts with one each time, so what it takes to find
    the right size is in its time. A job that takes over 2.5 times as long as it should is given up.

    A *round* takes a sample of each, forwards and backwards in turn. Sizes that took over 1.3 times as
    long as the best in the first round are left out of the others. The *best* is the fixed size with the
    lowest median; it is known only afterwards, and of six sizes the luckiest is taken, so the comparison
    is to the advantage of the fixed ones. Each round gives one ratio, adaptive / best; the table has the
    median.

What the numbers cannot show
    *others* is how many cores other processes used meanwhile. Where it is more than a tenth, times of
    GIL-bound and GIL-releasing calls are those of whoever got the cores: a process with more threads
    that want to run gets more of them, so large sizes look better than they are, and what a trial tells
    is in part the noise of the neighbours. Measure on a quiet machine, or with ``--patience 60``: each
    sample then waits up to a minute until others use less than 0.2 cores, and of those that were
    disturbed all the same the one is taken that was disturbed least.

Exit status: 0 if it measured, whatever it found; with `--check` 1 if a row is short or in error; 2 for
unusable arguments or interpreters.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from comparison import UsageError
from comparison.adaptive_loads import (
    LOADS,
    MOST,
    SIZES,
    Load,
    OtherProcesses,
    make_job,
    take_sample,
)
from comparison.command_line import make_parser, refuse, run
from comparison.contenders import Call
from comparison.measuring import ending_if_it_hangs, progress
from comparison.report import describe_environment, summary
from comparison.rows import judge
from comparison.table import lay_out, title_of

from tokengate_executor import ConvergencePolicy, TokenGateExecutor
from tokengate_executor.policies.convergence import Controller, Decision, Sample

T = TypeVar("T", bound=Any)

ADAPTIVE = "adaptive"
GIVEN_UP_AFTER = 2.5
LEFT_OUT_FROM = 1.3
QUIET_CORES = 0.2

Samples = dict[str, list[dict[str, float]]]


def start(name: str) -> TokenGateExecutor:
    if name == ADAPTIVE:
        return TokenGateExecutor(MOST, convergence=ConvergencePolicy())
    return TokenGateExecutor(int(name), lanes=1)


def measure(load: Load, arguments: argparse.Namespace) -> Samples:
    """Run all rounds of one load."""
    job = make_job(load, arguments.seconds)
    samples: Samples = collections.defaultdict(list)
    taking_part = [*map(str, SIZES[::-1]), ADAPTIVE]
    for number in range(arguments.rounds):
        for name in taking_part[:: -1 if number % 2 else 1]:
            progress(arguments, f"{load.name}: round {number + 1} of {arguments.rounds}, {name}")
            begin = functools.partial(start, name)
            samples[name].append(take_quiet_sample(begin, job, arguments)[0])
        least = min(seconds_of(samples[name]) for name in taking_part if name != ADAPTIVE)
        taking_part = [
            name
            for name in taking_part
            if name == ADAPTIVE or seconds_of(samples[name]) <= LEFT_OUT_FROM * least
        ]
    progress(arguments, "")
    return samples


def take_quiet_sample(
    begin: Callable[[], T], job: list[Call], arguments: argparse.Namespace
) -> tuple[dict[str, float], T]:
    """Take a sample, again and again while others disturb it and there is patience left.

    Returns it, and the executor that it was taken of.
    """
    begun = time.perf_counter()
    best: tuple[dict[str, float], T] | None = None
    while True:
        left = begun + arguments.patience - time.perf_counter()
        wait_for_quiet(left)
        gc.collect()
        with ending_if_it_hangs(arguments.hang_seconds):
            executor = begin()
            sample = take_sample(executor, job, GIVEN_UP_AFTER * arguments.seconds)
        if best is None or sample["others_cores"] < best[0]["others_cores"]:
            best = sample, executor
        if best[0]["others_cores"] <= QUIET_CORES or left <= 0:
            return best


def wait_for_quiet(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        others = OtherProcesses()
        time.sleep(0.5)
        if others.cores() <= QUIET_CORES:
            return


def seconds_of(samples: list[dict[str, float]]) -> float:
    return statistics.median(sample["seconds"] for sample in samples)


def report_row(load: Load, arguments: argparse.Namespace) -> dict[str, Any]:
    samples = measure(load, arguments)
    fixed = {
        name: taken
        for name, taken in samples.items()
        if name != ADAPTIVE and len(taken) == arguments.rounds
    }
    best = min(fixed, key=lambda name: seconds_of(fixed[name]))
    pairs = zip(samples[ADAPTIVE], fixed[best], strict=True)
    ratio = summary([one["seconds"] / other["seconds"] for one, other in pairs])
    everything = [sample for taken in samples.values() for sample in taken]
    return {
        "name": load.name,
        "title": load.title,
        "at_most": load.at_most,
        "reason": load.reason,
        "best": best,
        "ratio": ratio,
        "others_cores": statistics.median(sample["others_cores"] for sample in everything),
        "verdict": judge(ratio, load.at_most, less_is_better=True),
        "samples": samples,
    }


def make_report(arguments: argparse.Namespace) -> dict[str, Any]:
    environment = describe_environment()
    started = datetime.datetime.now(datetime.UTC)
    chosen = [load for load in LOADS if load.name in arguments.rows]
    return {
        "started": started.isoformat(timespec="seconds"),
        "environment": environment,
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "seconds": arguments.seconds,
        "rows": [report_row(load, arguments) for load in chosen],
    }


def format_table(report: dict[str, Any], markdown: bool) -> str:
    sizes = [str(size) for size in SIZES]
    header = ["load", "ratio", "range", "at most", "verdict", "others", ADAPTIVE, *sizes]
    lines = [header] + [format_row(row, sizes) for row in report["rows"]]
    notes = [
        "times are medians, in seconds; * the best fixed size; > given up, and at least so long",
        "ratio: adaptive / best; others: cores that other processes used meanwhile",
    ]
    return "\n".join([title_of(report), "", *lay_out(lines, markdown=markdown), "", *notes])


def format_row(row: dict[str, Any], sizes: list[str]) -> list[str]:
    def time_cell(name: str) -> str:
        taken = row["samples"][name]
        is_whole = all(sample["done"] == 1 for sample in taken)
        mark = "" if is_whole else ">"
        return f"{mark}{seconds_of(taken):.2f}{'*' if name == row['best'] else ''}"

    ratio = row["ratio"]
    return [
        row["title"],
        f"{ratio['median']:.2f}",
        f"{ratio['minimum']:.2f}-{ratio['maximum']:.2f}",
        f"{row['at_most']:g}",
        row["verdict"],
        f"{row['others_cores']:.2f}",
        *[time_cell(name) for name in (ADAPTIVE, *sizes)],
    ]


class Recorder:
    """Stands before the rule, and writes down what it is told and what it says."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.looks: list[dict[str, Any]] = []

    def next(self, sample: Sample) -> Decision:
        decision = self.controller.next(sample)
        self.looks.append({**asdict(sample), "wanted": decision.wanted})
        return decision


def start_recorded() -> TokenGateExecutor:
    executor = start(ADAPTIVE)
    pacer: Any = executor._pacer
    pacer._controller = Recorder(pacer._controller)
    return executor


def record(load: Load, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a job adaptively; return what the rule saw."""
    job: list[Call] = make_job(load, arguments.seconds)
    sample, executor = take_quiet_sample(start_recorded, job, arguments)
    pacer: Any = executor._pacer
    for look in pacer._controller.looks:
        look.update({name: round(look[name], 6) for name in look if name.endswith("seconds")})
    return {
        "name": load.name,
        "python": platform.python_version(),
        "cores": pacer._cores,
        "others_cores": round(sample["others_cores"], 2),
        "looks": pacer._controller.looks,
    }


def write_traces(arguments: argparse.Namespace) -> None:
    """Write what the rule sees, a line for each look; traces of other loads in the file stay."""
    path: Path = arguments.record
    traces = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for load in LOADS:
        if load.name in arguments.rows:
            traces[load.name] = record(load, arguments)
    text = json.dumps(traces, indent=None, separators=(", ", ": "))
    for before_a_line in ('{"seconds": ', '{"name": '):
        text = text.replace(before_a_line, "\n" + before_a_line)
    path.write_text(text + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(
        "Measure executors that adapt their number of workers against every fixed number.",
        [load.name for load in LOADS],
        "default 3, with --quick 1",
    )
    parser.add_argument(
        "--seconds", type=float, help="what a job takes at its best; default 4, with --quick 2"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for a quiet moment, and take a sample that was disturbed again; default 0",
    )
    parser.add_argument("--record", type=Path, metavar="PATH", help="only write what the rule sees")
    arguments = parser.parse_args()
    if arguments.python and (arguments.seconds or arguments.patience or arguments.record):
        parser.error(
            "--seconds, --patience and --record are for one interpreter: start this with it"
        )
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.seconds = arguments.seconds or (2.0 if arguments.quick else 4.0)
    return arguments


def main() -> int:
    """Run from the command line; return the exit status."""
    try:
        arguments = parse_arguments()
        if arguments.record:
            write_traces(arguments)
            return 0
        return run(arguments, make_report, format_table)
    except (UsageError, OSError) as error:
        return refuse(error)


if __name__ == "__main__":
    sys.exit(main())
