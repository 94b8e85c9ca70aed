"""``OpenTelemetryMetrics``: an executor's numbers, as instruments that are asked when collected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from opentelemetry.metrics import (
    CallbackOptions,
    MeterProvider,
    Observation,
    get_meter,
    get_meter_provider,
)

from tokengate_executor import __version__
from tokengate_executor.exporters.catalogue import CATALOGUE, Kind, Metric
from tokengate_executor.exporters.forks import renew_in_children
from tokengate_executor.exporters.readers import Reader, Readers

if TYPE_CHECKING:
    from tokengate_executor.executor import TokenGateExecutor
    from tokengate_executor.exporters.points import Reading

__all__ = ["SCOPE", "OpenTelemetryMetrics"]

SCOPE: Final = "tokengate_executor"
"""The name of the instrumentation scope."""

_LONGEST_COLLECTION_SECONDS: Final = 1.0


class OpenTelemetryMetrics:
    """Tells a meter provider what an executor does; the numbers are read when they are collected.

    Each has the attribute ``tokengate.executor``, the executor's name. The executor is not held: one
    that is gone is not told of any more. One takes the place of one of its name that was shut down.

    Args:
        executor: to be told of.
        meter_provider: to whom; ``None``: the global one, also if that is set later.
        operations: the circuits of how many operations are told of by name, those first that are not
            closed. The rest are counted under the operation ``"other"``.

    Raises:
        InvalidOptionError: it is no ``TokenGateExecutor``, or the provider is told of another one of
            its name; ``operations`` is no int, or negative.
    """

    def __init__(
        self,
        executor: TokenGateExecutor,
        meter_provider: MeterProvider | None = None,
        *,
        operations: int = 50,
    ) -> None:
        _observer_of(meter_provider).readers.add(executor, operations)


class _Observer:
    """The instruments of one meter provider, and the executors of which they tell.

    A meter has each instrument once, and heeds only the callbacks that it was made with: so all
    executors of a provider share them.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        self.readers: Final = Readers()
        self.renew()
        renew_in_children(self)
        meter = get_meter(SCOPE, __version__, provider)
        create = {
            Kind.COUNTER: meter.create_observable_counter,
            Kind.SUM: meter.create_observable_up_down_counter,
            Kind.GAUGE: meter.create_observable_gauge,
        }
        for metric in CATALOGUE:
            create[metric.kind](metric.name, [self._callback_for(metric)], metric.unit, metric.text)

    def renew(self) -> None:
        """In a forked child."""
        # Guards the readings, when they were made, and the metrics that were told of them.
        self._lock = threading.Lock()
        self._readings: list[tuple[Reader, Reading]] = []
        self._read_at = float("-inf")
        self._told: set[Metric] = set()

    def _callback_for(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        names = [f"tokengate.{label}" for label in metric.labels]

        def observe(_options: CallbackOptions) -> list[Observation]:
            return [
                Observation(
                    value,
                    {"tokengate.executor": reader.name, **dict(zip(names, labels, strict=True))},
                )
                for reader, reading in self._readings_for(metric)
                for labels, value in reader.points(metric, reading)
            ]

        return observe

    def _readings_for(self, metric: Metric) -> list[tuple[Reader, Reading]]:
        """What the executors say: once for all metrics of a collection, so that it adds up.

        Nobody tells us that a collection begins. It does when a metric is asked for again.
        """
        now = monotonic()
        with self._lock:
            is_old = now > self._read_at + _LONGEST_COLLECTION_SECONDS
            if metric not in self._told and not is_old:
                self._told.add(metric)
                return self._readings
        readings = self.readers.read()
        with self._lock:
            self._readings, self._read_at, self._told = readings, now, {metric}
        return readings


# Guards _observers.
_observers_lock: Final = threading.Lock()
_observers: Final[WeakKeyDictionary[object, _Observer]] = WeakKeyDictionary()


def _observer_of(provider: MeterProvider | None) -> _Observer:
    # The global one is another object before it is set than after that.
    is_global = provider is None or provider is get_meter_provider()
    key: object = get_meter_provider if is_global else provider
    with _observers_lock:
        observer = _observers.get(key)
        if observer is None:
            observer = _observers[key] = _Observer(provider)
    return observer
