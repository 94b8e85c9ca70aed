"""``OpenTelemetryListener``: a span of each token, and histograms of how long tokens waited and ran.

A span is a token's, not an attempt's: whoever submitted the call knows one thing that was to be done,
and how often it was tried is a fact of that. It begins with the first attempt and ends with the token;
what the call does is inside, in whichever attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns, time_ns
from typing import Final

from opentelemetry.context import Context, attach, get_current
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
    set_span_in_context,
)

from tokengate_executor import __version__
from tokengate_executor.exporters.catalogue import RUN_TIME, WAIT_TIME
from tokengate_executor.exporters.forks import renew_in_children
from tokengate_executor.exporters.otel_metrics import SCOPE
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import (
    Event,
    TokenQuarantined,
    TokenRejected,
    TokenRetrying,
    TokenSettled,
    TokenStarted,
    TokenSubmitted,
)
from tokengate_executor.observe.histograms import BOUNDS

__all__ = ["OpenTelemetryListener"]

_FAULTS: Final = frozenset({TokenState.FAILED, TokenState.TIMEOUT})
_OUTCOMES: Final = {
    TokenState.COMPLETED: "completed",
    TokenState.FAILED: "failed",
    TokenState.TIMEOUT: "timed_out",
    TokenState.CANCELLED: "cancelled",
    TokenState.KILLED: "cancelled",
}
_UNWEIGHTED: Final = "unweighted"


class _Clock:
    """Seconds of ``perf_counter`` as nanoseconds of the wall clock.

    Each token has its own, set when it begins: so a wall clock that is set meanwhile does not change how
    long a span is, nor the order of what is in it.
    """

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        # In this order it is late by a moment, not early: or spans would end before their children.
        now = perf_counter_ns()
        self._ahead = time_ns() - now

    def __call__(self, at: float) -> int:
        return self._ahead + int(at * 1e9)


@dataclass(frozen=True, slots=True)
class _Running:
    """A token that has begun.

    Attributes:
        span: of it.
        context: in which its call runs, with the span as the current one.
        clock: for the span's times.
    """

    span: Span
    context: Context
    clock: _Clock


class OpenTelemetryListener:
    """Makes a span of each token that is started, and histograms of how long they waited and ran.

    ``TokenGateExecutor(listeners=[OpenTelemetryListener()])``. It serves any number of executors.

    The span has the operation's name. It is the current one inside the call, so what is made there is
    its child. It has a link to the span that was the current one at ``submit``, and is a child of that,
    too, unless it is to begin a trace.

    Args:
        tracer_provider, meter_provider: who gets spans and histograms; ``None``: the global ones, also
            if these are set later.
        new_traces: whether each span begins a trace of its own: for calls that are submitted in one
            request and have little to do with it.

    Guarantees
        * Nothing is kept of a token that was settled or refused.
        * A span ends once, though a token may be settled on one thread while it starts on another.

    Assumes
        * Single operations of ``dict`` and ``set`` are atomic. Who starts a token stores its span and
          *then* looks whether it is still open; who settles it says that it is not and *then* looks for
          a span. Whichever came second sees the other, and of two who ``pop`` one gets the span.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        new_traces: bool = False,
    ) -> None:
        self._new_traces = new_traces
        self._tracer = get_tracer(SCOPE, __version__, tracer_provider)
        meter = get_meter(SCOPE, __version__, meter_provider)
        self._waits, self._runs = (
            meter.create_histogram(
                metric.name, "s", metric.text, explicit_bucket_boundaries_advisory=BOUNDS
            )
            for metric in (WAIT_TIME, RUN_TIME)
        )
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In a forked child: the parent's tokens, and their spans, are the parent's."""
        self._open: set[str] = set()
        self._running: dict[str, _Running] = {}

    def __call__(self, event: Event) -> None:
        """Heed it, if it is of a token."""
        match event:
            case TokenSubmitted():
                self._open.add(event.token_id)
            case TokenStarted():
                self._start(event)
            case TokenSettled():
                self._settle(event)
            case TokenRetrying():
                self._note_retry(event)
            case TokenQuarantined():
                self._note_quarantine(event)
            case TokenRejected():
                self._open.discard(event.token_id)
            case _:
                pass

    def _start(self, event: TokenStarted) -> None:
        identifier = event.token_id
        running = self._running.get(identifier)
        if running is None:
            if identifier not in self._open:
                return  # somebody has settled it by hand
            running = self._begin(event)
            if not running.span.get_span_context().is_valid:
                return  # nobody has set up tracing
            self._running[identifier] = running
            if identifier not in self._open:
                late = self._running.pop(identifier, None)
                if late is not None:
                    late.span.end(late.clock(event.at))
                return
        # For good: the context is the token's own. What an earlier attempt has left there is not heeded.
        attach(running.context)

    def _begin(self, event: TokenStarted) -> _Running:
        clock = _Clock()
        around = get_current()
        submitter = get_current_span(around).get_span_context()
        span = self._tracer.start_span(
            event.operation,
            # Also for a trace of its own: what samplers look at is in the context.
            set_span_in_context(INVALID_SPAN, around) if self._new_traces else around,
            attributes={
                "tokengate.token.id": event.token_id,
                "tokengate.token.operation": event.operation,
                "tokengate.token.weight": event.weight or _UNWEIGHTED,
                "tokengate.token.lane": event.lane,
                "tokengate.token.worker": event.worker,
                "tokengate.token.attempts": event.attempt,
                "tokengate.token.queue_wait_seconds": event.waited_seconds,
            },
            links=[Link(submitter)] if submitter.is_valid else None,
            start_time=clock(event.at),
        )
        return _Running(span, set_span_in_context(span, around), clock)

    def _settle(self, event: TokenSettled) -> None:
        self._open.discard(event.token_id)
        running = self._running.pop(event.token_id, None)
        if event.worker is not None:  # else it was never started
            self._measure(event, Context() if running is None else running.context)
        if running is None or not running.span.is_recording():
            return
        attributes: dict[str, str | int] = {
            "tokengate.token.attempts": event.attempts,
            "tokengate.token.state": str(event.state),
        }
        if event.lane is not None and event.worker is not None:
            attributes["tokengate.token.lane"] = event.lane
            attributes["tokengate.token.worker"] = event.worker
        if event.error is not None and event.state in _FAULTS:
            attributes["error.type"] = event.error
            running.span.set_status(StatusCode.ERROR, event.error)
        running.span.set_attributes(attributes)
        running.span.end(running.clock(event.at))

    def _measure(self, event: TokenSettled, context: Context) -> None:
        attributes = {
            "tokengate.lane": str(event.lane),
            "tokengate.weight": event.weight or _UNWEIGHTED,
            "tokengate.outcome": _OUTCOMES[event.state],
        }
        self._waits.record(event.waited_seconds, attributes, context)
        self._runs.record(event.run_seconds, attributes, context)

    def _note_retry(self, event: TokenRetrying) -> None:
        running = self._running.get(event.token_id)
        if running is None:
            return
        attributes: dict[str, str | int | float] = {
            "tokengate.attempt": event.attempt,
            "tokengate.retry_delay_seconds": event.delay_seconds,
        }
        if event.error is not None:
            attributes["error.type"] = event.error
        running.span.add_event("retry", attributes, running.clock(event.at))

    def _note_quarantine(self, event: TokenQuarantined) -> None:
        running = self._running.get(event.token_id)
        if running is not None:
            attributes = {
                "tokengate.quarantine.id": event.quarantine_id,
                "tokengate.quarantine.reason": event.reason,
            }
            running.span.add_event("quarantined", attributes, running.clock(event.at))
