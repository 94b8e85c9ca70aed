"""``exporters.opentelemetry``: the door to both, and both together."""

from __future__ import annotations

import importlib
import sys

import pytest

pytest.importorskip(
    "opentelemetry.sdk",
    reason="opentelemetry-sdk is not installed: metrics and traces together are not tested",
)

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tokengate_executor import TokenGateExecutor
from tokengate_executor.exporters.opentelemetry import OpenTelemetryListener, OpenTelemetryMetrics


def test_metrics_and_traces_together() -> None:
    """No instrument of the one is the other's; as many spans as calls that started."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    with TokenGateExecutor(2, listeners=[OpenTelemetryListener(tracers, meters)]) as executor:
        OpenTelemetryMetrics(executor, meters)
        for _ in range(10):
            executor.submit(int).result(30)
        executor.shutdown()
        data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    names = [metric.name for metric in scope.metrics]
    assert len(set(names)) == len(names)
    assert {"tokengate.tasks", "tokengate.task.duration", "tokengate.queue.wait"} <= set(names)
    assert len(exporter.get_finished_spans()) == 10


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have the exporters be imported anew in this test."""
    for name in [name for name in sys.modules if name.startswith("tokengate_executor.exporters.o")]:
        monkeypatch.delitem(sys.modules, name)
    return monkeypatch


def test_a_missing_library(not_imported: pytest.MonkeyPatch) -> None:
    """The error says how to get it."""
    not_imported.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(ImportError, match=r'pip install "tokengate-executor\[otel\]"'):
        importlib.import_module("tokengate_executor.exporters.opentelemetry")


def test_something_else_that_is_missing(not_imported: pytest.MonkeyPatch) -> None:
    """It is passed on as it is: the extra would not help."""
    not_imported.setitem(sys.modules, "tokengate_executor.exporters.catalogue", None)
    with pytest.raises(ModuleNotFoundError, match="catalogue"):
        importlib.import_module("tokengate_executor.exporters.opentelemetry")
