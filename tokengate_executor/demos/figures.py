"""What the corpus demo tells a person: heading, figures, the table of the lanes, notes."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

from .driver import TASKS_IN_FLIGHT
from .text import printable, write_line
from .work import WORKS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tokengate_executor import ExecutorStatistics, LaneStatistics

    from .driver import Run
    from .report import Comparison, Totals
    from .scan import Corpus

_LISTED_PATHS: Final = 5

_WHAT_THE_TIMES_SHOW: Final = """\
Both executors make the same calls with as many workers, and the calls take nearly all of the time:
parsing and counting need the interpreter lock (on builds that have one), hashing and LZMA are C
code outside it. So expect times that are about equal: what differs is the cost of the executors
themselves, some microseconds per task. Each runs once, one after the other, and whatever else the
machine does meanwhile counts: a few per cent are noise, on a busy machine far more. CPU seconds
suffer less from neighbours. The figures tell that the executor is no burden, not which is faster.
Every file is read once before the clock starts, so that neither run pays for a cold file cache."""


def write_heading(
    output: IO[str],
    corpus: Corpus,
    tasks: int,
    workers: int,
    left_out_directories: Collection[str],
) -> None:
    """Say what will be done and what the figures will mean."""
    write_line(output, f"TokenGate demo: {printable(corpus.root)}")
    left_out = ", ".join(sorted(left_out_directories))
    without = f"; without {left_out}" if left_out else ""
    write_line(
        output,
        f"{len(corpus.files)} files, {tasks} tasks, {workers} workers, "
        f"at most {TASKS_IN_FLIGHT} tasks in flight{without}",
    )
    write_line(output)
    write_line(output, _WHAT_THE_TIMES_SHOW)
    write_line(output)
    output.flush()


def write_figures(
    output: IO[str], plain: Run, ours: Run, totals: Totals, statistics: ExecutorStatistics
) -> None:
    """Write both times, the lanes' table and the sums."""
    for line in aligned(
        [
            ("executor", "seconds", "CPU s", "tasks/s"),
            *(
                (
                    run.executor,
                    f"{run.seconds:.2f}",
                    f"{run.cpu_seconds:.2f}",
                    f"{run.tasks_per_second:.0f}",
                )
                for run in (plain, ours)
            ),
        ]
    ):
        write_line(output, line)
    if ours.tasks:
        ratio = ours.seconds / plain.seconds
        write_line(output, f"{ours.executor} took {ratio:.2f} x the time of {plain.executor}.")
    write_line(output)
    for line in lanes_table(statistics.lanes):
        write_line(output, line)
    write_line(output, "(busy: wall time inside calls, waiting for the interpreter lock included)")
    write_line(output)
    by_type = ", ".join(f"{name} {count}" for name, count in totals.errors_by_type.items())
    write_line(
        output,
        f"{totals.failed_tasks} of {totals.tasks} tasks failed, in {totals.files_with_errors} of "
        f"{totals.files} files; the report has a row for each"
        + (f" ({by_type})" if by_type else ""),
    )
    output.flush()


def write_notes(errors: IO[str], corpus: Corpus, comparison: Comparison) -> None:
    """Name what could not be listed, what changed meanwhile, and where the reports disagree."""

    def note(message: str, paths: Sequence[str]) -> None:
        write_line(errors, f"{message} ({len(paths)}):")
        for path in paths[:_LISTED_PATHS]:
            write_line(errors, f"  {printable(path)}")
        if len(paths) > _LISTED_PATHS:
            write_line(errors, f"  and {len(paths) - _LISTED_PATHS} more, see the report")

    unreadable = [path for path, _error in corpus.unreadable_directories]
    if unreadable:
        note("note: directories that could not be listed", unreadable)
    changed = [corpus.files[index].relative_path for index in comparison.changed]
    if changed:
        note(
            "note: files changed or removed during the demo, left out of the comparison",
            changed,
        )
    disagreeing = [corpus.files[index].relative_path for index in comparison.disagreeing]
    if disagreeing:
        note(
            "error: the reports disagree about files that, says the file system, did not change",
            disagreeing,
        )


def lanes_table(lanes: Sequence[LaneStatistics], *, left_out: Collection[str] = ()) -> list[str]:
    """Return the lines of a table with one row for each lane.

    Args:
        lanes: to tell of.
        left_out: heads of columns that are not wanted.
    """
    weights = [work.weight for work in WORKS]
    columns: dict[str, list[str]] = {
        "lane": [str(lane.number) for lane in lanes],
        "cpus": [ranges(lane.cpus) for lane in lanes],
        "workers": [str(lane.workers) for lane in lanes],
        **{
            weight: [str(lane.started_by_weight.get(weight, 0)) for lane in lanes]
            for weight in weights
        },
        "completed": [str(lane.completed) for lane in lanes],
        "failed": [str(lane.failed) for lane in lanes],
        "stolen": [str(lane.stolen) for lane in lanes],
        "busy s": [f"{lane.busy_seconds:.2f}" for lane in lanes],
        "mean wait ms": [f"{_mean_wait_milliseconds(lane):.2f}" for lane in lanes],
    }
    kept = [(head, *cells) for head, cells in columns.items() if head not in left_out]
    return aligned([*zip(*kept, strict=True)])


def _mean_wait_milliseconds(lane: LaneStatistics) -> float:
    ended = lane.completed + lane.failed
    return 1000 * lane.waited_seconds / ended if ended else 0.0


def ranges(numbers: Sequence[int]) -> str:
    """Return for example ``0-3,8`` for the numbers 0, 1, 2, 3 and 8."""
    parts: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts) or "-"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
