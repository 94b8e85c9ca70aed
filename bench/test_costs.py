"""What single operations cost, with pytest-benchmark; no part of the test suite.

    pytest bench/test_costs.py
    pytest bench/test_costs.py -k "submit or cancel" --benchmark-columns=median,iqr

Groups hold the same operation on ours and on ThreadPoolExecutor, where it has one. Tests that use
an operation up (a token is cancelled once) repeat it ``BATCH`` times per timed call on fresh
tokens: their figures are for the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark")

from pytest_benchmark.fixture import BenchmarkFixture

from tokengate_executor import Token, TokenGateExecutor

BATCH = 1_000
ROUNDS = 50
WAITING = 10_000

pytestmark = pytest.mark.timeout(300)

EXECUTORS: dict[str, Callable[..., Executor]] = {
    "tokengate": TokenGateExecutor,
    "stdlib": ThreadPoolExecutor,
}
FUTURES: dict[str, Callable[[], Future[Any]]] = {"tokengate": Token, "stdlib": Future}


def no_operation(_: object = None) -> None:
    """Do nothing, as a call and as a callback."""


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor with four workers that have all started."""
    with EXECUTORS[request.param](max_workers=4) as running:
        everyone = threading.Barrier(5)
        arrivals = [running.submit(everyone.wait, 30) for _ in range(4)]
        everyone.wait(30)
        for arrival in arrivals:
            arrival.result()
        yield running


def blocked(factory: Callable[..., Executor]) -> Iterator[Executor]:
    """Yield an executor whose only worker waits, so that whatever is submitted stays queued."""
    running, release = threading.Event(), threading.Event()

    def block() -> None:
        running.set()
        release.wait()

    executor = factory(max_workers=1)
    executor.submit(block)
    running.wait(30)
    yield executor
    release.set()
    executor.shutdown(cancel_futures=True)


@pytest.fixture(params=EXECUTORS)
def saturated(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Either executor, with its only worker busy."""
    yield from blocked(EXECUTORS[request.param])


@pytest.fixture
def saturated_tokengate() -> Iterator[TokenGateExecutor]:
    """Ours, with its only worker busy."""
    for executor in blocked(TokenGateExecutor):
        assert isinstance(executor, TokenGateExecutor)
        yield executor


def queued(executor: Executor) -> tuple[tuple[list[Future[None]]], dict[str, Any]]:
    """Make the arguments of one timed call: a batch of tokens that wait."""
    return ([executor.submit(no_operation) for _ in range(BATCH)],), {}


@pytest.mark.benchmark(group="create a token")
@pytest.mark.parametrize("make", FUTURES.values(), ids=list(FUTURES))
def test_create(benchmark: BenchmarkFixture, make: Callable[[], Future[Any]]) -> None:
    """A bare token, without a call, against a bare future."""
    benchmark(make)


@pytest.mark.benchmark(group="submit to a saturated executor")
def test_submit(benchmark: BenchmarkFixture, saturated: Executor) -> None:
    """Nobody is woken: what is left is the token, its context and its way into the queue."""
    benchmark.pedantic(saturated.submit, (no_operation,), rounds=ROUNDS, iterations=BATCH)


@pytest.mark.benchmark(group="submit to a saturated executor")
def test_submit_through_view(
    benchmark: BenchmarkFixture, saturated_tokengate: TokenGateExecutor
) -> None:
    """The same through a view that carries a weight."""
    view = saturated_tokengate.options(weight="light")
    benchmark.pedantic(view.submit, (no_operation,), rounds=ROUNDS, iterations=BATCH)


@pytest.mark.benchmark(group="make an options view")
def test_options(benchmark: BenchmarkFixture, saturated_tokengate: TokenGateExecutor) -> None:
    """A view per call site is usual; this is what one costs."""
    benchmark(saturated_tokengate.options, weight="light")


@pytest.mark.benchmark(group="result of a settled token")
def test_settled_result(benchmark: BenchmarkFixture, executor: Executor) -> None:
    """Reading again what is there."""
    settled = executor.submit(no_operation)
    settled.result()
    benchmark(settled.result)


@pytest.mark.benchmark(group="round trip")
def test_round_trip(benchmark: BenchmarkFixture, executor: Executor) -> None:
    """Submit one call to an idle executor and wait for its result."""

    def round_trip() -> None:
        executor.submit(no_operation).result()

    benchmark.pedantic(round_trip, rounds=BATCH, iterations=1, warmup_rounds=BATCH)


@pytest.mark.benchmark(group=f"cancel {BATCH} waiting tokens")
def test_cancel(benchmark: BenchmarkFixture, saturated: Executor) -> None:
    """Each is cancelled once."""

    def cancel_all(tokens: list[Future[None]]) -> None:
        for token in tokens:
            token.cancel()

    benchmark.pedantic(cancel_all, setup=partial(queued, saturated), rounds=ROUNDS)


@pytest.mark.benchmark(group=f"add_done_callback on {BATCH} waiting tokens")
def test_add_done_callback(benchmark: BenchmarkFixture, saturated: Executor) -> None:
    """The first callback of each."""

    def add_to_all(tokens: list[Future[None]]) -> None:
        for token in tokens:
            token.add_done_callback(no_operation)

    benchmark.pedantic(add_to_all, setup=partial(queued, saturated), rounds=ROUNDS)


@pytest.mark.benchmark(group=f"statistics at {WAITING} waiting")
def test_statistics(benchmark: BenchmarkFixture, saturated_tokengate: TokenGateExecutor) -> None:
    """Gathering the figures must not depend on how much waits."""
    for _ in range(WAITING):
        saturated_tokengate.submit(no_operation)
    assert benchmark(saturated_tokengate.statistics).waiting == WAITING
