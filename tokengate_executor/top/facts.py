"""What ``top`` reads out of a snapshot, and how it writes numbers and times.

A snapshot comes from a server: what is missing, or not of the kind that it should be, counts as nothing,
and no text of it reaches the terminal as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from tokengate_executor.terminal_text import printable

__all__ = ["Facts", "clock", "count", "duration"]

_LARGEST: Final = 1e15  # beyond, floats are no longer exact, and no column is wide enough


class Facts:
    """An object of a snapshot, read without trust."""

    def __init__(self, given: object) -> None:
        self._facts: Mapping[object, object] = (
            cast("Mapping[object, object]", given) if isinstance(given, Mapping) else {}
        )

    def number(self, name: str) -> float:
        """A number; 0 if there is none."""
        return self.maybe(name) or 0.0

    def maybe(self, name: str) -> float | None:
        """A number, if there is one."""
        given = self._facts.get(name)
        if isinstance(given, bool) or not isinstance(given, int | float):
            return None
        return float(given) if abs(given) <= _LARGEST else None

    def text(self, name: str) -> str:
        """Harmless text; empty if there is none."""
        given = self._facts.get(name)
        return printable(given) if isinstance(given, str) else ""

    def flag(self, name: str) -> bool:
        """Whether it is there and true."""
        return self._facts.get(name) is True

    def numbers(self, name: str) -> list[int]:
        """The whole numbers of a list."""
        given = self._facts.get(name)
        items = cast("list[object]", given) if isinstance(given, list) else []
        return [item for item in items if type(item) is int and 0 <= item <= _LARGEST]

    def part(self, name: str) -> Facts:
        """An object within; an empty one if there is none."""
        return Facts(self._facts.get(name))

    def parts(self, name: str) -> list[tuple[str, Facts]]:
        """The objects within an object, by their harmless names."""
        return [
            (printable(str(key)), Facts(value)) for key, value in self.part(name)._facts.items()
        ]

    def has(self, name: str) -> bool:
        """Whether anything is there by that name."""
        return name in self._facts


def count(number: float) -> str:
    """A whole number in at most seven columns."""
    whole = round(number)
    if abs(whole) < 1_000_000:
        return f"{whole:,}"
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(whole) >= factor:
            scaled = whole / factor
            return f"{scaled:.2f} {unit}" if abs(scaled) < 10 else f"{scaled:.0f} {unit}"
    return str(whole)


def duration(seconds: float | None) -> str:
    """A time in at most seven columns."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{max(0.0, seconds) * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def clock(seconds: float) -> str:
    """A long time, to the second."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    beginning = f"{days} d " if days else ""
    return f"{beginning}{hours}:{minutes:02}:{rest:02}"
