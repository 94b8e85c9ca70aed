"""Measure an executor against ``concurrent.futures.ThreadPoolExecutor``, side by side.

    python bench/side_by_side.py                          every row, this interpreter
    python bench/side_by_side.py --quick --rows fan_out_4,map
    python bench/side_by_side.py --python A --python B --json costs.json --check
    python bench/side_by_side.py --candidate concurrent.futures:ThreadPoolExecutor

The parts are in ``comparison/``: ``measuring`` says how each number is made, ``rows`` what each row
is and what the verdicts mean, ``contenders`` which executors take part.

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
import json
import os
import sys

from comparison import UsageError
from comparison.command_line import make_parser, refuse, run
from comparison.contenders import DEFAULT_CANDIDATE, load_contenders
from comparison.measuring import take_sample
from comparison.report import make_report
from comparison.rows import MEASUREMENTS, ROWS
from comparison.table import format_table


def stay_on_one_cpu() -> None:
    """Pin the process, and so every thread it will start."""
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--one-cpu: this system cannot pin a process to a CPU")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def parse_arguments() -> argparse.Namespace:
    """Parse the command line and fill in the default of ``--rounds``."""
    parser = make_parser(
        "Measure an executor against ThreadPoolExecutor, side by side.",
        [row.name for row in ROWS],
        "default 9, with --quick 3; memory takes at most 3",
    )
    add = parser.add_argument
    add("--candidate", default=DEFAULT_CANDIDATE, metavar="MODULE:FACTORY")
    add("--only-pair", action="store_true", help="leave the further columns out")
    add("--one-cpu", action="store_true", help="pin the whole process to one CPU")
    add("--sample", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 9)
    return arguments


def print_one_sample(arguments: argparse.Namespace) -> None:
    """Answer ``take_sample_in_process`` of the parent process."""
    contender_name, measurement_name, size = json.loads(arguments.sample)
    contender = {one.name: one for one in load_contenders(arguments.candidate)}[contender_name]
    metrics = take_sample(contender, MEASUREMENTS[measurement_name], size, arguments.hang_seconds)
    print(json.dumps(metrics))


def main() -> int:
    """Run from the command line; return the exit status."""
    arguments = parse_arguments()
    try:
        if arguments.sample:
            print_one_sample(arguments)
            return 0
        if arguments.one_cpu and not arguments.python:
            stay_on_one_cpu()
        return run(arguments, make_report, format_table)
    except (UsageError, OSError) as error:
        return refuse(error)


if __name__ == "__main__":
    sys.exit(main())
