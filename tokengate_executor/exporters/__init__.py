"""Exporters: what an executor does, told to the tools that watch a service.

    from tokengate_executor.exporters.prometheus import PrometheusCollector
    from tokengate_executor.exporters.opentelemetry import OpenTelemetryListener, OpenTelemetryMetrics

Each needs a library of its own, an extra of this package; nothing here is imported before you import it.
They ask public verbs when they are asked, and count nothing themselves.
"""
