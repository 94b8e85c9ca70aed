"""Ten thousand calls that fail at random, with all that is done about failures: it adds up."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

from tokengate_executor import (
    BreakerPolicy,
    OperationBlockedError,
    QuarantineStore,
    RetryBudget,
    RetryPolicy,
    Token,
    TokenGateExecutor,
    TokenState,
)

PATIENCE_SECONDS = 60
TOKENS = 10_000
PRODUCERS = 4
# Over so long a window that nothing of it is forgotten before the end.
BUDGET = RetryBudget(share=0.1, minimum=100, window=3600.0)
POLICIES = {
    attempts: RetryPolicy(attempts, ValueError, delay=0.002, budget=BUDGET)
    for attempts in (1, 2, 3, 5)
}
OPERATIONS = {"sound": 0.0, "rarely": 0.02, "often": 0.3, "mostly": 0.8}
"""Operation → how many of its attempts fail."""


class Call:
    """A call that fails by chance, and counts its own runs. It can be pickled."""

    def __init__(self, seed: int, failure_rate: float) -> None:
        self.seed = seed
        self.failure_rate = failure_rate
        self.runs = 0

    def __call__(self) -> int:
        """Fail with this chance, by turns of the seed's own."""
        self.runs += 1
        if random.Random(self.seed * 31 + self.runs).random() < self.failure_rate:
            raise ValueError(self.seed, self.runs)
        return self.seed


class Kept:
    """A token that was accepted, its call, and how many attempts it may have."""

    def __init__(self, token: Token[int], call: Call, attempts: int) -> None:
        self.token = token
        self.call = call
        self.attempts = attempts
        self.told: list[object] = []
        token.add_done_callback(self.told.append)

    def check(self) -> None:
        """It is settled once, as its last run says, and no run was one too many."""
        token, runs = self.token, self.call.runs
        assert self.told == [token]
        assert token.attempts == runs <= self.attempts
        if token.state is TokenState.COMPLETED:
            assert token.result() == self.call.seed
        elif token.state is TokenState.FAILED:
            error = token.exception()
            assert isinstance(error, ValueError)
            assert error.args == (self.call.seed, runs)
            earlier = [note for note in error.__notes__ if note.startswith("attempt ")]
            assert len(earlier) == runs - 1
        else:
            assert token.state is TokenState.CANCELLED


