"""``PrometheusCollector``: an executor's numbers, for a Prometheus server to scrape.

    REGISTRY.register(PrometheusCollector(executor))

It needs ``prometheus-client``: the extra ``prometheus``. The numbers are read when they are scraped,
from what the workers count anyhow.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING

from tokengate_executor.exporters.catalogue import (
    CATALOGUE,
    HISTOGRAMS,
    RUN_TIME,
    WAIT_TIME,
    HistogramMetric,
    Kind,
    Metric,
)
from tokengate_executor.exporters.readers import Readers, check_operations

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "prometheus_client":
        raise
    raise ImportError(
        'the Prometheus exporter needs prometheus-client: pip install "tokengate-executor[prometheus]"',
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from tokengate_executor.executor import TokenGateExecutor
    from tokengate_executor.observe.histograms import Histogram

__all__ = ["PrometheusCollector"]


class PrometheusCollector(Collector):
    """Tells a registry of ``prometheus_client`` what executors do.

    Each number has the label ``executor``, the executor's name. Executors are not held: one that is
    gone is not told of any more. From here on they keep histograms, see ``measure``.

    Args:
        executors: at first; ``add`` takes more, as a registry takes only one collector of its kind.
        operations: the circuits of how many operations are told of by name, those first that are not
            closed. The rest are counted under the operation ``"other"``.

    Raises:
        InvalidOptionError: one is no ``TokenGateExecutor``, or two have the same name; ``operations``
            is no int, or negative.
    """

    def __init__(self, *executors: TokenGateExecutor, operations: int = 50) -> None:
        check_operations(operations)
        self._operations = operations
        self._readers = Readers()
        for executor in executors:
            self.add(executor)

    def add(self, executor: TokenGateExecutor) -> None:
        """Tell of this one, too. It takes the place of one of its name that was shut down.

        Raises:
            InvalidOptionError: it is no ``TokenGateExecutor``, or another one has its name.
        """
        self._readers.add(executor, self._operations)
        executor.measure()

    def describe(self) -> Iterable[Family]:
        """The metrics without numbers, so that a registry need not ask the executors."""
        return [*map(_family_of, CATALOGUE), *map(_histogram_family_of, HISTOGRAMS)]

    def collect(self) -> Iterable[Family]:
        """The metrics with their numbers of this moment."""
        families = [_family_of(metric) for metric in CATALOGUE]
        waits, runs = _histogram_family_of(WAIT_TIME), _histogram_family_of(RUN_TIME)
        for reader, reading in self._readers.read():
            for metric, numbers in zip(CATALOGUE, families, strict=True):
                for labels, value in reader.points(metric, reading):
                    numbers.add_metric([reader.name, *labels], value)
            for lane, of_lane in reader.histograms().items():
                for family, histogram in ((waits, of_lane.wait), (runs, of_lane.run)):
                    family.add_metric(
                        [reader.name, str(lane)], _buckets(histogram), histogram.total_seconds
                    )
        return [family for family in (*families, waits, runs) if family.samples]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Upper bound → how many are not above it."""
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def _family_of(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    labels = ["executor", *metric.labels]
    return kind(_name_of(metric.name, metric.unit), metric.text, labels=labels)


def _histogram_family_of(metric: HistogramMetric) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        _name_of(metric.name, "s"), metric.text, labels=["executor", "lane"]
    )


def _name_of(name: str, unit: str) -> str:
    """As Prometheus has it; that counters end in ``_total``, their family sees to."""
    return name.replace(".", "_") + ("_seconds" if unit == "s" else "")
