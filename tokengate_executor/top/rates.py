"""How many calls were finished in each of the last seconds, from counts seen now and then."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final

__all__ = ["Rates"]

_OVER_SECONDS: Final = 5.0
_KEPT_SECONDS: Final = 90.0


class Rates:
    """Remembers how many calls were finished when; its moments are of any clock that goes forward."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def note(self, now: float, finished: float) -> None:
        """So many calls were finished in all, by now."""
        if self._seen and finished < self._seen[-1][1]:
            self._seen.clear()  # another executor has taken the place of that one
        self._seen.append((now, finished))
        while len(self._seen) > 2 and self._seen[1][0] < now - _KEPT_SECONDS:
            self._seen.popleft()

    def per_second(self, now: float) -> float | None:
        """The mean of the last seconds; ``None``: they have not been seen yet."""
        if not self._seen:
            return None
        began = max(self._seen[0][0], now - _OVER_SECONDS)
        if now - began < 1.0:
            return None
        return (self._at(now) - self._at(began)) / (now - began)

    def trend(self, now: float, seconds: int) -> list[float]:
        """How many were finished in each of the last seconds, the latest last; as far as it was seen."""
        if not self._seen:
            return []
        known = min(seconds, int(now - self._seen[0][0]))
        marks = [self._at(now - ago) for ago in range(known, -1, -1)]
        return [after - before for before, after in pairwise(marks)]

    def _at(self, moment: float) -> float:
        """The count at a moment, as if it had grown evenly between two that were seen."""
        before = self._seen[0]
        for seen in self._seen:
            if seen[0] >= moment:
                between = seen[0] - before[0]
                share = (moment - before[0]) / between if between > 0 else 1.0
                return before[1] + (seen[1] - before[1]) * share
            before = seen
        return before[1]
