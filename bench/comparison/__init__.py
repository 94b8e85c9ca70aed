"""The parts of ``side_by_side.py``.

In the order in which they build on each other:
    contenders  the executors, reduced to the same verbs
    workloads   what each of them has to do
    rows        how each workload is measured, what its ratio has to reach, the verdicts
    relaunch    the script started again: in a fresh process, in another interpreter
    measuring   rounds and samples: how each number is made
    report      from samples to ratios and intervals: what ``--json`` writes
    table       the report in print
"""


class UsageError(Exception):
    """The arguments or the chosen interpreter cannot be used; the text says why."""
