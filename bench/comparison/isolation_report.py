"""From the cases of ``isolation.py`` to its report and table."""

from __future__ import annotations

import argparse
import collections
import datetime
import gc
from typing import Any

from .contenders import REFERENCE
from .isolation_rows import RATIOS, IsolationRow, make_rows
from .measuring import ending_if_it_hangs, progress
from .report import describe_environment, summary
from .rows import judge
from .table import SCALES, lay_out, title_of
from .workloads import nine_megabytes

FURTHER_RATIOS = {"price": "alone/plain", "stdlib": "stdlib ratio", "pools": "two pools"}
VALUES = {
    "beside": "beside",
    "alone": "alone",
    "plain": "plain",
    "stdlib_beside": "stdlib beside",
    "stdlib_alone": "stdlib alone",
}


def measure_row(
    row: IsolationRow, arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Run all rounds of a row; return samples and errors by case.

    A round takes a sample of each case, each on an executor of its own, forwards and backwards in
    turn, so that those whose ratio is taken stand next to each other and swap places.
    """
    samples: dict[str, list[float]] = collections.defaultdict(list)
    errors: dict[str, str] = {}
    rounds = arguments.rounds * row.repeats
    for number in range(rounds):
        for name in list(row.cases)[:: -1 if number % 2 else 1]:
            if name in errors:
                continue
            progress(arguments, f"{row.name}: round {number + 1} of {rounds}, {name}")
            case = row.cases[name]
            try:
                with ending_if_it_hangs(arguments.hang_seconds), case.scene() as submit:
                    gc.collect()
                    seconds = case.sample(submit)
            # One case's failure must not cost the others.
            except Exception as error:
                errors[name] = f"{type(error).__name__}: {error}"
            else:
                samples[name].append(seconds)
    progress(arguments, "")
    return samples, errors


def report_row(row: IsolationRow, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a row and reduce it to medians and intervals."""
    samples, errors = measure_row(row, arguments)
    cases: dict[str, Any] = {
        name: {"value": summary(taken), "samples": taken} for name, taken in samples.items()
    }
    cases |= {name: {"error": text} for name, text in errors.items()}
    ratios = {
        name: summary([a / b for a, b in zip(samples[above], samples[below], strict=True)])
        for name, (above, below) in RATIOS.items()
        if {above, below} <= samples.keys() - errors.keys()
    }
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "at_most": row.at_most,
        "reason": row.reason,
        "verdict": verdict(row, ratios),
        "ratios": ratios,
        "cases": cases,
    }


def verdict(row: IsolationRow, ratios: dict[str, dict[str, float]]) -> str:
    """Compare the ratio with what it may be; `isolation_rows` defines the words."""
    if "ratio" not in ratios:
        return "error"
    if row.at_most is None:
        return "-"
    judged = judge(ratios["ratio"], row.at_most, less_is_better=True)
    pools = ratios.get("pools")
    if judged == "short" and pools and judge(pools, row.at_most, less_is_better=True) != "pass":
        return "unclear"
    return judged


def make_report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen rows on this interpreter."""
    environment = describe_environment()
    started = datetime.datetime.now(datetime.UTC)
    nine_megabytes()
    rows = [row for row in make_rows(quick=arguments.quick) if row.name in arguments.rows]
    return {
        "started": started.isoformat(timespec="seconds"),
        "environment": environment,
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "rows": [report_row(row, arguments) for row in rows],
    }


def format_table(report: dict[str, Any], markdown: bool) -> str:
    """Lay the report out, for a terminal or as a Markdown table."""
    header = ["row", "ratio", "95 %", "at most", "verdict"]
    lines = [[*header, *FURTHER_RATIOS.values(), *VALUES.values()]]
    lines += [format_row(row) for row in report["rows"]]
    body = [title_of(report), *([""] if markdown else []), *lay_out(lines, markdown=markdown)]
    if markdown:
        return "\n".join(body)
    body.append(f"stdlib: {REFERENCE}; two pools: one of these for each kind of call")
    for reason in dict.fromkeys(row["reason"] for row in report["rows"]):
        titles = [row["title"] for row in report["rows"] if row["reason"] == reason]
        body.append(f"stdlib: {reason}: {'; '.join(titles)}")
    body += [
        f"{row['title']}: {name}: {case['error']}"
        for row in report["rows"]
        for name, case in row["cases"].items()
        if "error" in case
    ]
    return "\n".join(body)


def format_row(row: dict[str, Any]) -> list[str]:
    """Return one row's cells."""
    scale, digits = SCALES[row["unit"]]

    def ratio_cell(name: str) -> str:
        return f"{row['ratios'][name]['median']:.2f}" if name in row["ratios"] else "-"

    def value_cell(name: str) -> str:
        case = row["cases"].get(name, {})
        if "error" in case:
            return "error"
        return f"{case['value']['median'] * scale:{digits}} {row['unit']}" if case else "-"

    ratio = row["ratios"].get("ratio")
    return [
        row["title"],
        ratio_cell("ratio"),
        f"{ratio['interval_low']:.2f}-{ratio['interval_high']:.2f}" if ratio else "-",
        f"≤ {row['at_most']:g}" if row["at_most"] else "-",
        row["verdict"],
        *[ratio_cell(name) for name in FURTHER_RATIOS],
        *[value_cell(name) for name in VALUES],
    ]
