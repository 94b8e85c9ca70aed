"""Everything at once at a tiny switch interval: all that was accepted settles once, and adds up.

``TOKENGATE_STRESS_SECONDS`` sets for how long; the default is short. Rounds are made of seeds, and the
seed of a round that fails is noted at its error, though the threads' turns are not to be had again.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, as_completed, wait
from contextlib import suppress
from typing import Any, Literal, get_args

import pytest

from tokengate_executor import ExecutorView, Token, TokenGateExecutor, TokenState

SECONDS = float(os.environ.get("TOKENGATE_STRESS_SECONDS", "2"))
PATIENCE_SECONDS = 30
"""For how long to wait for what has to come."""

PRODUCERS = 4
STEPS = 40
# Those who only look on and cancel let the others work; nothing waits for anything by these.
PACES = (0, 0.0001, 0.001)
WEIGHTS = ("heavy", "medium", "light", None)

End = Literal["shut down when done", "shut down meanwhile", "dropped"]
"""How an executor comes to its end."""


class Once:
    """A call that notes each time it is run."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn: Callable[..., Any] | None = fn
        self.runs: list[None] = []

    def __call__(self, *args: Any) -> Any:
        """Note it, and run the call."""
        self.runs.append(None)
        fn, self.fn = self.fn, None  # what it refers to goes with the call
        assert fn is not None
        return fn(*args)


class Kept:
    """A token that was accepted, how often its call ran, and what its callback was told."""

    def __init__(self, token: Token[Any], once: Once) -> None:
        self.token = token
        self.once = once
        self.told: list[Future[Any]] = []
        token.add_done_callback(self.told.append)

    def check(self) -> None:
        """It is settled, was told of once, and ran if it was to, and once."""
        assert self.token.done(), self.token
        assert self.told == [self.token]
        assert len(self.once.runs) == (self.token.state is not TokenState.CANCELLED), self.token
        if self.token.state is TokenState.FAILED:
            assert isinstance(self.token.exception(), ValueError)  # what `work` raises


class RecordingExecutor(TokenGateExecutor):
    """An executor that keeps a record of whatever it accepts, by whichever verb."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: deque[Kept] = deque()
        self.me = self  # a ring: only the collector finds it

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Token[Any]:
        """Submit and record."""
        once = Once(fn)
        token = super().submit(once, *args, **kwargs)
        self.kept.append(Kept(token, once))
        return token

    def submit_as(self, profile: Any, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Submit through a view and record."""
        once = Once(fn)
        token = super().submit_as(profile, once, args, kwargs)
        self.kept.append(Kept(token, once))
        return token


# -- calls -----------------------------------------------------------------------------------------


def work(number: int) -> int:
    """Return, fail, or give others a turn."""
    if number % 7 == 0:
        raise ValueError(number)
    if number % 5 == 0:
        time.sleep(0)
    return number


def outcome(future: Future[Any]) -> None:
    """Wait for a future, whatever becomes of it."""
    with suppress(CancelledError, ValueError):
        future.result(timeout=PATIENCE_SECONDS)


def nested(executor: RecordingExecutor, number: int, depth: int) -> int:
    """Submit calls inside a call, and wait for them."""
    chance = random.Random(number * 8 + depth)
    children: list[Token[int]] = []
    with suppress(RuntimeError):  # the executor was shut down meanwhile
        for step in range(chance.randint(1, 3)):
            target = executor.options(weight=chance.choice(WEIGHTS))
            if depth and chance.random() < 0.5:
                children.append(target.submit(nested, executor, number + step, depth - 1))
            else:
                children.append(target.submit(work, number + step))
        if chance.random() < 0.2:
            with suppress(CancelledError):
                assert len(list(executor.map(abs, range(3)))) == 3
    if children and chance.random() < 0.2:
        children[-1].cancel()
    wait_somehow(children, chance)
    for child in children:
        outcome(child)
    return number


def wait_somehow(tokens: Sequence[Token[int]], chance: random.Random) -> None:
    """Wait for tokens in one of the ways there are."""
    match chance.randrange(4):
        case 0:
            wait(tokens, PATIENCE_SECONDS)
        case 1:
            wait(tokens, PATIENCE_SECONDS, FIRST_COMPLETED)
        case 2:
            for token in as_completed(tokens, PATIENCE_SECONDS):
                assert token.done()
        case 3:
            for token in tokens:
                with suppress(CancelledError, ValueError):
                    token.result()


def submit_again(executor: RecordingExecutor, number: int) -> Callable[[Future[Any]], None]:
    """Make a callback that submits."""

    def call_back(_: Future[Any]) -> None:
        with suppress(RuntimeError):
            executor.submit(work, number)

    return call_back


def fail_to_be_told(_: Future[Any]) -> None:
    """Be a callback that raises."""
    raise ValueError


# -- threads ---------------------------------------------------------------------------------------


def produce(executor: RecordingExecutor, seed: int, is_under_way: threading.Event) -> None:
    """Submit in all ways, until it is done or refused."""
    chance = random.Random(seed)
    views = [executor.options(weight=weight) for weight in WEIGHTS]
    tokens: list[Token[int]] = []
    with suppress(RuntimeError):
        for number in range(seed * 1000, seed * 1000 + STEPS):
            if number % STEPS == STEPS // 2:
                is_under_way.set()
            target = chance.choice([executor, *views])
            tokens += submit_somehow(executor, target, number, chance)
            if chance.random() < 0.2:
                chance.choice(tokens[-5:]).cancel()
            if chance.random() < 0.1:
                wait_somehow(tokens[-3:], chance)
    is_under_way.set()
    for token in tokens:
        outcome(token)


