"""Write the page of the documentation that shows the measurements, from what they wrote as JSON.

    python bench/side_by_side.py --only-pair --json docs/measured/side_by_side.json
    python bench/performance_page.py

The page says nothing that is not in the JSON but what each figure is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

DOCS: Final = Path(__file__).parents[1] / "docs"
MEASURED: Final = DOCS / "measured" / "side_by_side.json"
PAGE: Final = DOCS / "performance.md"

INTRODUCTION: Final = """\
# Performance

Made by `bench/performance_page.py` from `docs/measured/`; do not edit.

Each work is done by `ThreadPoolExecutor` and by `TokenGateExecutor` in turns, in one process. What is
shown is the median of the ratios of neighbouring rounds, with the interval that holds the true median
in 95 of 100 cases. 4 × means four times as fast; for memory, 0.25 × means a quarter of the bytes.
*At least* and *aim* are what the project asks of itself. Everything that is on by default is on:
contexts, statistics, history.
"""

READING: Final = """\
## How to read it

- Two CPUs, shared with others: read the intervals, not the digits.
- *One at a time* is a round trip: submit a call, wait for its result. It is what two threads need to
  wake each other, and where the system puts them; on one CPU (`--one-cpu`) ours is a little faster than
  the standard library's, on two a little slower.
- Sleeping calls, and calls that release the GIL, take as long as they take: there the executor is no
  help and must be no hindrance.

Reproduce it with `make bench`; `bench/README.md` says how.
"""


def page(measured: dict[str, Any]) -> str:
    """Return the text of the page."""
    sections = [INTRODUCTION]
    sections += [_section(report) for report in measured["reports"]]
    return "\n".join([*sections, READING])


def _section(report: dict[str, Any]) -> str:
    environment = report["environment"]
    system = environment["system"].split("-")[0]
    lines = [
        f"## {environment['implementation']} {environment['python']}",
        "",
        f"{report['started'][:10]}, {report['rounds']} rounds, {environment['cpus']} CPUs, {system}.",
        "",
        "| work | ratio | 95 % | at least | aim |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [_row(row, report["candidate"]) for row in report["rows"]]
    return "\n".join([*lines, ""])


def _row(row: dict[str, Any], candidate: str) -> str:
    ratio = row["executors"][candidate]["ratio"]
    at_least, aim = (f"{row[name]:g} ×" if row[name] else "" for name in ("at_least", "aim"))
    interval = f"{ratio['interval_low']:.2f} to {ratio['interval_high']:.2f}"
    return f"| {row['title']} | {ratio['median']:.2f} × | {interval} | {at_least} | {aim} |"


if __name__ == "__main__":
    written = page(json.loads(MEASURED.read_text(encoding="utf-8")))
    if sys.argv[1:] == ["--check"]:
        sys.exit(PAGE.read_text(encoding="utf-8") != written)
    PAGE.write_text(written, encoding="utf-8")
