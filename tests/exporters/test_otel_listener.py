"""``exporters.otel_listener``: a span of each token, and how long tokens waited and ran."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from threading import Event
from time import time_ns
from typing import Any, Final

import pytest

pytest.importorskip(
    "opentelemetry.sdk",
    reason="opentelemetry-sdk is not installed: nothing of OpenTelemetry's traces is tested",
)

from opentelemetry import trace
from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from tokengate_executor import (
    GateFullError,
    OperationBlockedError,
    RetryPolicy,
    SpikePolicy,
    TokenGateExecutor,
    TokenKilledError,
    current_token,
)
from tokengate_executor.exporters.opentelemetry import OpenTelemetryListener
from tokengate_executor.lifecycle import TokenState
from tokengate_executor.observe.events import (
    TokenSettled,
    TokenStarted,
    TokenSubmitted,
)
from tokengate_executor.observe.histograms import BOUNDS

needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Traced:
    """A listener, and what it told OpenTelemetry."""

    def __init__(self, *, new_traces: bool = False, **settings: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        provider = TracerProvider(shutdown_on_exit=False, **settings)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("tests")
        self.listener = OpenTelemetryListener(
            provider,
            MeterProvider(metric_readers=[self._reader], shutdown_on_exit=False),
            new_traces=new_traces,
        )

    def executor(self, *args: Any, **options: Any) -> TokenGateExecutor:
        """Make one with the listener."""
        options.setdefault("log_unread_exceptions", False)
        return TokenGateExecutor(*args, listeners=[self.listener], **options)

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """The spans that have ended, of one name or all. Nothing is kept of anything else."""
        assert not self.listener._open
        assert not self.listener._running
        found = self._exporter.get_finished_spans()
        return [span for span in found if name in (None, span.name)]

    def span(self, name: str) -> ReadableSpan:
        """The only one of that name."""
        (span,) = self.spans(name)
        return span

    def histograms(self, name: str) -> list[HistogramDataPoint]:
        """What was recorded."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if isinstance(point, HistogramDataPoint)
        ]


@pytest.fixture
def traced() -> Traced:
    """Return one with the defaults."""
    return Traced()


def facts(span: ReadableSpan) -> dict[str, object]:
    """A span's attributes that are of its token."""
    prefix = "tokengate.token."
    attributes = span.attributes or {}
    return {
        name.removeprefix(prefix): value
        for name, value in attributes.items()
        if name.startswith(prefix)
    }


def identity(span: ReadableSpan | trace.Span) -> trace.SpanContext:
    """Which span it is."""
    context = span.get_span_context()
    assert context is not None
    return context


def fail() -> None:
    """Raise."""
    raise ValueError("secret")


# -- one token ------------------------------------------------------------------------------------


