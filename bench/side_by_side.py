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
from pathlib import Path

from comparison import UsageError
from comparison.contenders import DEFAULT_CANDIDATE, load_contenders
from comparison.measuring import take_sample
from comparison.relaunch import check_interpreter, report_of_interpreter
from comparison.report import make_report
from comparison.rows import MEASUREMENTS, ROWS
from comparison.table import format_table

REPOSITORY = Path(__file__).resolve().parent.parent


def stay_on_one_cpu() -> None:
    """Pin the process, and so every thread it will start."""
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--one-cpu: this system cannot pin a process to a CPU")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


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


def parse_arguments() -> argparse.Namespace:
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
