"""The corpus demo: the same work for every file of a tree, through two executors, side by side.

Light, medium and heavy work (see ``work``) are submitted with their weights, first to a
``ThreadPoolExecutor`` and then to a ``TokenGateExecutor``; the two reports must agree exactly.
"""

from __future__ import annotations

import os
import platform
import sysconfig
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from tokengate_executor import TokenGateExecutor
from tokengate_executor.policies.weights import WEIGHTS

from .driver import Run, count_tasks, ending_early_on_error, run_job
from .figures import write_figures, write_heading, write_notes
from .progress import Progress
from .report import compare_rows, lane_as_json, sum_up, why_not_writable, write_report
from .scan import scan_tree, signature_of
from .text import escaped_path, printable, write_line
from .work import light_work, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from tokengate_executor import ExecutorStatistics, ExecutorView

    from .driver import Submit
    from .report import Comparison, Totals
    from .scan import Corpus, CorpusFile
    from .work import JsonObject, JsonValue, Weight

DEFAULT_OUTPUT: Final = "tokengate-demo-report.json"

NOT_STANDARD_LIBRARY: Final = frozenset({"site-packages", "dist-packages", "__pycache__"})
"""Directories left out of the default tree: they belong to others, or the interpreter makes them.

They are not left out of a tree that the user names.
"""

