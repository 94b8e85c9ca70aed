"""The command ``topology``: the CPUs, and how an executor would lie on them.

Exit statuses: 0 for success, 2 for a wrong command line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.cli_arguments import whole_number
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.terminal_text import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tokengate_executor.policies.topology import Topology
    from tokengate_executor.policies.weights import AffinityPolicy

__all__ = ["fill_topology"]

_MOST_WORKERS: Final = 10_000

_HEADINGS: Final = ("LANE", "CPUS", "WORKERS", "WEIGHTS THAT MAY RUN THERE")


def fill_topology(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments; it sets ``run``, a function from arguments to exit status."""
    parser.description = (
        "Show the CPUs of the machine and the part of them that this process may use (affinity mask "
        "and CPU quota of control groups respected), and the lanes and the affinity policy that "
        "TokenGateExecutor(max_workers=N) would have here. No thread is started."
    )
    parser.epilog = "exit status: 0 for success, 2 for a wrong command line"
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, _MOST_WORKERS),
        help=f"max_workers of the executor, 1 to {_MOST_WORKERS} (default: what it takes when it is "
        "not told)",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with TokenGateExecutor(arguments.workers) as executor:
        topology, policy = executor.topology, executor.policy
        statistics = executor.statistics()
    workers = statistics.max_workers
    lanes = [
        {
            "number": lane.number,
            "cpus": list(lane.cpus),
            "workers": _dealt(workers, lane.number, policy.lanes),
            "weights": list(policy.weights_of(lane.number)),
        }
        for lane in statistics.lanes
    ]
    if arguments.json:
        say(json.dumps(_as_json(topology, policy, workers, lanes), indent=2))
        return 0
    say(str(topology))
    say()
    say(f"An executor with {_counted(workers, 'worker')} has {_counted(policy.lanes, 'lane')}:")
    _say_lanes(lanes)
    say()
    say(str(policy))
    say("  Unweighted calls may run on any lane.")
    return 0


def _dealt(workers: int, number: int, lanes: int) -> int:
    """How many workers a lane gets: they are dealt in turn."""
    return len(range(number - 1, workers, lanes))


def _as_json(
    topology: Topology, policy: AffinityPolicy, workers: int, lanes: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "machine": {
            "logical_cpus": topology.logical_cpus,
            "physical_cores": topology.physical_cores,
            "smt": topology.smt,
        },
        "process": {
            "usable_cpus": topology.usable_cpus,
            "cores": topology.cores,
            "cpu_quota": topology.quota,
            "usable_cores": topology.usable_cores,
        },
        "executor": {
            "max_workers": workers,
            "lanes": lanes,
            "policy": {"heavy": policy.heavy, "medium": policy.medium, "light": policy.light},
        },
    }


def _say_lanes(lanes: Sequence[dict[str, Any]]) -> None:
    rows = [
        _HEADINGS,
        *(
            (
                str(lane["number"]),
                ",".join(map(str, lane["cpus"])),
                str(lane["workers"]),
                ", ".join([*lane["weights"], "unweighted"]),
            )
            for lane in lanes
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(f"  {'  '.join(cells)}".rstrip())


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
