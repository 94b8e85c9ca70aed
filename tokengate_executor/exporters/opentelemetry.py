"""Metrics and traces of an executor for OpenTelemetry.

    OpenTelemetryMetrics(executor)
    TokenGateExecutor(listeners=[OpenTelemetryListener()])

It needs ``opentelemetry-api``: the extra ``otel``. A program that wants to see something sets up
``opentelemetry-sdk``.
"""

from __future__ import annotations

try:
    from tokengate_executor.exporters.otel_listener import OpenTelemetryListener
    from tokengate_executor.exporters.otel_metrics import OpenTelemetryMetrics
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ImportError(
        'the OpenTelemetry exporter needs opentelemetry-api: pip install "tokengate-executor[otel]"',
        name=error.name,
    ) from error

__all__ = ["OpenTelemetryListener", "OpenTelemetryMetrics"]