EXIT_AGREED: Final = 0
EXIT_DISAGREED: Final = 1
EXIT_CANNOT_RUN: Final = 2


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the corpus demo is asked to do.

    Attributes:
        path: the tree; ``None`` takes the running interpreter's standard library.
        workers: number of workers of both executors, at most ``TASKS_IN_FLIGHT``.
        limit: take only this many files, the first by relative path; ``None`` takes all.
        output: where the JSON report goes.
        show_progress: whether to show progress on the error stream.
        quiet: whether to write nothing but errors and notes.
    """

    path: str | None = None
    workers: int = 4
    limit: int | None = None
    output: str = DEFAULT_OUTPUT
    show_progress: bool = True
    quiet: bool = False


def default_workers() -> int:
    """Return how many workers ``ThreadPoolExecutor`` takes when it is not told."""
    return min(32, (os.cpu_count() or 1) + 4)


def run_demo(options: DemoOptions, output: IO[str], errors: IO[str]) -> int:
    """Run the job through both executors, compare, write the report; return the exit status.

    Args:
        options: what to do.
        output: gets the figures, unless quiet.
        errors: gets errors, notes and progress.

    Returns:
        0 if both reports agree, 1 if they do not, 2 if the tree cannot be read or the report
        cannot be written.
    """

    def fail(message: str) -> int:
        write_line(errors, f"error: {printable(message)}")
        return EXIT_CANNOT_RUN

    root = sysconfig.get_path("stdlib") if options.path is None else options.path
    obstacle = why_not_writable(options.output)
    if obstacle is not None:
        return fail(f"cannot write the report to {options.output!r}: {obstacle}")
    left_out_directories = NOT_STANDARD_LIBRARY if options.path is None else frozenset[str]()
    try:
        corpus = scan_tree(
            root,
            limit=options.limit,
            left_out_directories=left_out_directories,
            left_out_file=os.path.realpath(options.output),
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return fail(f"cannot read the directory tree {root!r}: {reason}")

    tasks = count_tasks(corpus.files)
    if not options.quiet:
        write_heading(output, corpus, tasks, options.workers, left_out_directories)

    def progress(label: str, total: int) -> Progress:
        shown = options.show_progress and not options.quiet
        return Progress(errors if shown else None, label, total)

    with progress("reading every file once", len(corpus.files)) as bar:
        for file in corpus.files:
            _warm_file_cache(file)
            bar.advance()
    with _syntax_warnings_ignored():
        with progress(ThreadPoolExecutor.__name__, tasks) as bar:
            plain = run_plain(corpus.files, options.workers, bar.advance)
        with progress(TokenGateExecutor.__name__, tasks) as bar:
            ours, statistics = run_ours(corpus.files, options.workers, bar.advance)

    comparison = compare_rows(
        plain.rows,
        ours.rows,
        has_changed=lambda index: _has_changed(corpus.files[index]),
    )
    totals = sum_up(ours.rows)
    if not options.quiet:
        write_figures(output, plain, ours, totals, statistics)
    write_notes(errors, corpus, comparison)
    report = make_report(
        corpus=corpus,
        left_out_directories=sorted(left_out_directories),
        options=options,
        plain=plain,
        ours=ours,
        totals=totals,
        comparison=comparison,
        statistics=statistics,
    )
    try:
        write_report(options.output, report)
    except OSError as error:
        return fail(f"cannot write the report to {options.output!r}: {error.strerror or error}")
    if not options.quiet:
        write_line(output, f"report: {printable(options.output)}")
    return EXIT_AGREED if comparison.agree else EXIT_DISAGREED


def run_plain(files: Sequence[CorpusFile], workers: int, on_task_done: Callable[[], object]) -> Run:
    """Run the job through ``ThreadPoolExecutor``, which has no weights to give."""
    started = _now()
    with ending_early_on_error(ThreadPoolExecutor(workers)) as executor:

        def submit(
            _weight: Weight, function: Callable[[str], JsonObject], path: str, /
        ) -> Future[JsonObject]:
            return executor.submit(function, path)

        return _timed(ThreadPoolExecutor.__name__, started, files, submit, on_task_done)


def run_ours(
    files: Sequence[CorpusFile], workers: int, on_task_done: Callable[[], object]
) -> tuple[Run, ExecutorStatistics]:
    """Run the job through ``TokenGateExecutor``, each call with its weight."""
    started = _now()
    with ending_early_on_error(TokenGateExecutor(workers)) as executor:
        by_weight: dict[Weight, ExecutorView] = {
            weight: executor.options(weight=weight, operation=f"demo.{weight}")
            for weight in WEIGHTS
        }

        def submit(
            weight: Weight, function: Callable[[str], JsonObject], path: str, /
        ) -> Future[JsonObject]:
            return by_weight[weight].submit(function, path)

        run = _timed(TokenGateExecutor.__name__, started, files, submit, on_task_done)
        return run, executor.statistics()


def make_report(
    *,
    corpus: Corpus,
    left_out_directories: Sequence[str],
    options: DemoOptions,
    plain: Run,
    ours: Run,
    totals: Totals,
    comparison: Comparison,
    statistics: ExecutorStatistics,
) -> JsonObject:
    """Return the report; ``files`` is the compared part, every time stands outside of it."""
    unreadable: list[JsonValue] = [
        {"path": escaped_path(path), "error": {**error}}
        for path, error in corpus.unreadable_directories
    ]
    runs: list[JsonValue] = [
        {
            "executor": run.executor,
            "workers": options.workers,
            "seconds": run.seconds,
            "cpu_seconds": run.cpu_seconds,
            "tasks_per_second": run.tasks_per_second,
        }
        for run in (plain, ours)
    ]
    return {
        "format": "tokengate-demo-report",
        "format_version": 1,
        "corpus": {
            "path": escaped_path(str(Path(corpus.root).absolute())),
            "limit": options.limit,
            "left_out_directories": [*left_out_directories],
            "unreadable_directories": unreadable,
        },
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "settings": settings(),
        "totals": {**asdict(totals)},
        "comparison": {
            "agree": comparison.agree,
            "changed_meanwhile": [ours.rows[index]["path"] for index in comparison.changed],
            "disagreements": [
                {
                    "ThreadPoolExecutor": plain.rows[index],
                    "TokenGateExecutor": ours.rows[index],
                }
                for index in comparison.disagreeing
            ],
        },
        "runs": runs,
        "lanes": [lane_as_json(lane) for lane in statistics.lanes],
        "files": [*ours.rows],
    }


def _timed(
    name: str,
    started: tuple[float, float],
    files: Sequence[CorpusFile],
    submit: Submit,
    on_task_done: Callable[[], object],
) -> Run:
    rows = run_job(files, submit, on_task_done=on_task_done)
    seconds, cpu_seconds = (now - then for now, then in zip(_now(), started, strict=True))
    return Run(name, seconds, cpu_seconds, count_tasks(files), rows)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


@contextmanager
def _syntax_warnings_ignored() -> Generator[None, None, None]:
    # Parsing warns about strange literals, on the error stream, in the middle of the progress bar.
    # The filters are the whole process's, so this stands around the runs and not in the workers.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _warm_file_cache(file: CorpusFile) -> None:
    try:
        light_work(file.path)
    except Exception:
        # What is wrong with the file is told by the row that each run makes for it.
        return


def _has_changed(file: CorpusFile) -> bool:
    return signature_of(file.path) != file.signature
