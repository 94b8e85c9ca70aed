"""Executors with guards switched on, to be measured like any other: ``--candidate``."""

from __future__ import annotations

from tokengate_executor import BreakerPolicy, RetryPolicy, SpikePolicy, TokenGateExecutor

__all__ = ["all_parts"]


def all_parts(max_workers: int) -> TokenGateExecutor:
    """Start one with everything that is done about failures: nothing fails in a measurement."""
    return TokenGateExecutor(
        max_workers,
        retry=RetryPolicy(attempts=3, on=OSError),
        timeout=60.0,
        slow_after=10.0,
        breaker=BreakerPolicy(),
        spikes=SpikePolicy(),
        quarantine=True,
    )
