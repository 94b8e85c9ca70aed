"""``observe.herald``: what is told of tokens, whatever becomes of them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from tokengate_executor import (
    CircuitState,
    Event,
    GateFullError,
    OperationBlockedError,
    RetryPolicy,
    SpikePolicy,
    TokenEvent,
    TokenGateExecutor,
    TokenQuarantined,
    TokenQuarantinedError,
    TokenRejected,
    TokenRetrying,
    TokenSettled,
    TokenStarted,
    TokenState,
    TokenSubmitted,
    TokenTimeoutError,
)


class Heard:
    """A listener that keeps what it was told, by token."""

    def __init__(self) -> None:
        self.by_token: defaultdict[str, list[Any]] = defaultdict(list)
        self.all: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep it."""
        self.all.append(event)
        if isinstance(event, TokenEvent):
            self.by_token[event.token_id].append(event)

    def names(self, token_id: str) -> list[str]:
        """The kinds of a token's events, in order."""
        return [type(event).__name__.removeprefix("Token") for event in self.by_token[token_id]]


def fail() -> None:
    """Raise."""
    raise ValueError("secret")


def test_one_call() -> None:
    """Submitted, started, settled, with all that is known; the id is the token's."""
    heard = Heard()
    with TokenGateExecutor(1, listeners=[heard]) as executor:
        token = executor.options(weight="light", operation="power").submit(pow, 2, 5)
        assert token.result() == 32
    submitted, started, settled = heard.by_token[token.id]
    assert heard.names(token.id) == ["Submitted", "Started", "Settled"]
    for event in (submitted, started, settled):
        assert (event.operation, event.weight) == ("power", "light")
    assert submitted.at == token.submitted_at
    assert (started.lane, started.worker, started.attempt) == (token.lane, 1, 1)
    assert settled.at == token.settled_at
    assert (settled.state, settled.error, settled.attempts) == (TokenState.COMPLETED, None, 1)
    assert (settled.lane, settled.worker) == (token.lane, 1)
    assert token.started_at is not None
    assert settled.waited_seconds == token.started_at - token.submitted_at
    assert settled.run_seconds == settled.at - token.started_at
    assert submitted.at <= started.at <= token.started_at
    assert executor.history()[-1].token_id == token.id


def test_events_do_not_read_exceptions(caplog: pytest.LogCaptureFixture) -> None:
    """A listener is nobody who reads an exception: it is logged all the same; no event has its text."""
    heard = Heard()
    with TokenGateExecutor(1, listeners=[heard]) as executor:
        token = executor.submit(fail)
        token_id = token.id
        while not token.done():
            pass
        del token
    assert [record for record in caplog.records if "never retrieved" in record.message]
    settled = heard.by_token[token_id][-1]
    assert (settled.state, settled.error) == (TokenState.FAILED, "ValueError")
    assert "secret" not in repr(heard.all)


def test_retries() -> None:
    """Each attempt is told, and what comes between; it settles once."""
    heard = Heard()
    retry = RetryPolicy(attempts=3, on=ValueError, delay=0, jitter=None)
    with TokenGateExecutor(1, listeners=[heard], retry=retry) as executor:
        token = executor.submit(fail)
        token.exception()
    assert heard.names(token.id) == [
        "Submitted",
        *("Started", "Retrying", "Started", "Retrying"),
        *("Started", "Settled"),
    ]
    starts = [event for event in heard.by_token[token.id] if isinstance(event, TokenStarted)]
    assert [event.attempt for event in starts] == [1, 2, 3]
    again = [event for event in heard.by_token[token.id] if isinstance(event, TokenRetrying)]
    assert [(event.attempt, event.error, event.delay_seconds) for event in again] == [
        (1, "ValueError", 0.0),
        (2, "ValueError", 0.0),
    ]
    settled = heard.by_token[token.id][-1]
    assert settled.attempts == 3
    assert settled.waited_seconds < settled.at - token.submitted_at


def test_given_up() -> None:
    """A call whose policy gave up is quarantined, and its token settles."""
    heard = Heard()
    retry = RetryPolicy(attempts=1, on=ValueError)
    with TokenGateExecutor(1, listeners=[heard], retry=retry, quarantine=True) as executor:
        token = executor.submit(fail)
        token.exception()
        (call,) = executor.quarantine.pending()
    quarantined = heard.by_token[token.id][-2]
    assert isinstance(quarantined, TokenQuarantined)
    assert (quarantined.quarantine_id, quarantined.reason) == (call.id, "given up")
    assert heard.names(token.id) == ["Submitted", "Started", "Quarantined", "Settled"]


