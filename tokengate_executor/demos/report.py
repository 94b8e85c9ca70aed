"""The corpus demo's report: what is compared, how it is summed up, how it is written."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from tokengate_executor.observe.dump import write_atomically

from .work import WORKS, JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokengate_executor import LaneStatistics


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the rows of one run.

    Attributes:
        files: number of rows.
        tasks: calls that were submitted.
        failed_tasks: calls that ended with an error.
        files_with_errors: rows with at least one error.
        errors_by_type: failed calls by the name of the error's class, most frequent first.
    """

    files: int
    tasks: int
    failed_tasks: int
    files_with_errors: int
    errors_by_type: dict[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where the rows of two runs differ, as indices into the rows.

    Attributes:
        changed: rows of files that were changed or removed meanwhile; they prove nothing.
        disagreeing: rows that differ although the file stayed the same.
    """

    changed: tuple[int, ...]
    disagreeing: tuple[int, ...]

    @property
    def agree(self) -> bool:
        """Whether the rows of all files that stayed the same are equal."""
        return not self.disagreeing


def sum_up(rows: Sequence[JsonObject]) -> Totals:
    """Return the sums over ``rows``."""
    tasks = files_with_errors = 0
    errors: Counter[str] = Counter()
    for row in rows:
        failed_before = errors.total()
        for work in WORKS:
            outcome = row[work.weight]
            assert isinstance(outcome, dict)
            if not work.suits(str(row["path"])):
                continue
            tasks += 1
            error = outcome.get("error")
            if isinstance(error, dict):
                errors[str(error["type"])] += 1
        files_with_errors += errors.total() > failed_before
    by_frequency = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
    return Totals(len(rows), tasks, errors.total(), files_with_errors, dict(by_frequency))


def compare_rows(
    first: Sequence[JsonObject],
    second: Sequence[JsonObject],
    *,
    has_changed: Callable[[int], bool],
) -> Comparison:
    """Compare the rows of two runs over the same files.

    Args:
        first: the rows of one run.
        second: the rows of the other.
        has_changed: told the index of a row that differs, says whether its file was changed
            since before the first run.
    """
    differing = [
        index for index, (one, other) in enumerate(zip_longest(first, second)) if one != other
    ]
    changed = tuple(index for index in differing if has_changed(index))
    return Comparison(changed, tuple(index for index in differing if index not in set(changed)))


def lane_as_json(lane: LaneStatistics) -> JsonObject:
    """Return what a lane has done, as reports tell it."""
    return {
        "number": lane.number,
        "cpus": [*lane.cpus],
        "workers": lane.workers,
        "started_by_weight": {**lane.started_by_weight},
        "completed": lane.completed,
        "failed": lane.failed,
        "stolen": lane.stolen,
        "busy_seconds": lane.busy_seconds,
        "waited_seconds": lane.waited_seconds,
    }


def write_report(path: str, report: JsonObject) -> None:
    """Write ``report`` as JSON so that ``path`` holds either what it held or all of the new report.

    Raises:
        OSError: the report cannot be written there.
    """
    write_atomically(path, json.dumps(report, indent=1, allow_nan=False) + "\n")


def why_not_writable(path: str) -> str | None:
    """Return why a report cannot be written to ``path``, or ``None`` if nothing speaks against it.

    To be asked before the work, whose result would be lost.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        return "it is a directory"
    if target.exists() and not target.is_file():
        # Replacing /dev/null by a file is what nobody wants.
        return "it exists and is not a regular file"
    if not target.parent.is_dir():
        return "its directory does not exist"
    if not os.access(target.parent, os.W_OK | os.X_OK):
        return "its directory is not writable"
    return None
