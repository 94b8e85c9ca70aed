"""Limits as data: at most so many calls at once, or at most so many starts in a time.

A limit is what resilience engineering calls a bulkhead (an ``int``: permits that calls hold while they
run) or a token bucket (a ``RateLimit``: permits that calls use up). The storage tiers are TokenGate's
storage speeds: how many calls may be at one storage device at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

__all__ = ["STORAGE_LIMITS", "STORAGE_TIERS", "LimitSpec", "RateLimit", "is_permit_count"]

STORAGE_TIERS: Final[Mapping[str, int]] = MappingProxyType(
    {"slow": 10, "moderate": 25, "fast": 50, "insane": 70}
)
"""Storage tier → how many calls may use such a storage at once."""


STORAGE_LIMITS: Final[Mapping[str, str]] = MappingProxyType(
    {f"storage:{tier}": tier for tier in STORAGE_TIERS}
)
"""Name of the limit behind a storage tier → the tier."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``rate`` starts per ``per`` seconds in the long run, and ``burst`` at once.

    A token bucket: it holds ``burst`` permits at first and at most, and gains ``rate`` of them in
    ``per`` seconds, evenly. So within any ``t`` seconds no more than ``burst + rate * t / per`` start.

    Args:
        rate: how many starts, above 0.
        per: in how many seconds, above 0.
        burst: how many may start at once after a pause, at least 1; ``None``: ``rate``, rounded down.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of its range.
    """

    rate: float
    per: float = 1.0
    burst: int | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "per"):
            given: Any = getattr(self, name)
            if not isinstance(given, int | float) or isinstance(given, bool):
                raise TypeError(f"{name} must be a number above 0, got {given!r}")
            if not (given > 0 and math.isfinite(given)):
                raise ValueError(f"{name} must be above 0 and finite, got {given!r}")
        if self.burst is not None and not is_permit_count(self.burst):
            kind = ValueError if type(self.burst) is int else TypeError
            raise kind(f"burst must be an int of at least 1 or None, got {self.burst!r}")

    @property
    def capacity(self) -> int:
        """How many permits the bucket holds when it is full."""
        return max(1, int(self.rate)) if self.burst is None else self.burst

    def level_after(self, level: float, seconds: float) -> float:
        """How many permits a bucket with ``level`` of them holds ``seconds`` later."""
        return min(self.capacity, level + seconds * self.rate / self.per)

    def seconds_until_one(self, level: float) -> float:
        """For how long a bucket with ``level`` permits gains before it holds a whole one."""
        return max(0.0, (1 - level) * self.per / self.rate)


LimitSpec = int | RateLimit
"""``5``: at most five at once. ``RateLimit(100)``: at most a hundred starts per second."""


def is_permit_count(given: object) -> bool:
    """Whether it is an int of at least 1, and not a bool."""
    return isinstance(given, int) and not isinstance(given, bool) and given >= 1
