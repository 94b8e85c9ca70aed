"""Readers: they ask executors, which they do not hold, for the numbers of the catalogue.

Guarantees
    * A counter is never less than it was: what an executor counts without stopping anybody may be short
      of something for a moment.
    * An executor that is gone is not told of any more, and nothing here keeps one.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, cast

from tokengate_executor.errors import InvalidOptionError, QuarantineFileError
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.exporters.catalogue import Kind, Metric
from tokengate_executor.exporters.forks import renew_in_children
from tokengate_executor.exporters.points import Point, Reading
from tokengate_executor.policies.breaker import CircuitState

if TYPE_CHECKING:
    from tokengate_executor.guard.quarantine import Quarantine
    from tokengate_executor.observe.histograms import LaneHistograms

__all__ = ["OTHER", "Reader", "Readers", "check_operations", "told_of"]

_LOGGER: Final = logging.getLogger("tokengate_executor")

OTHER: Final = "other"
"""The operation under which those are counted that are not told of by name."""


class Reader:
    """Reads one executor.

    Args:
        executor: it is not held.
        operations: how many operations' circuits are told of by name.

    Attributes:
        name: the executor's.
        executor: it, or ``None`` when it is gone.
    """

    def __init__(self, executor: TokenGateExecutor, operations: int) -> None:
        self.name: Final = executor.name
        self.executor: Final = weakref.ref(executor)
        self._operations = operations
        self._is_quarantine_read = True
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In a forked child counters begin anew."""
        # Guards _highest.
        self._lock = threading.Lock()
        self._highest: dict[tuple[str, tuple[str, ...]], float] = {}

    def read(self) -> Reading | None:
        """What the executor says now; ``None``: it is gone."""
        executor = self.executor()
        if executor is None:
            return None
        return Reading(
            executor.statistics(),
            told_of(executor.guard_house.states(), self._operations),
            self._counts_of(executor.quarantine),
        )

    def histograms(self) -> Mapping[int, LaneHistograms]:
        """How long its calls waited and ran, by lane."""
        executor = self.executor()
        return {} if executor is None else executor.histograms()

    def points(self, metric: Metric, reading: Reading) -> Iterable[Point]:
        """The numbers of one metric."""
        points = metric.points(reading)
        if metric.kind is not Kind.COUNTER:
            return points
        with self._lock:
            return [(labels, self._raised(metric, labels, value)) for labels, value in points]

    def _raised(self, metric: Metric, labels: tuple[str, ...], value: float) -> float:
        """The value, or what it was before, if that is more. Called with the lock held."""
        highest = max(value, self._highest.get((metric.name, labels), 0))
        self._highest[metric.name, labels] = highest
        return highest

    def _counts_of(self, quarantine: Quarantine) -> Mapping[str, int] | None:
        try:
            counts = quarantine.counts()
        except QuarantineFileError:
            if self._is_quarantine_read:
                _LOGGER.exception(
                    "%s: quarantined calls are not exported until the quarantine can be read; "
                    "this is not logged again until then",
                    self.name,
                )
            self._is_quarantine_read = False
            return None
        self._is_quarantine_read = True
        return cast("Mapping[str, int]", counts)


class Readers:
    """The readers of the executors that are still there. No two of these have the same name."""

    def __init__(self) -> None:
        # Guards _readers, which is replaced, never changed.
        self._lock = threading.Lock()
        self._readers: tuple[Reader, ...] = ()

    def add(self, executor: TokenGateExecutor, operations: int) -> None:
        """Read this one, too. It takes the place of one of its name that was shut down.

        Args:
            executor: it is not held.
            operations: see ``Reader``.

        Raises:
            InvalidOptionError: it is no executor of ours, or another one has its name; ``operations`` is
                no int, or negative.
        """
        check_operations(operations)
        given = cast("object", executor)
        if not isinstance(given, TokenGateExecutor):
            raise InvalidOptionError("executor", given, "a TokenGateExecutor")
        with self._lock:
            kept = [one for one in self._readers if one.executor() is not None]
            for reader in kept.copy():
                other = reader.executor()
                if other is None or reader.name != executor.name:
                    continue
                if other is executor or not other.statistics().is_shutdown:
                    raise InvalidOptionError(
                        "executor",
                        executor.name,
                        "one whose name (thread_name_prefix) is not exported yet",
                    )
                kept.remove(reader)
            self._readers = (*kept, Reader(executor, operations))

    def read(self) -> list[tuple[Reader, Reading]]:
        """What each of them says now."""
        return [
            (reader, reading) for reader in self._readers if (reading := reader.read()) is not None
        ]


def check_operations(operations: int) -> None:
    """Whether it is a number of operations.

    Raises:
        InvalidOptionError: it is no int, or negative.
    """
    given = cast("object", operations)
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise InvalidOptionError("operations", given, "an int of at least 0")


def told_of(
    circuits: Mapping[str, CircuitState], most: int
) -> Mapping[str, Mapping[CircuitState, int]]:
    """The states of so many circuits by operation, not closed ones first; of the rest, how many."""
    # A name of the user's own that is ours, too, is counted with the rest.
    names = [name for name in circuits if name != OTHER]
    names.sort(key=lambda name: circuits[name] is CircuitState.CLOSED)
    found: dict[str, Mapping[CircuitState, int]] = {
        name: {circuits[name]: 1} for name in names[:most]
    }
    rest = Counter(circuits[name] for name in circuits if name not in found)
    return {**found, OTHER: rest} if rest else found