def test_a_held_token() -> None:
    """One that is held and approved goes on; one that is rejected settles unrun."""
    heard = Heard()
    with TokenGateExecutor(1, listeners=[heard], spikes=SpikePolicy()) as executor:
        for _ in range(8):
            executor.submit(len, "x" * 10).result()
        one, two = (executor.submit(len, "x" * 9_999) for _ in range(2))
        first, second = (call.id for call in executor.quarantine.pending())
        executor.quarantine.approve(first)
        assert one.result() == 9_999
        executor.quarantine.reject(second)
        assert isinstance(two.exception(), TokenQuarantinedError)
    assert heard.names(one.id) == ["Submitted", "Quarantined", "Started", "Settled"]
    assert heard.names(two.id) == ["Submitted", "Quarantined", "Settled"]
    assert heard.by_token[two.id][-1].run_seconds == 0.0


def test_a_replay() -> None:
    """A call that is replayed is told as one that was submitted."""
    heard = Heard()
    retry = RetryPolicy(attempts=1, on=ValueError)
    with TokenGateExecutor(1, listeners=[heard], retry=retry, quarantine=True) as executor:
        executor.submit(fail).exception()
        (call,) = executor.quarantine.pending()
        token = executor.quarantine.replay(call.id)
        token.exception()
    assert heard.names(token.id) == ["Submitted", "Started", "Settled"]


def test_cancelled_killed_and_late_ones() -> None:
    """They settle without having run."""
    heard = Heard()
    with TokenGateExecutor(1, listeners=[heard]) as executor:
        executor.pause()
        cancelled, killed = (executor.submit(pow, 2, 2) for _ in range(2))
        late = executor.options(queue_timeout=0.001).submit(pow, 2, 2)
        cancelled.cancel()
        executor.kill(killed.id)
        assert isinstance(late.exception(), TokenTimeoutError)
    for token, state in (
        (cancelled, TokenState.CANCELLED),
        (killed, TokenState.KILLED),
        (late, TokenState.TIMEOUT),
    ):
        assert heard.names(token.id) == ["Submitted", "Settled"]
        settled = heard.by_token[token.id][-1]
        assert (settled.state, settled.worker, settled.attempts) == (state, None, 0)
        assert settled.run_seconds == 0.0
        assert settled.waited_seconds == settled.at - token.submitted_at


def rejections(heard: Heard) -> list[str]:
    """The reasons of those that were refused; nothing else is told of these but their submission."""
    refused = [event for event in heard.all if isinstance(event, TokenRejected)]
    for event in refused:
        assert heard.names(event.token_id) == ["Submitted", "Rejected"]
    return [event.reason for event in refused]


def test_refusals() -> None:
    """Full, blocked and spikes, by their names."""
    heard = Heard()
    with TokenGateExecutor(
        1,
        listeners=[heard],
        max_pending=1,
        on_full="raise",
        spikes=SpikePolicy(action="refuse"),
    ) as executor:
        executor.guard_house.open("blocked")
        with pytest.raises(OperationBlockedError):
            executor.options(operation="blocked").submit(pow, 2, 2)
        for _ in range(8):
            executor.submit(len, "x" * 10).result()
        with pytest.raises(TokenQuarantinedError):
            executor.submit(len, "x" * 9_999)
        executor.pause()
        executor.submit(pow, 2, 2)
        with pytest.raises(GateFullError):
            executor.submit(pow, 2, 2)
        executor.resume()
    assert rejections(heard) == ["blocked", "spike", "full"]
    assert executor.statistics().rejected_by_reason == Counter(rejections(heard))


def test_discarded_as_the_newest() -> None:
    """It is refused, though its submitter has a token."""
    heard = Heard()
    with TokenGateExecutor(
        1, listeners=[heard], max_pending=1, on_full="discard_newest"
    ) as executor:
        executor.pause()
        executor.submit(pow, 2, 2)
        assert executor.submit(pow, 2, 2).cancelled()
        executor.resume()
    assert rejections(heard) == ["full"]


