"""``exporters.otel_metrics``: what a meter provider is told of executors."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Mapping

import pytest

pytest.importorskip(
    "opentelemetry.sdk",
    reason="opentelemetry-sdk is not installed: nothing of OpenTelemetry's metrics is tested",
)

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric

from tokengate_executor import (
    ExecutorStatistics,
    InvalidOptionError,
    RetryPolicy,
    TokenGateExecutor,
)
from tokengate_executor.exporters.catalogue import CATALOGUE, Kind
from tokengate_executor.exporters.opentelemetry import OpenTelemetryMetrics

EXECUTOR = "tokengate.executor"


class Collected:
    """A meter provider with a reader in memory."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def metrics(self) -> dict[str, Metric]:
        """What a collection finds, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[tuple[Mapping[str, object], float]]:
        """The numbers of a metric, with their attributes."""
        metric = self.metrics().get(name)
        points = [] if metric is None else metric.data.data_points
        return [(dict(point.attributes or {}), point.value) for point in points]  # type: ignore[union-attr]

    def by(self, attribute: str, name: str) -> dict[object, float]:
        """The numbers of a metric, by one of its attributes."""
        return {attributes[attribute]: value for attributes, value in self.points(name)}


@pytest.fixture
def collected() -> Collected:
    """Return one that was told of nobody yet."""
    return Collected()


def fail() -> None:
    """Raise."""
    raise ValueError("on purpose")


def test_all_that_is_in_the_catalogue(collected: Collected) -> None:
    """Each metric is an instrument of its kind and unit, and has the executor's name."""
    with TokenGateExecutor(2, "mail", max_pending=9, limits={"db": 1}) as executor:
        executor.guard_house.open("letters")
        OpenTelemetryMetrics(executor, collected.provider)
        executor.submit(int).result(30)
        found = collected.metrics()
    assert found.keys() == {metric.name for metric in CATALOGUE}
    for metric in CATALOGUE:
        told = found[metric.name]
        assert (told.unit, told.description) == (metric.unit, metric.text)
        assert all(point.attributes[EXECUTOR] == "mail" for point in told.data.data_points)  # type: ignore[index]
        is_sum = type(told.data).__name__ == "Sum"
        assert is_sum is (metric.kind is not Kind.GAUGE)
        if is_sum:
            assert told.data.is_monotonic is (metric.kind is Kind.COUNTER)  # type: ignore[union-attr]


def test_it_says_what_the_statistics_say(collected: Collected) -> None:
    """At a quiet moment; attributes are the catalogue's labels."""
    twice = RetryPolicy(attempts=2, on=ValueError, delay=0)
    with TokenGateExecutor(1, "mail", retry=twice, log_unread_exceptions=False) as executor:
        OpenTelemetryMetrics(executor, collected.provider)
        executor.submit(int).result(30)
        executor.options(weight="light").submit(fail).exception(30)
        now = executor.statistics()
        assert collected.points("tokengate.tasks.submitted") == [({EXECUTOR: "mail"}, 2)]
        assert collected.by("tokengate.outcome", "tokengate.tasks") == {
            "completed": now.completed,
            "failed": now.failed,
            "cancelled": 0,
            "timed_out": 0,
        }
        assert collected.points("tokengate.task.retries") == [({EXECUTOR: "mail"}, 1)]
        started = collected.by("tokengate.weight", "tokengate.started")
        assert started == now.lanes[0].started_by_weight
        assert started["light"] == 2
        executor.pause()
        token = executor.submit(int)
        assert collected.by("tokengate.lane", "tokengate.queue.depth") == {"gate": 1, "1": 0}
        executor.resume()
        token.result(30)


