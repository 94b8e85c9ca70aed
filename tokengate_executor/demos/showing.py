"""How a demo is run and shown: on the terminal, as JSON, as a plot; and the exit status."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from tokengate_executor.observe.dump import write_atomically
from tokengate_executor.terminal_text import encodable

from .plot import plot
from .progress import Progress
from .report import why_not_writable
from .text import printable, write_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from .outcome import Outcome
    from .ways import Shown

__all__ = ["Showing", "run_and_show"]

EXIT_AGREED: Final = 0
EXIT_DISAGREED: Final = 1
EXIT_CANNOT_RUN: Final = 2

_QUIET_SECONDS: Final = 1.0
"""Progress is shown of what takes longer."""

_USUAL_COLUMNS: Final = 80


@dataclass(frozen=True, slots=True)
class Showing:
    """How an outcome is shown.

    Attributes:
        as_json: whether the output is one JSON object and nothing else.
        plot: where the SVG goes; ``None``: nowhere.
        show_progress: whether progress is shown on the error stream.
    """

    as_json: bool = False
    plot: str | None = None
    show_progress: bool = True


def run_and_show(
    run: Callable[[Shown], Outcome], showing: Showing, output: IO[str], errors: IO[str]
) -> int:
    """Run a demo and show what it came to; return the exit status.

    Args:
        run: the demo.
        showing: how.
        output: gets the report.
        errors: gets errors and progress.

    Returns:
        0 if all ways came to the same, 1 if they did not or a task failed, 2 if the plot cannot be
        written or the demo cannot be run.
    """

    def fail(message: str, status: int = EXIT_CANNOT_RUN) -> int:
        write_line(errors, f"error: {printable(message)}")
        return status

    obstacle = None if showing.plot is None else why_not_writable(showing.plot)
    if obstacle is not None:
        return fail(f"cannot write the plot to {showing.plot!r}: {obstacle}")

    def shown(label: str, total: int) -> Progress:
        stream = errors if showing.show_progress else None
        return Progress(stream, label, total, after=_QUIET_SECONDS)

    try:
        outcome = run(shown)
    except OSError as error:
        return fail(f"the demo cannot be run: {error}")
    if showing.as_json:
        write_line(output, json.dumps(outcome.as_json(), indent=1, allow_nan=False))
    else:
        encoding = getattr(output, "encoding", None) or "utf-8"
        for line in outcome.lines(_columns(output)):
            write_line(output, encodable(line, encoding))
    output.flush()
    if showing.plot is not None:
        try:
            write_atomically(showing.plot, plot(outcome.title, outcome.ways))
        except OSError as error:
            return fail(f"cannot write the plot to {showing.plot!r}: {error.strerror or error}")
    if not outcome.agrees:
        return fail("the ways did not come to the same results", EXIT_DISAGREED)
    return fail(f"{outcome.failed} tasks failed", EXIT_DISAGREED) if outcome.failed else EXIT_AGREED


def _columns(output: IO[str]) -> int:
    if not output.isatty():
        return _USUAL_COLUMNS
    return shutil.get_terminal_size((_USUAL_COLUMNS, 24)).columns
