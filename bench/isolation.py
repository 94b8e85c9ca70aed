"""Measure that what is full, paused, limited or floods does not delay other calls.

    python bench/isolation.py                             every row, this interpreter
    python bench/isolation.py --quick --rows paused,tenants
    python bench/isolation.py --python A --python B --json isolation.json --check

``comparison/isolation_rows`` says what each row is and what the verdicts mean, ``comparison/scenes``
what goes on beside the timed calls, ``comparison/isolation_report`` makes samples into the table.

How each number is made
    A *sample* is one executor, built, brought up, flooded, paused or filled, and then given the
    timed calls, one at a time: their median time from submit to result. After the last of them it
    is checked that the flood still runs and still waits, that all that was parked is parked, that
    the producers are still blocked; if not, the sample is an error. Then what waits is purged.

    A *round* takes one sample of each case of a row, in one process, forwards and backwards in turn.
    Each round gives one **ratio**, beside / alone: how much longer the calls take beside what must
    not delay them than on the same executor without it. The table has the medians, and the
    intervals of ``comparison/report``.

    *alone/plain* is what the governor costs where it delays nobody (in ``full_weight``: weights and
    a bound). *stdlib ratio* is ThreadPoolExecutor's own beside / alone, on as many workers; *two
    pools* that of two ThreadPoolExecutors, one for each kind of call, with half of the workers each:
    they share nothing but the interpreter and the machine, and no executor can isolate better.

What the numbers cannot show
    Two cores are what heavy and light calls share with each other and with the rest of the machine:
    with other load on it ``hashing_flood_hashes`` says how busy the machine is, and *two pools* says
    so, too. In single round trips of no-ops it matters more than anything else whether the system
    has both threads on one CPU (about 25 µs here) or not (about 40 µs): the rows made of them
    run on one CPU, where all that anybody does for a call is in its time. The medians leave out
    what happens once: sorting in the 10,000 as they arrive, and purging them. ``governor`` times
    no-ops; real work makes its ratio smaller. `--quick` is for trying things out.

Exit status: 0 if it measured, whatever it found; with `--check` 1 if a row is short or in error;
2 for unusable arguments or interpreters, or if `--python` names one that ends early. A sample that
hangs ends the run after `--hang-seconds`, with the stacks of all threads and status 1.
"""

from __future__ import annotations

import argparse
import sys

from comparison import UsageError
from comparison.command_line import make_parser, refuse, run
from comparison.isolation_report import format_table, make_report
from comparison.isolation_rows import make_rows


def parse_arguments() -> argparse.Namespace:
    """Parse the command line and fill in the default of ``--rounds``."""
    parser = make_parser(
        "Measure that what is full, paused, limited or floods does not delay other calls.",
        [row.name for row in make_rows(quick=False)],
        "default 9, with --quick 3; some rows take twice or four times as many",
    )
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 9)
    return arguments


def main() -> int:
    """Run from the command line; return the exit status."""
    try:
        return run(parse_arguments(), make_report, format_table)
    except (UsageError, OSError) as error:
        return refuse(error)


if __name__ == "__main__":
    sys.exit(main())