def test_closed_between_look_and_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that closes while a call comes in has refused it, and that is told as its end."""
    heard = Heard()
    executor = TokenGateExecutor(1, listeners=[heard])
    with monkeypatch.context() as patch:
        patch.setattr(executor.gate, "check_open", lambda: None)
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(pow, 2, 2)
    assert rejections(heard) == ["closed"]


def test_started_is_told_in_the_context_of_the_call() -> None:
    """A variable that a listener sets is seen by the call, and by nobody else."""
    here: ContextVar[str] = ContextVar("here", default="nothing")

    def mark(event: Event) -> None:
        if isinstance(event, TokenStarted):
            here.set(f"{here.get()}, token {event.token_id}, attempt {event.attempt}")

    with TokenGateExecutor(1, listeners=[mark]) as executor:
        here.set("submitter")
        token = executor.submit(here.get)
        assert token.result() == f"submitter, token {token.id}, attempt 1"
        here.set("nobody")
        other = executor.submit(here.get)
        assert other.result() == f"nobody, token {other.id}, attempt 1"
    assert here.get() == "nobody"


def test_from_asyncio() -> None:
    """Each verb of ours for asyncio is told of as any other."""
    heard = Heard()

    async def main() -> None:
        async with TokenGateExecutor(2, listeners=[heard], max_pending=2) as executor:
            assert await executor.arun(pow, 2, 2) == 4
            assert await (await executor.asubmit(pow, 2, 3)) == 8
            assert [one async for one in executor.amap(abs, [-1, -2, -3])] == [1, 2, 3]
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(executor, pow, 2, 4) == 16

    asyncio.run(main())
    assert len(heard.by_token) == 6
    for token_id in heard.by_token:
        assert heard.names(token_id) == ["Submitted", "Started", "Settled"]


def test_run_by_the_caller_and_in_place() -> None:
    """Whoever runs a call, it is told."""
    heard = Heard()

    def outer() -> int:
        return executor.submit(pow, 2, 3).result()

    with TokenGateExecutor(
        1, listeners=[heard], max_pending=1, on_full="caller_runs", max_spare_workers=0
    ) as executor:
        assert executor.submit(outer).result() == 8
        began, release = threading.Event(), threading.Event()

        def hold() -> None:
            began.set()
            release.wait(20)

        executor.submit(hold)
        assert began.wait(20)
        executor.submit(pow, 2, 2)
        assert executor.submit(pow, 2, 5).done()
        release.set()
    assert len(heard.by_token) == 5
    for token_id in heard.by_token:
        assert heard.names(token_id) == ["Submitted", "Started", "Settled"]


def test_settled_by_hand_before_it_starts() -> None:
    """A listener that settles the token it is told of harms nothing."""
    tokens: list[Any] = []
    started = threading.Event()

    def settle(event: Event) -> None:
        if isinstance(event, TokenStarted) and tokens:
            with suppress(Exception):
                tokens[0].set_result("by hand")
            started.set()

    with TokenGateExecutor(1, listeners=[settle]) as executor:
        executor.pause()
        tokens.append(executor.submit(pow, 2, 2))
        executor.resume()
        assert started.wait(20)
        assert executor.submit(pow, 2, 3).result() == 8  # its worker is alive


def test_armed_later() -> None:
    """A circuit that is opened by hand holds for calls that were told of before, too."""
    heard = Heard()
    with TokenGateExecutor(1, listeners=[heard]) as executor:
        calls = executor.options(operation="call")
        calls.submit(pow, 2, 2).result()
        executor.guard_house.open("call")
        with pytest.raises(OperationBlockedError):
            calls.submit(pow, 2, 2)
        executor.guard_house.close("call")
        assert executor.guard_house.circuits()["call"].state is CircuitState.CLOSED
        token = calls.submit(pow, 2, 2)
        token.result()
    assert rejections(heard) == ["blocked"]
    assert heard.names(token.id) == ["Submitted", "Started", "Settled"]


def test_many_threads_many_ends() -> None:
    """Of thousands that are submitted, cancelled, killed and tried again at once, each is told whole."""
    heard = Heard()
    retry = RetryPolicy(attempts=3, on=ValueError, delay=0, jitter=None)
    with TokenGateExecutor(
        4, listeners=[heard], max_pending=50, retry=retry, log_unread_exceptions=False
    ) as executor:

        def produce(start: int) -> None:
            for number in range(start, start + 400):
                token = executor.submit(fail if number % 3 else int)
                if number % 5 == 0:
                    token.cancel()
                elif number % 7 == 0:
                    executor.kill(token.id)

        threads = [threading.Thread(target=produce, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    now = executor.statistics()
    ends: Counter[TokenState] = Counter()
    attempts = 0
    for token_id, events in heard.by_token.items():
        assert isinstance(events[0], TokenSubmitted), heard.names(token_id)
        assert isinstance(events[-1], TokenSettled), heard.names(token_id)
        middle = heard.names(token_id)[1:-1]
        tried = middle.count("Started")
        assert middle[: 2 * tried] == (["Started", "Retrying"] * tried)[: len(middle)]
        attempts += tried
        ends[events[-1].state] += 1
    assert len(heard.by_token) == now.submitted == 1600
    assert ends[TokenState.COMPLETED] == now.completed
    assert ends[TokenState.FAILED] == now.failed
    assert ends[TokenState.CANCELLED] + ends[TokenState.KILLED] == now.cancelled
    assert now.retries == sum(isinstance(event, TokenRetrying) for event in heard.all)


def test_a_listener_that_is_interrupted_at_the_submission() -> None:
    """The call is refused, and that is told: whoever keeps account of tokens lets go of this one."""
    heard = Heard()

    def interrupt(event: Event) -> None:
        if isinstance(event, TokenSubmitted):
            raise KeyboardInterrupt

    executor = TokenGateExecutor(1, listeners=[heard, interrupt])
    with pytest.raises(KeyboardInterrupt):
        executor.submit(int)
    (token_id,) = heard.by_token
    assert heard.names(token_id) == ["Submitted", "Rejected"]
    assert heard.by_token[token_id][-1].reason == "interrupted"
