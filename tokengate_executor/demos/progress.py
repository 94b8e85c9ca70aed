"""A progress bar in a few lines: redrawn in place on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import os
import time
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

REDRAW_SECONDS: Final = 0.1
"""The shortest time between two drawings on a terminal."""

LINES_ELSEWHERE: Final = 4
"""How many lines a whole job leaves in a file or a pipe."""

_FALLBACK_COLUMNS: Final = 80
_WIDEST_BAR: Final = 40


class Progress:
    """Shows how many of ``total`` steps are done; close it, or use it in a ``with`` block.

    Args:
        stream: where to write; ``None`` shows nothing.
        label: what is being done.
        total: number of steps.
        columns: returns the width of the terminal in characters; asked at each drawing, as a
            window may be resized.
        clock: returns seconds.
        after: nothing is shown before so many seconds have passed, so that short work stays quiet.
    """

    def __init__(
        self,
        stream: IO[str] | None,
        label: str,
        total: int,
        *,
        columns: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        after: float = 0.0,
    ) -> None:
        self._stream = stream
        self._label = label
        self._total = total
        self._done = 0
        self._columns = columns or self._terminal_columns
        self._clock = clock
        self._in_place = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn_at = float("-inf")
        self._drawn_characters = 0
        self._drawn_share = 0
        self._quiet_until = clock() + after if after > 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def advance(self) -> None:
        """Count one more step and show it if it is time to."""
        self._done += 1
        if self._stream is None or self._is_quiet():
            return
        if self._in_place:
            now = self._clock()
            if now - self._drawn_at >= REDRAW_SECONDS:
                self._drawn_at = now
                self._redraw(self._stream)
            return
        share = self._done * LINES_ELSEWHERE // self._total
        if share > self._drawn_share:
            self._drawn_share = share
            self._stream.write(f"{self._summary()}\n")
            self._stream.flush()

    def show(self) -> None:
        """Show it now, and be quiet no more: the first step may take long."""
        self._quiet_until = None
        if self._stream is None:
            return
        if self._in_place:
            self._drawn_at = self._clock()
            self._redraw(self._stream)
        else:
            self._stream.write(f"{self._summary()}\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave the last state on the terminal and end its line."""
        if self._stream is not None and self._in_place and not self._is_quiet():
            self._redraw(self._stream)
            self._stream.write("\n")
            self._stream.flush()
        self._stream = None

    def _is_quiet(self) -> bool:
        return self._quiet_until is not None and self._clock() < self._quiet_until

    def _redraw(self, stream: IO[str]) -> None:
        line = self._line()
        # Blanks rather than an escape sequence: they wipe the longer line before on any terminal.
        stream.write("\r" + line.ljust(self._drawn_characters))
        stream.flush()
        self._drawn_characters = len(line)

    def _line(self) -> str:
        # The last column stays free: writing there makes some terminals begin a new line.
        room = max(self._columns() - 1, 1)
        # Blanks that wipe must not reach beyond a window that was made narrower.
        self._drawn_characters = min(self._drawn_characters, room)
        summary = self._summary()
        bar = min(room - len(summary) - 3, _WIDEST_BAR)
        if bar < 5:
            return summary[:room]
        filled = bar * self._done // self._total if self._total else bar
        return f"{summary} [{'#' * filled}{'.' * (bar - filled)}]"

    def _summary(self) -> str:
        per_cent = 100 * self._done // self._total if self._total else 100
        return f"{per_cent:3}% {self._label} {self._done}/{self._total}"

    def _terminal_columns(self) -> int:
        try:
            assert self._stream is not None
            return os.get_terminal_size(self._stream.fileno()).columns or _FALLBACK_COLUMNS
        except (OSError, ValueError, AttributeError):
            return _FALLBACK_COLUMNS
