"""How an operation is doing: what its last calls came to, a grade, and what to do about it.

The grades, their bounds and what is recommended when are those of TokenGate's Guard House. There the
counts were of all time, so an operation that broke after a good month stayed excellent; here they are of
a sliding window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tokengate_executor.errors import InvalidOptionError

__all__ = ["QUICK_FAILURE", "Health", "OperationHealth", "Outcome", "assess", "report"]

Outcome = tuple[float, float, str]
"""When a call ended, for how many seconds it ran, and ``"success"``, ``"failure"`` or ``"timeout"``."""

QUICK_FAILURE: Final = 0.1
"""A failure within so many seconds is quick: it came of what was asked, not of what was waited for."""

ENOUGH_ATTEMPTS: Final = 5
"""Below, there is no grade."""

HIGH_SHARE: Final = 0.3
"""Above this share of attempts, failures or timeouts are worth a recommendation."""

MANY_QUICK_FAILURES: Final = 3
"""Above this number, quick failures are."""


class Health(Enum):
    """A grade, by the share of attempts that succeeded."""

    EXCELLENT = "excellent"
    HEALTHY = "healthy"
    AT_RISK = "at risk"
    PROBLEMATIC = "problematic"
    UNKNOWN = "unknown"


GRADES: Final[tuple[tuple[float, Health], ...]] = (
    (0.95, Health.EXCELLENT),
    (0.80, Health.HEALTHY),
    (0.50, Health.AT_RISK),
    (0.0, Health.PROBLEMATIC),
)
"""From which share of successes on a grade is given, the best first."""

_HEADINGS: Final[tuple[tuple[Health, str], ...]] = (
    (Health.PROBLEMATIC, "PROBLEMATIC (less than 50 % succeeded)"),
    (Health.AT_RISK, "AT RISK (50 % or more)"),
    (Health.HEALTHY, "HEALTHY (80 % or more)"),
    (Health.EXCELLENT, "EXCELLENT (95 % or more)"),
    (Health.UNKNOWN, f"UNKNOWN (fewer than {ENOUGH_ATTEMPTS} attempts)"),
)
"""In the order of a report: what asks for attention first."""

_COLUMNS: Final = ("operation", "succeeded", "failed", "quick", "timed out", "mean", "p95", "max")

_LONGEST_NAME: Final = 48


@dataclass(frozen=True, slots=True)
class OperationHealth:
    """What an operation's calls within the window came to.

    Attributes:
        operation: its name.
        attempts: successes, failures and timeouts together.
        successes: calls that returned.
        failures: calls that raised, without timeouts.
        timeouts: calls that took too long.
        quick_failures: those of the failures that came quickly.
        success_rate: successes of attempts, from 0 to 1; ``None`` if there were no attempts.
        mean_seconds: how long an attempt ran, on average; ``None`` if there were none.
        p95_seconds: within this time 95 % of them ended (nearest rank); ``None`` likewise.
        max_seconds: how long the longest ran; ``None`` likewise.
        health: the grade.
        recommendations: what to do, in words; at least one.
    """

    operation: str
    attempts: int
    successes: int
    failures: int
    timeouts: int
    quick_failures: int
    success_rate: float | None
    mean_seconds: float | None
    p95_seconds: float | None
    max_seconds: float | None
    health: Health
    recommendations: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{_shown(self.operation)}: {self.health.value}, {self.successes} of {self.attempts} "
            f"succeeded; {'; '.join(self.recommendations)}"
        )


def assess(
    operation: str,
    outcomes: Iterable[Outcome],
    now: float,
    window: float,
    quick_failure: float = QUICK_FAILURE,
) -> OperationHealth:
    """Return how an operation is doing.

    Args:
        operation: its name.
        outcomes: what its calls came to, in any order. Those that ended more than ``window`` seconds
            before ``now`` are left out, and so are other kinds than the three: what was killed or
            cancelled says nothing of the operation.
        now: the moment, on the clock of the outcomes.
        window: of how many of the last seconds, above 0; may be infinite.
        quick_failure: within how many seconds a failure is a quick one, at least 0.

    Raises:
        InvalidOptionError: ``window`` or ``quick_failure`` is out of its range.
    """
    if not window > 0:
        raise InvalidOptionError("window", window, "a number of seconds above 0")
    if not quick_failure >= 0:
        raise InvalidOptionError("quick_failure", quick_failure, "a number of seconds, at least 0")
    counts = {"success": 0, "failure": 0, "timeout": 0}
    quick_failures = 0
    durations: list[float] = []
    for ended_at, seconds, kind in outcomes:
        if ended_at < now - window or kind not in counts:
            continue
        counts[kind] += 1
        durations.append(seconds)
        if kind == "failure" and seconds <= quick_failure:
            quick_failures += 1
    attempts = len(durations)
    durations.sort()
    success_rate = counts["success"] / attempts if attempts else None
    health = _grade(attempts, success_rate)
    return OperationHealth(
        operation=operation,
        attempts=attempts,
        successes=counts["success"],
        failures=counts["failure"],
        timeouts=counts["timeout"],
        quick_failures=quick_failures,
        success_rate=success_rate,
        mean_seconds=math.fsum(durations) / attempts if attempts else None,
        p95_seconds=durations[math.ceil(attempts * 95 / 100) - 1] if attempts else None,
        max_seconds=durations[-1] if attempts else None,
        health=health,
        recommendations=_recommendations(
            health, attempts, counts["failure"], counts["timeout"], quick_failures
        ),
    )


def report(healths: Iterable[OperationHealth]) -> str:
    """Return a table for a terminal: the operations by grade, the worst first.

    Within a grade, those with the most calls that did not succeed come first. What is wrong, or not yet
    known, has its recommendations below it. The table itself is ASCII; names may not be, and what
    would upset a terminal in them is escaped.
    """
    known = sorted(healths, key=lambda each: (each.successes - each.attempts, each.operation))
    if not known:
        return "Guard house: no calls yet"
    rows = [(each, _cells(each)) for each in known]
    columns = zip(_COLUMNS, *(cells for _, cells in rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    calls = sum(each.attempts for each in known)
    lines = [f"Guard house: {_counted(len(known), 'operation')}, {_counted(calls, 'call')}"]
    for health, heading in _HEADINGS:
        group = [(each, cells) for each, cells in rows if each.health is health]
        if not group:
            continue
        lines += ["", heading, _line(_COLUMNS, widths)]
        for each, cells in group:
            lines.append(_line(cells, widths))
            if health not in (Health.EXCELLENT, Health.HEALTHY):
                lines += [f"    > {text}" for text in each.recommendations]
    return "\n".join(lines)


def _grade(attempts: int, success_rate: float | None) -> Health:
    if success_rate is None or attempts < ENOUGH_ATTEMPTS:
        return Health.UNKNOWN
    return next(health for bound, health in GRADES if success_rate >= bound)


def _recommendations(
    health: Health, attempts: int, failures: int, timeouts: int, quick_failures: int
) -> tuple[str, ...]:
    match health:
        case Health.UNKNOWN:
            return (f"too few calls to judge: {attempts} of {ENOUGH_ATTEMPTS}",)
        case Health.EXCELLENT:
            return ("works excellently",)
        case Health.HEALTHY:
            return ("works well",)
        case Health.AT_RISK | Health.PROBLEMATIC:
            pass
    found: list[str] = []
    if timeouts > attempts * HIGH_SHARE:
        found.append("many timeouts: make it faster, or give it more time")
    if failures > attempts * HIGH_SHARE:
        found.append("many errors: look at how it deals with them")
    if quick_failures > MANY_QUICK_FAILURES:
        found.append("quick failures: check its input before it is called")
    return tuple(found) or ("fails now and then: review how reliable its code is",)


def _cells(health: OperationHealth) -> tuple[str, ...]:
    rate = "-" if health.success_rate is None else f"{health.success_rate * 100:.1f} %"
    return (
        _shown(health.operation),
        f"{rate} ({health.successes}/{health.attempts})",
        str(health.failures),
        str(health.quick_failures),
        str(health.timeouts),
        _duration(health.mean_seconds),
        _duration(health.p95_seconds),
        _duration(health.max_seconds),
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    name, *numbers = cells
    right = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
    return "  ".join(("", name.ljust(widths[0]), *right))


def _shown(name: str) -> str:
    """A name on one line, without control characters; of a long one the end, which tells more."""
    printable = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in name
    )
    return printable if len(printable) <= _LONGEST_NAME else f"...{printable[3 - _LONGEST_NAME :]}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