def submit_somehow(
    executor: RecordingExecutor,
    target: TokenGateExecutor | ExecutorView,
    number: int,
    chance: random.Random,
) -> list[Token[int]]:
    """Submit in one of the ways there are."""
    match chance.randrange(6):
        case 0 | 1:
            return [target.submit(nested, executor, number, chance.randrange(3))]
        case 2:
            token = target.submit(work, number)
            token.add_done_callback(submit_again(executor, number))
            token.add_done_callback(fail_to_be_told)
            return [token]
        case 3:
            take_some(target.map(abs, range(9), buffersize=chance.choice([None, 1, 3])), chance)
    return [target.submit(work, number)]


def take_some(results: Iterator[int], chance: random.Random) -> None:
    """Take some of the results, and let go of the rest."""
    with suppress(CancelledError):  # by somebody who cancels whatever there is
        for _ in range(chance.randrange(12)):
            next(results, None)


def cancel_some(kept: deque[Kept], seed: int, is_over: threading.Event) -> None:
    """Cancel one of the last that were submitted, time and again."""
    chance = random.Random(seed)
    while not is_over.is_set():
        with suppress(IndexError):  # there are not that many yet
            kept[-chance.randint(1, 100)].token.cancel()
        time.sleep(chance.choice(PACES))


def look_on(kept: deque[Kept], seed: int, is_over: threading.Event) -> None:
    """Read what can be read, and collect garbage."""
    chance = random.Random(seed)
    while not is_over.is_set():
        with suppress(IndexError):
            token = kept[-chance.randint(1, 100)].token
            assert token.id == token.id
            assert token.state in TokenState
            assert repr(token)
        if chance.random() < 0.1:
            gc.collect()
        time.sleep(chance.choice(PACES))


def started(*calls: tuple[Callable[..., None], tuple[Any, ...]]) -> list[threading.Thread]:
    """Start a thread for each call."""
    threads = [threading.Thread(target=target, args=args) for target, args in calls]
    for thread in threads:
        thread.start()
    return threads


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for the threads to end."""
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), thread


# -- rounds ----------------------------------------------------------------------------------------


def shut_down_at_any_moment(executor: TokenGateExecutor, chance: random.Random) -> None:
    """Shut down in one way or another, more than once."""
    for _ in range(2):
        executor.shutdown(wait=chance.random() < 0.5, cancel_futures=chance.random() < 0.5)


def play(seed: int, end: End) -> None:
    """One executor, and everybody who uses it."""
    chance = random.Random(seed)
    workers = chance.randint(1, 6)
    executor = RecordingExecutor(
        workers,
        lanes=chance.randint(1, workers),
        mailbox_size=chance.randint(1, 4),
        history_size=chance.choice([0, 16]),
        keep_alive=chance.choice([None, None, 0.0, 0.001]),
    )
    kept = executor.kept
    is_over, is_under_way = threading.Event(), threading.Event()
    others = started(
        (cancel_some, (kept, seed, is_over)),
        (look_on, (kept, seed, is_over)),
    )
    producers = started(*((produce, (executor, seed + n, is_under_way)) for n in range(PRODUCERS)))
    if end == "shut down meanwhile":
        assert is_under_way.wait(PATIENCE_SECONDS)
        shut_down_at_any_moment(executor, chance)
    join(producers)
    if end != "dropped":
        settle(kept)
        executor.shutdown()
        check_sums(executor, kept)
    threads = executor._threads
    del executor, producers
    settle(kept)
    let_go(kept)
    join(threads)  # of a dropped executor they end when `look_on` has it collected
    is_over.set()
    join(others)
    for one in kept:
        one.check()


def settle(kept: deque[Kept]) -> None:
    """Wait until all is settled, also what callbacks and calls submit meanwhile."""
    while True:
        seen = kept.copy()
        not_done = wait([one.token for one in seen], PATIENCE_SECONDS).not_done
        assert not not_done, Counter((one.state, one.weight) for one in not_done)  # type: ignore[attr-defined]
        if len(seen) == len(kept):
            return


def let_go(kept: deque[Kept]) -> None:
    """Cut off the tracebacks: their frames are those of calls, which know the executor."""
    for one in kept:
        error = None if one.token.cancelled() else one.token.exception()
        if error is not None:
            error.__traceback__ = error.__context__ = None


def check_sums(executor: TokenGateExecutor, kept: deque[Kept]) -> None:
    """The statistics of a quiet executor agree with what was kept."""
    states = Counter(one.token.state for one in kept)
    now = executor.statistics()
    assert now.submitted == len(kept), now
    assert now.waiting == now.executing == now.workers == 0, now
    assert now.completed == states[TokenState.COMPLETED], now
    assert now.failed == states[TokenState.FAILED], now
    assert now.cancelled == states[TokenState.CANCELLED], now


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Have threads interrupted all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("end", get_args(End))
def test_stress(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of producers, cancellers, nested waits, maps and callbacks: each adds up."""
    for name in ("concurrent.futures", "tokengate_executor"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    until = time.monotonic() + SECONDS / len(get_args(End))
    seed = 0
    while time.monotonic() < until or not seed:
        seed += 1
        try:
            play(seed, end)
        except BaseException as error:
            error.add_note(f"round {seed} of an executor {end}")
            raise
