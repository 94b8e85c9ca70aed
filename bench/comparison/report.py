"""From samples to a report: ratios and absolute figures, with their intervals, as plain data."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import math
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .contenders import REFERENCE, Contender, load_contenders
from .measuring import Samples, measure
from .rows import ROWS, Row, verdict


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