@pytest.fixture
def frequent_switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have threads interrupted all the time, and nothing logged."""
    for name in ("concurrent.futures", "tokengate_executor"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def produce(
    executor: TokenGateExecutor, producer: int, kept: deque[Kept], blocked: deque[str]
) -> None:
    """Submit a producer's share, and cancel a token now and then."""
    chance = random.Random(producer)
    views = {
        (operation, attempts): executor.options(operation=operation, retry=policy)
        for operation in OPERATIONS
        for attempts, policy in POLICIES.items()
    }
    keyed = {
        attempts: executor.options(operation="often", retry=policy, key=producer, limits=("few",))
        for attempts, policy in POLICIES.items()
    }
    mine: list[Kept] = []
    for number in range(producer, TOKENS, PRODUCERS):
        operation = chance.choice(list(OPERATIONS))
        attempts = chance.choice(list(POLICIES))
        view = views[operation, attempts]
        if chance.random() < 0.05:
            operation, view = "often", keyed[attempts]
        call = Call(number, OPERATIONS[operation])
        try:
            mine.append(Kept(view.submit(call), call, attempts))
        except OperationBlockedError as error:
            blocked.append(error.operation)
            assert not call.runs
            continue
        kept.append(mine[-1])
        if len(mine) % 50 == 0:  # let the breaker see how they fail, before all have come in
            wait([mine[-50].token], PATIENCE_SECONDS)
        if chance.random() < 0.02:
            mine[-chance.randint(1, min(len(mine), 20))].token.cancel()


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("ends", ["when all is done", "at any moment"])
def test_ten_thousand_calls_fail_at_random(ends: str) -> None:
    """Every token settles, the sums agree, no call runs too often, and the budget holds."""
    store = QuarantineStore(None, max_entries=TOKENS)
    breaker = BreakerPolicy(failure_rate=0.7, min_calls=20, window=5.0, open_for=0.01)
    kept: deque[Kept] = deque()
    blocked: deque[str] = deque()
    executor = TokenGateExecutor(
        4, lanes=2, limits={"few": 3}, breaker=breaker, quarantine=store, history_size=16
    )
    producers = [
        threading.Thread(target=produce, args=(executor, number, kept, blocked))
        for number in range(PRODUCERS)
    ]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join(PATIENCE_SECONDS)
        assert not producer.is_alive()
    if ends == "at any moment":
        executor.shutdown(wait=False, cancel_futures=True)
    done = wait([one.token for one in kept], PATIENCE_SECONDS)
    assert not done.not_done, Counter(token.state for token in done.not_done)  # type: ignore[attr-defined]
    executor.shutdown()

    now = executor.statistics()
    states = Counter(one.token.state for one in kept)
    runs = sum(one.call.runs for one in kept)
    for one in kept:
        one.check()
    assert len(kept) + len(blocked) == TOKENS
    assert now.submitted == TOKENS
    assert now.rejected == len(blocked)
    assert now.completed == states[TokenState.COMPLETED]
    assert now.failed == states[TokenState.FAILED]
    assert now.cancelled == states[TokenState.CANCELLED]
    assert (now.waiting, now.executing, now.retrying, now.timed_out) == (0, 0, 0, 0)
    assert now.limits["few"].used == 0
    assert now.retries <= BUDGET.minimum + BUDGET.share * now.completed
    # Each run was the first of its token or a retry; retries that were cancelled had none.
    first_runs = sum(one.call.runs > 0 for one in kept)
    assert runs - first_runs <= now.retries
    assert now.retries - (runs - first_runs) <= states[TokenState.CANCELLED]
    # What was given up is in quarantine, and nothing else.
    assert store.counts()["pending"] == now.failed
    assert set(blocked) <= {"mostly"}
    if ends == "when all is done":
        assert blocked
        assert states[TokenState.COMPLETED] > TOKENS / 4
        assert now.retries > BUDGET.minimum / 2
        assert states[TokenState.FAILED] > 0


class Slow:
    """A call that is sometimes too slow, and counts its own runs."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.runs: list[None] = []

    def __call__(self) -> None:
        """Take up to twice the time that there is."""
        self.runs.append(None)
        time.sleep(self.chance.choice([0.0, 0.0, 0.002, 0.003, 0.004, 0.008]))


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("frequent_switches")
def test_calls_that_end_about_when_they_are_cut_off() -> None:
    """Many races between a call's end and its time: each token settles once, and nobody is lost."""
    policy = RetryPolicy(2, TimeoutError, delay=0.001, budget=None)
    kept: deque[tuple[Token[None], Slow]] = deque()
    executor = TokenGateExecutor(4, lanes=2, timeout=0.004, max_spare_workers=8, limits={"few": 3})
    views = [
        executor.options(),
        executor.options(retry=policy),
        executor.options(key="key"),
        executor.options(key="other", retry=policy, limits=("few",)),
        executor.options(limits=("few",)),
    ]

    def produce(producer: int) -> None:
        for number in range(producer, 1200, PRODUCERS):
            call = Slow(number)
            kept.append((views[number % len(views)].submit(call), call))

    producers = [threading.Thread(target=produce, args=(number,)) for number in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join(PATIENCE_SECONDS)
        assert not producer.is_alive()
    done = wait([token for token, _ in kept], PATIENCE_SECONDS)
    assert not done.not_done, Counter(token.state for token in done.not_done)  # type: ignore[attr-defined]
    executor.shutdown()
    for thread in executor._threads:
        thread.join(PATIENCE_SECONDS)  # also those that were given up
        assert not thread.is_alive()

    now = executor.statistics()
    states = Counter(token.state for token, _ in kept)
    assert set(states) == {TokenState.COMPLETED, TokenState.TIMEOUT}
    assert (now.completed, now.timed_out) == (
        states[TokenState.COMPLETED],
        states[TokenState.TIMEOUT],
    )
    assert now.submitted == len(kept) == 1200
    assert (now.waiting, now.executing, now.retrying, now.abandoned) == (0, 0, 0, 0)
    assert now.limits["few"].used == 0
    assert now.retries == sum(len(call.runs) for _, call in kept) - len(kept)
    assert all(token.attempts == len(call.runs) <= 2 for token, call in kept)