def test_an_executor_is_asked_once_for_each_collection(
    collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many instruments there are; and the next collection asks anew."""
    asked: list[None] = []
    with TokenGateExecutor(1, "mail") as executor:

        def statistics() -> ExecutorStatistics:
            asked.append(None)
            return TokenGateExecutor.statistics(executor)

        OpenTelemetryMetrics(executor, collected.provider)
        monkeypatch.setattr(executor, "statistics", statistics, raising=False)
        for collections in range(1, 4):
            executor.submit(int).result(30)
            assert collected.points("tokengate.tasks.submitted")[0][1] == collections
            assert len(asked) == collections


def test_old_readings_are_not_told(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that was not asked for when the others were does not get what was read then."""
    monkeypatch.setattr("tokengate_executor.exporters.otel_metrics._LONGEST_COLLECTION_SECONDS", -1)
    with TokenGateExecutor(1, "mail") as executor:
        OpenTelemetryMetrics(executor, collected.provider)
        asked: list[None] = []

        def statistics() -> ExecutorStatistics:
            asked.append(None)
            return TokenGateExecutor.statistics(executor)

        monkeypatch.setattr(executor, "statistics", statistics, raising=False)
        collected.metrics()
        assert len(asked) == len(CATALOGUE)


def test_several_executors_share_a_provider(collected: Collected) -> None:
    """Each is told of, under its name; one that is gone is not; a name is had by one at a time."""
    kept, lost = TokenGateExecutor(1, "kept"), TokenGateExecutor(1, "lost")
    OpenTelemetryMetrics(kept, collected.provider)
    OpenTelemetryMetrics(lost, collected.provider)
    lost.submit(int).result(30)
    assert collected.by(EXECUTOR, "tokengate.tasks.submitted") == {"kept": 0, "lost": 1}
    with pytest.raises(InvalidOptionError, match="name"):
        OpenTelemetryMetrics(kept, collected.provider)
    OpenTelemetryMetrics(kept, Collected().provider)
    del lost
    gc.collect()
    assert collected.by(EXECUTOR, "tokengate.tasks.submitted") == {"kept": 0}
    kept.shutdown()
    with TokenGateExecutor(1, "kept") as successor:
        successor.submit(int).result(30)
        OpenTelemetryMetrics(successor, collected.provider)
        assert collected.by(EXECUTOR, "tokengate.tasks.submitted") == {"kept": 1}


def test_providers_are_not_kept() -> None:
    """One that nobody else has is gone, and what was made for it."""
    from tokengate_executor.exporters import otel_metrics

    gc.collect()
    before = len(otel_metrics._observers)
    provider = NoOpMeterProvider()
    with TokenGateExecutor(1) as executor:
        OpenTelemetryMetrics(executor, provider)
        assert len(otel_metrics._observers) == before + 1
        del provider
        gc.collect()
        assert len(otel_metrics._observers) == before


def test_only_so_many_operations_by_name(collected: Collected) -> None:
    """As for Prometheus."""
    with TokenGateExecutor(1, "mail") as executor:
        for number in range(20):
            executor.guard_house.open(f"operation {number:02}")
        OpenTelemetryMetrics(executor, collected.provider, operations=3)
        states = {
            (attributes["tokengate.operation"], attributes["tokengate.state"]): value
            for attributes, value in collected.points("tokengate.circuit.state")
        }
    assert len(states) == 4 * 3
    assert states["operation 00", "open"] == 1
    assert states["other", "open"] == 17


@pytest.mark.parametrize("wrong", [-1, True, None])
def test_wrong_arguments(collected: Collected, wrong: object) -> None:
    """They are named."""
    with (
        TokenGateExecutor(1) as executor,
        pytest.raises(InvalidOptionError, match="operations"),
    ):
        OpenTelemetryMetrics(executor, collected.provider, operations=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="TokenGateExecutor"):
        OpenTelemetryMetrics(wrong, collected.provider)  # type: ignore[arg-type]


def test_the_global_provider_may_be_set_later() -> None:
    """Whoever was told of before, and whoever is told of after, are told of together."""
    script = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tokengate_executor import TokenGateExecutor
from tokengate_executor.exporters.opentelemetry import OpenTelemetryMetrics

executors = [TokenGateExecutor(1, f"number {number}") for number in range(3)]
reader = InMemoryMetricReader()
OpenTelemetryMetrics(executors[0])
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
OpenTelemetryMetrics(executors[1])
OpenTelemetryMetrics(executors[2], metrics.get_meter_provider())
data = reader.get_metrics_data()
(scope,) = data.resource_metrics[0].scope_metrics
(submitted,) = [each for each in scope.metrics if each.name == "tokengate.tasks.submitted"]
print(sorted(point.attributes["tokengate.executor"] for point in submitted.data.data_points))
"""
    assert said_by(script) == "['number 0', 'number 1', 'number 2']\n"


def said_by(script: str) -> str:
    """Run it in an interpreter of its own; return what it printed."""
    import subprocess

    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_counters_never_go_down(collected: Collected) -> None:
    """Collected all the time while calls fail and are tried again."""
    twice = RetryPolicy(attempts=2, on=ValueError, delay=0, budget=None)
    calls: tuple[Callable[[], object], ...] = (int, fail)
    ended = threading.Event()
    with TokenGateExecutor(4, "mail", retry=twice, log_unread_exceptions=False) as executor:
        OpenTelemetryMetrics(executor, collected.provider)

        def produce() -> None:
            try:
                for number in range(5000):
                    executor.submit(calls[number % 2])
            finally:
                ended.set()

        producer = threading.Thread(target=produce)
        producer.start()
        before = 0.0
        is_over = False
        while not is_over:
            is_over = ended.is_set()
            ((_, now),) = collected.points("tokengate.tasks.submitted")
            assert before <= now <= 5000
            before = now
        producer.join(30)
        executor.shutdown()
        assert collected.points("tokengate.tasks.submitted") == [({EXECUTOR: "mail"}, 5000)]
