"""The parts of ``side_by_side.py`` and ``isolation.py``.

In the order in which they build on each other:
    contenders       the executors, reduced to the same verbs
    workloads        what each of them has to do
    rows             how each workload is measured, what its ratio has to reach, the verdicts
    relaunch         the script started again: in a fresh process, in another interpreter
    measuring        rounds and samples: how each number is made
    report           from samples to ratios and intervals: what ``--json`` writes
    table            the report in print
    command_line     the arguments that the scripts have in common
And for ``isolation.py``, on top of these:
    scenes           executors that are flooded, paused, limited or full
    isolation_rows   what is timed in which of them, and how far it may be slower there
    isolation_report the rounds, their report, and the report in print
"""

import sys
from pathlib import Path

# The package beside these scripts is measured, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))


class UsageError(Exception):
    """The arguments or the chosen interpreter cannot be used; the text says why."""