def test_a_span_has_the_facts_of_its_token(traced: Traced) -> None:
    """Named after the operation; from the start of the call to its end, by the wall clock."""
    before = time_ns()
    inside: list[int] = []
    with traced.executor(1, lanes=1) as executor:
        light = executor.options(operation="parse", weight="light")
        token = light.submit(lambda: inside.append(time_ns()))
        token.result(30)
    after = time_ns()
    span = traced.span("parse")
    assert facts(span).pop("queue_wait_seconds") == pytest.approx(
        (span.start_time or 0) / 1e9 - before / 1e9, abs=1
    )
    assert {**facts(span), "queue_wait_seconds": 0} == {
        "id": token.id,
        "operation": "parse",
        "weight": "light",
        "lane": 1,
        "worker": 1,
        "attempts": 1,
        "state": "completed",
        "queue_wait_seconds": 0,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.start_time is not None
    assert span.end_time is not None
    assert before <= span.start_time <= inside[0] <= span.end_time <= after
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "tokengate_executor"


def test_the_times_are_those_of_the_token(traced: Traced) -> None:
    """A span is as long as the token's attempts were, and began when it had waited that long."""
    release, started = Event(), Event()

    def stay() -> None:
        started.set()
        release.wait(30)

    with traced.executor(1) as executor:
        first = executor.options(operation="first").submit(stay)
        second = executor.options(operation="second").submit(int)
        assert started.wait(30)
        release.set()
        second.result(30)
    one, other = traced.span("first"), traced.span("second")
    assert other.start_time is not None
    assert one.end_time is not None
    assert one.start_time is not None
    assert other.start_time >= one.end_time
    waited = facts(other)["queue_wait_seconds"]
    assert isinstance(waited, float)
    assert second.started_at is not None
    assert 0 < waited <= second.started_at - second.submitted_at
    assert first.settled_at is not None
    assert first.started_at is not None
    ran = first.settled_at - first.started_at
    assert (one.end_time - one.start_time) / 1e9 == pytest.approx(ran, abs=0.05)
    assert (one.end_time - one.start_time) / 1e9 >= ran - 1e-6


def test_an_error_is_told_by_its_type_alone(traced: Traced) -> None:
    """The span's status is ERROR; what the error says is nowhere in it."""
    with traced.executor(1) as executor:
        executor.options(operation="parse").submit(fail).exception(30)
    span = traced.span("parse")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError"
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert facts(span)["state"] == "failed"
    assert not span.events
    assert "secret" not in span.to_json()


def test_a_kill_is_no_error(traced: Traced) -> None:
    """Somebody wanted it so."""
    started, killed = Event(), Event()

    def heed() -> None:
        started.set()
        killed.wait(30)
        token = current_token()
        assert token is not None
        token.checkpoint()

    with traced.executor(1) as executor:
        token = executor.options(operation="parse").submit(heed)
        assert started.wait(30)
        executor.kill(token.id)
        killed.set()
        with pytest.raises(TokenKilledError):
            token.result(30)
    span = traced.span("parse")
    assert facts(span)["state"] == "killed"
    assert span.status.status_code is StatusCode.UNSET


# -- who belongs to whom ---------------------------------------------------------------------------


def test_it_is_a_child_of_its_submitter_and_linked_to_it(traced: Traced) -> None:
    """Also if that has ended before the call starts."""
    with traced.executor(1) as executor:
        executor.pause()
        with traced.tracer.start_as_current_span("request") as request:
            executor.options(operation="parse").submit(int)
        executor.options(operation="alone").submit(int)
        executor.resume()
    span = traced.span("parse")
    assert span.parent is not None
    assert span.parent.span_id == identity(request).span_id
    assert [link.context.span_id for link in span.links] == [identity(request).span_id]
    alone = traced.span("alone")
    assert alone.parent is None
    assert not alone.links


def test_it_may_begin_a_trace_of_its_own() -> None:
    """Then the link alone leads to the submitter; what the context has else comes along."""
    traced = Traced(new_traces=True)
    with traced.executor(1) as executor:
        with traced.tracer.start_as_current_span("request") as request:
            token = attach(set_baggage("customer", "7"))
            found = executor.options(operation="parse").submit(get_baggage, "customer")
            detach(token)
        assert found.result(30) == "7"
    span = traced.span("parse")
    assert span.parent is None
    assert identity(span).trace_id != identity(request).trace_id
    assert [link.context.span_id for link in span.links] == [identity(request).span_id]


def test_what_is_made_inside_is_its_child(traced: Traced) -> None:
    """It is the current span in the call, and nowhere else."""

    def call() -> trace.Span:
        with traced.tracer.start_as_current_span("inside"):
            pass
        return trace.get_current_span()

    with traced.executor(1) as executor:
        seen = executor.options(operation="parse").submit(call).result(30)
        assert trace.get_current_span() is trace.INVALID_SPAN
        between = executor.options(operation="next").submit(int)
        between.result(30)
    span, inside = traced.span("parse"), traced.span("inside")
    assert identity(seen) == identity(span)
    assert inside.parent is not None
    assert inside.parent.span_id == identity(span).span_id
    assert traced.span("next").parent is None
    assert (span.end_time or 0) >= (inside.end_time or 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_nested_calls(traced: Traced, workers: int) -> None:
    """A call's span is a child of the call's that submitted it, run in its place or elsewhere."""
    with traced.executor(workers) as executor:

        def outer() -> trace.Span:
            executor.options(operation="inner").submit(fail).exception()
            return trace.get_current_span()

        with traced.tracer.start_as_current_span("request"):
            seen = executor.options(operation="outer").submit(outer).result(30)
    inner, whole = traced.span("inner"), traced.span("outer")
    assert identity(seen) == identity(whole)
    assert inner.parent is not None
    assert whole.parent is not None
    assert inner.parent.span_id == identity(whole).span_id
    assert whole.parent.span_id == identity(traced.span("request")).span_id


# -- several attempts ------------------------------------------------------------------------------


def test_retries_are_events_of_one_span(traced: Traced) -> None:
    """All attempts are inside it, whatever they leave behind in their context."""
    seen: list[tuple[trace.Span, object]] = []

    def call() -> None:
        seen.append((trace.get_current_span(), get_baggage("left")))
        attach(trace.set_span_in_context(trace.INVALID_SPAN, set_baggage("left", "behind")))
        if len(seen) < 3:
            fail()

    retry = RetryPolicy(attempts=3, on=ValueError, delay=0.001, jitter=None)
    with traced.executor(1, retry=retry) as executor:
        with traced.tracer.start_as_current_span("request") as request:
            token = executor.options(operation="parse").submit(call)
        token.result(30)
    span = traced.span("parse")
    assert [identity(one) for one, _ in seen] == [identity(span)] * 3
    assert [left for _, left in seen] == [None] * 3
    assert [event.name for event in span.events] == ["retry"] * 2
    first, second = (dict(event.attributes or {}) for event in span.events)
    assert first == {
        "tokengate.attempt": 1,
        "tokengate.retry_delay_seconds": 0.001,
        "error.type": "ValueError",
    }
    assert second["tokengate.attempt"] == 2
    times = [span.start_time, *(event.timestamp for event in span.events), span.end_time]
    assert times == sorted(times, key=lambda time: time or 0)
    assert facts(span)["attempts"] == 3
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is not None
    assert span.parent.span_id == identity(request).span_id


def test_calls_that_are_given_up(traced: Traced) -> None:
    """That they were quarantined is an event, too."""
    retry = RetryPolicy(attempts=2, on=ValueError, delay=0)
    with traced.executor(1, retry=retry, quarantine=True) as executor:
        executor.options(operation="parse").submit(fail).exception(30)
        (call,) = executor.quarantine.pending()
    span = traced.span("parse")
    assert [event.name for event in span.events] == ["retry", "quarantined"]
    assert dict(span.events[1].attributes or {}) == {
        "tokengate.quarantine.id": call.id,
        "tokengate.quarantine.reason": "given up",
    }
    assert span.status.status_code is StatusCode.ERROR


def test_attempts_that_are_cut_off(traced: Traced) -> None:
    """The span ends with the token, though its thread goes on; what that makes is still its child."""
    release, ended = Event(), Event()

    def stay() -> None:
        with traced.tracer.start_as_current_span("inside"):
            release.wait(30)
        ended.set()

    with traced.executor(1) as executor:
        token = executor.options(operation="parse", timeout=0.01).submit(stay)
        assert isinstance(token.exception(30), TimeoutError)
        executor.drain()
        release.set()
        assert ended.wait(30)
    span, inside = traced.span("parse"), traced.span("inside")
    assert facts(span)["state"] == "timeout"
    assert span.status.description == "TokenTimeoutError"
    assert inside.parent is not None
    assert inside.parent.span_id == identity(span).span_id


def test_a_cut_off_attempt_that_is_tried_again(traced: Traced) -> None:
    """The next attempt is in the token's span, not in what the first was in the midst of."""
    release = Event()
    seen: list[trace.Span] = []

    def call() -> None:
        seen.append(trace.get_current_span())
        if len(seen) == 1:
            with traced.tracer.start_as_current_span("inside"):
                release.wait(30)

    retry = RetryPolicy(attempts=2, on=TimeoutError, delay=0)
    with traced.executor(1, retry=retry) as executor:
        executor.options(operation="parse", timeout=0.2).submit(call).result(30)
        release.set()
    span = traced.span("parse")
    assert [identity(one) for one in seen] == [identity(span)] * 2
    assert facts(span)["attempts"] == 2
    assert dict(span.events[0].attributes or {})["error.type"] == "TokenTimeoutError"


# -- without a span --------------------------------------------------------------------------------


def test_calls_that_never_start_leave_nothing(traced: Traced) -> None:
    """Refused, discarded, cancelled, killed, held and rejected, too late: no span, no memory."""
    release, started = Event(), Event()

    def stay() -> None:
        started.set()
        release.wait(30)

    with traced.executor(
        1, max_pending=2, on_full="raise", spikes=SpikePolicy(min_samples=2), quarantine=True
    ) as executor:
        sized = executor.options(operation="sized")
        for _ in range(3):
            sized.submit(len, "short").result(30)
        held = sized.submit(len, "long" * 1000)
        assert held.state is TokenState.QUARANTINED
        executor.options(operation="first").submit(stay)
        assert started.wait(30)
        cancelled = executor.submit(int)
        late = executor.options(queue_timeout=0.001).submit(int)
        with pytest.raises(GateFullError):
            executor.submit(int)
        cancelled.cancel()
        executor.guard_house.open("mail")
        with pytest.raises(OperationBlockedError):
            executor.options(operation="mail").submit(int)
        killed = executor.submit(int)
        executor.kill(killed.id)
        assert isinstance(late.exception(30), TimeoutError)
        (call,) = executor.quarantine.pending()
        executor.quarantine.reject(call.id)
        assert held.exception(30) is not None
        release.set()
    assert [span.name for span in traced.spans()] == ["sized"] * 3 + ["first"]
    with traced.executor(1, max_pending=1, on_full="discard_newest") as executor:
        executor.pause()
        kept, discarded = executor.submit(int), executor.submit(int)
        assert discarded.cancelled()
        executor.resume()
        kept.result(30)
    assert len(traced.spans()) == 5
    with pytest.raises(RuntimeError):
        executor.submit(int)
    assert len(traced.spans()) == 5


def test_a_token_that_is_settled_by_hand_while_it_starts(traced: Traced) -> None:
    """Its span ends, or was never made, whichever of the two is told first."""
    token: dict[str, Any] = {"token_id": "0-1", "operation": "parse", "weight": None, "at": 1.0}
    submitted = TokenSubmitted(**token)
    started = TokenStarted(**token, lane=1, worker=1, attempt=1, waited_seconds=0.0)
    settled = TokenSettled(
        **token,
        state=TokenState.COMPLETED,
        error=None,
        lane=1,
        worker=1,
        attempts=1,
        waited_seconds=0.0,
        run_seconds=0.0,
    )
    for event in (submitted, settled, started):
        traced.listener(event)
    assert traced.spans() == []

    class Meanwhile(set[str]):
        """Says that the token is open, and settles it before anybody can act upon that."""

        asked = 0

        def __contains__(self, item: object) -> bool:
            self.asked += 1
            found = super().__contains__(item)
            if self.asked == 1:
                traced.listener(settled)
            return found

    traced.listener._open = Meanwhile()
    for event in (submitted, started):
        traced.listener(event)
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert len(traced.spans("parse")) == 1


def test_without_tracing_nothing_is_kept() -> None:
    """The API alone makes no spans: there is nothing to make current, or to remember."""
    listener = OpenTelemetryListener()
    seen: list[int] = []
    with TokenGateExecutor(1, listeners=[listener]) as executor:
        span = executor.submit(trace.get_current_span).result(30)
        executor.submit(lambda: seen.append(len(listener._running))).result(30)
    assert span is trace.INVALID_SPAN
    assert seen == [0]
    assert not listener._open


def test_spans_that_are_not_sampled() -> None:
    """They are current inside the call all the same, so that what is made there is not sampled, too."""
    traced = Traced(sampler=ALWAYS_OFF)
    with traced.executor(1) as executor:
        span = executor.submit(trace.get_current_span).result(30)
        executor.submit(fail).exception(30)
    assert span.get_span_context().is_valid
    assert not span.is_recording()
    assert traced.spans() == []


# -- histograms -----------------------------------------------------------------------------------


def test_wait_and_run_times(traced: Traced) -> None:
    """In seconds, by lane, weight and outcome; of tokens that never started there are none."""
    with traced.executor(1, lanes=1) as executor:
        executor.options(weight="light").submit(int).result(30)
        executor.submit(int).result(30)
        executor.submit(fail).exception(30)
        executor.pause()
        executor.submit(int).cancel()
        executor.resume()
    waits, runs = (
        {
            (
                (point.attributes or {})["tokengate.lane"],
                (point.attributes or {})["tokengate.weight"],
                (point.attributes or {})["tokengate.outcome"],
            ): point
            for point in traced.histograms(name)
        }
        for name in ("tokengate.queue.wait", "tokengate.task.duration")
    )
    assert (
        waits.keys()
        == runs.keys()
        == {
            ("1", "light", "completed"),
            ("1", "unweighted", "completed"),
            ("1", "unweighted", "failed"),
        }
    )
    for point in (*waits.values(), *runs.values()):
        assert point.count == 1
        assert 0 < point.sum < 30
        assert tuple(point.explicit_bounds) == BOUNDS


def test_a_token_that_is_cancelled_between_attempts(traced: Traced) -> None:
    """Its span ends as it is; the run time is that of the attempt that there was."""
    retry = RetryPolicy(attempts=2, on=ValueError, delay=600, jitter=None)
    told = Event()

    def watch(event: object) -> None:
        if type(event).__name__ == "TokenRetrying":
            told.set()

    with TokenGateExecutor(1, retry=retry, listeners=[traced.listener, watch]) as executor:
        token = executor.options(operation="parse").submit(fail)
        assert told.wait(30)
        while not token.cancel():  # the event is told a moment before it may be
            pass
    span = traced.span("parse")
    assert facts(span)["state"] == "cancelled"
    assert facts(span)["attempts"] == 1
    assert span.status.status_code is StatusCode.UNSET
    assert len(traced.histograms("tokengate.task.duration")) == 1


# -- many -----------------------------------------------------------------------------------------


def test_many_threads_and_executors(traced: Traced) -> None:
    """One listener serves them all: each token one span, each a child of its own submitter's."""
    executors = [traced.executor(4, f"number {number}") for number in range(2)]
    parents: dict[int, int] = {}
    calls = 50

    def produce(number: int) -> None:
        with traced.tracer.start_as_current_span(f"request {number}") as request:
            parents[number] = identity(request).span_id
            views = [
                executor.options(operation=f"call {number}", weight="light")
                for executor in executors
            ]
            tokens = [views[index % 2].submit(abs, index) for index in range(calls)]
            assert [token.result(30) for token in tokens] == list(range(calls))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for executor in executors:
        executor.shutdown()
    spans = traced.spans()
    assert len(spans) == 6 * (calls + 1)
    assert len({identity(span).span_id for span in spans}) == len(spans)
    for number, parent in parents.items():
        of_call = traced.spans(f"call {number}")
        assert len(of_call) == calls
        assert {span.parent.span_id for span in of_call if span.parent is not None} == {parent}


@pytest.fixture
def released() -> Iterator[Event]:
    """Yield what a held call waits for; let it go in the end."""
    event = Event()
    yield event
    event.set()


@needs_fork
def test_a_fork(traced: Traced, released: Event) -> None:
    """The child knows nothing of the parent's tokens, and ends no span of theirs."""
    started = Event()

    def stay() -> None:
        started.set()
        released.wait(30)

    with traced.executor(1) as executor:
        executor.options(operation="parse").submit(stay)
        executor.submit(int)
        assert started.wait(30)
        assert (len(traced.listener._open), len(traced.listener._running)) == (2, 1)
        pid = os.fork()
        if pid == 0:
            os._exit(len(traced.listener._open) + len(traced.listener._running))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        released.set()
    assert len(traced.spans()) == 2
