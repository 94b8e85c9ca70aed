"""Lay a report out, for a terminal or as Markdown."""

from __future__ import annotations

from typing import Any

from .contenders import REFERENCE
from .rows import ROWS

SCALES = {"ms": (1e3, ".1f"), "µs": (1e6, ".1f"), "B": (1.0, ".0f")}


def format_table(report: dict[str, Any], markdown: bool) -> str:
    """Lay the report out, for a terminal or as a Markdown table."""
    candidate, further = report["candidate"], report["further"]
    header = ["row", "ratio", "95 %", "quartiles", "at least", "aim", "verdict"]
    header += [REFERENCE, candidate, *further]
    lines = [header] + [format_row(report, row) for row in report["rows"]]
    title = f"{title_of(report)}, candidate: {candidate}"
    if markdown:
        return "\n".join([title, "", *lay_out(lines, markdown=True)])
    notes = [f"{row['title']}: {row['aim_note']}" for row in report["rows"] if row["aim_note"]]
    notes += [
        f"{row['title']}: {name}: {column['error'].splitlines()[0]}"
        for row in report["rows"]
        for name, column in row["executors"].items()
        if "error" in column
    ]
    notes.append("further columns: their ratio to the reference, made as the candidate's is")
    return "\n".join([title, *lay_out(lines, markdown=False), *notes])


def title_of(report: dict[str, Any]) -> str:
    """Say where and how the report was made."""
    environment = report["environment"]
    size = "quick sizes, " if report["quick"] else ""
    size += "on one CPU, " if report.get("one_cpu") else ""
    threading_model = "" if environment["gil_enabled"] else " free-threaded"
    return (
        f"{environment['implementation']} {environment['python']}{threading_model}, "
        f"{environment['cpus']} CPUs, {size}rounds: {report['rounds']}"
    )


def lay_out(lines: list[list[str]], *, markdown: bool) -> list[str]:
    """Lay cells out, the first line as the header; the first column is text, the others numbers."""
    header = lines[0]
    if markdown:
        rule = ["---"] + ["---:"] * (len(header) - 1)
        return ["| " + " | ".join(cells) + " |" for cells in [header, rule, *lines[1:]]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    body = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in lines
    ]
    return [body[0], "─" * len(body[0]), *body[1:]]


def format_row(report: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Return one row's cells."""
    unit = next(one.unit for one in ROWS if one.name == row["name"])
    scale, digits = SCALES[unit]
    columns = row["executors"]

    def ratio_cells(name: str) -> list[str]:
        ratio = columns.get(name, {}).get("ratio")
        if ratio is None:
            return ["error" if "error" in columns.get(name, {}) else "-", "-", "-"]
        return [
            f"{ratio['median']:.2f}",
            f"{ratio['interval_low']:.2f}-{ratio['interval_high']:.2f}",
            f"{ratio['lower_quartile']:.2f}-{ratio['upper_quartile']:.2f}",
        ]

    def value_cell(name: str) -> str:
        value = columns.get(name, {}).get("value")
        return f"{value['median'] * scale:{digits}} {unit}" if value else "-"

    sign = "≤ " if row["less_is_better"] else ""
    return [
        row["title"],
        *ratio_cells(report["candidate"]),
        f"{sign}{row['at_least']:g}",
        "-" if row["aim"] is None else f"{sign}{row['aim']:.3g}",
        row["verdict"],
        value_cell(REFERENCE),
        value_cell(report["candidate"]),
        *[ratio_cells(name)[0] for name in report["further"]],
    ]
