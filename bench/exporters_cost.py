"""Measure what the exporters cost: a scrape, a collection, and each call.

    python bench/exporters_cost.py

A *scrape* is the text that Prometheus gets, of an executor with 32 workers and 200 operations that each
have a circuit and calls in every worker's notes; a *collection* is what OpenTelemetry's reader finds.

Calls are no-ops, 4 workers, submitted and then waited for. Each round takes one sample of each case, so
that the machine's noise meets all; a case's cost is the median over the rounds of its time less that of
the same round without anything, by call. Spans and histograms go to the SDK, and spans into an exporter
that drops them: what a real one does with them, it does on a thread of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry, generate_latest

from tokengate_executor import BreakerPolicy, LoggingListener, TokenGateExecutor
from tokengate_executor.exporters.opentelemetry import OpenTelemetryListener, OpenTelemetryMetrics
from tokengate_executor.exporters.prometheus import PrometheusCollector

Listeners = Sequence[Callable[[object], object]]


class Drop(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


def no_op() -> None:
    pass


def hear(_event: object) -> None:
    pass


def fail() -> None:
    raise ValueError


def milliseconds(act: Callable[[], object], times: int = 30) -> float:
    def once() -> float:
        begun = perf_counter()
        act()
        return perf_counter() - begun

    act()
    return 1e3 * median(once() for _ in range(times))


def of_scrapes() -> None:
    with TokenGateExecutor(32, breaker=BreakerPolicy(), log_unread_exceptions=False) as executor:
        views = [executor.options(operation=f"operation {number}") for number in range(200)]
        for _ in range(50):
            for token in [view.submit(no_op) for view in views]:
                token.result()
        for view in views:
            view.submit(fail).exception()
        registry = CollectorRegistry()
        collector = PrometheusCollector(executor)
        registry.register(collector)
        reader = InMemoryMetricReader()
        OpenTelemetryMetrics(executor, MeterProvider([reader], shutdown_on_exit=False))
        lines = [line for line in generate_latest(registry).splitlines() if line[:1] != b"#"]
        print(f"32 workers, {len(executor.guard_house.circuits())} circuits, {len(lines)} series")
        for name, act in (
            ("statistics()", executor.statistics),
            ("guard_house.circuits()", executor.guard_house.circuits),
            ("histograms()", executor.histograms),
            ("PrometheusCollector.collect()", lambda: list(collector.collect())),
            ("a scrape: collected, and as text", lambda: generate_latest(registry)),
            ("a collection by OpenTelemetry", reader.get_metrics_data),
        ):
            print(f"  {name:36}{milliseconds(act):8.2f} ms")


def sample(calls: int, listeners: Listeners, *, measured: bool) -> float:
    with TokenGateExecutor(4, listeners=listeners) as executor:
        if measured:
            executor.measure()
        executor.submit(no_op).result()
        begun = perf_counter()
        for token in [executor.submit(no_op) for _ in range(calls)]:
            token.result()
        executor.shutdown()  # what is told after the results is waited for, too
        return perf_counter() - begun


def of_calls(calls: int, rounds: int) -> None:
    def traced(**settings: object) -> OpenTelemetryListener:
        tracers = TracerProvider(shutdown_on_exit=False, **settings)
        tracers.add_span_processor(SimpleSpanProcessor(Drop()))
        meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        return OpenTelemetryListener(tracers, meters)

    cases: dict[str, tuple[Listeners, bool]] = {
        "nothing": ((), False),
        "measure(), as PrometheusCollector has it": ((), True),
        "a listener that does nothing": ((hear,), False),
        "LoggingListener, its level off": ((LoggingListener(level=1),), False),
        "OpenTelemetryListener, no SDK": ((OpenTelemetryListener(),), False),
        "OpenTelemetryListener, none sampled": ((traced(sampler=ALWAYS_OFF),), False),
        "OpenTelemetryListener, all sampled": ((traced(),), False),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (listeners, measured) in cases.items():
            times[name].append(sample(calls, listeners, measured=measured))
    plain = times["nothing"]
    print(f"no-op calls, 4 workers, {calls} at a time, {rounds} rounds")
    print(f"  {'nothing':42}{median(plain) / calls * 1e6:8.2f} µs a call")
    for name in list(cases)[1:]:
        more = median(one - bare for one, bare in zip(times[name], plain, strict=True))
        print(f"  {name:42}{more / calls * 1e6:+8.2f} µs a call")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the exporters cost.")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    of_scrapes()
    of_calls(arguments.calls, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
