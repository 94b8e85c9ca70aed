"""The executor's arguments and shutdown verbs, beside those of the standard library's class."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from concurrent.futures.thread import BrokenThreadPool
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from tokengate_executor import AffinityPolicy, InvalidOptionError, Token, TokenGateExecutor

BROKEN_TEXT = "A thread initializer failed, the thread pool is not usable anymore"


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


class Held:
    """Calls that have started and stay until they are let go."""

    def __init__(self, executor: Executor, calls: int = 1) -> None:
        self.release = threading.Event()
        self.names: list[str] = []
        barrier = threading.Barrier(calls + 1)

        def stay() -> str:
            self.names.append(threading.current_thread().name)
            barrier.wait(30)
            self.release.wait(30)
            return threading.current_thread().name

        self.futures = [executor.submit(stay) for _ in range(calls)]
        barrier.wait(30)


def names_of_workers(executor: Executor, workers: int) -> list[str]:
    """Return the names of so many worker threads."""
    held = Held(executor, workers)
    held.release.set()
    executor.shutdown()
    return sorted(held.names)


# -- as in the standard library -------------------------------------------------------------------


def test_the_standard_librarys_arguments_come_first() -> None:
    """In the same order, with the same names and defaults; all of ours have to be named."""

    def told(kind: type[Executor]) -> list[tuple[str, Any, Any]]:
        parameters = inspect.signature(kind.__init__).parameters.values()
        return [(p.name, p.default, p.kind) for p in parameters if p.kind is not p.VAR_KEYWORD]

    theirs, ours = told(ThreadPoolExecutor), told(TokenGateExecutor)
    assert ours[: len(theirs)] == theirs
    assert {kind for _, _, kind in ours[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("verb", ["submit", "shutdown"])
def test_signatures_of_the_verbs(verb: str) -> None:
    """They are the standard library's."""

    def told(kind: type[Executor]) -> list[tuple[str, Any, Any]]:
        parameters = inspect.signature(getattr(kind, verb)).parameters.values()
        return [(p.name, p.default, p.kind) for p in parameters]

    assert told(TokenGateExecutor) == told(ThreadPoolExecutor)


def test_signature_of_map() -> None:
    """On every Python it is that of 3.14, which has `buffersize`."""
    parameters = inspect.signature(TokenGateExecutor.map).parameters.values()
    assert [(p.name, p.default, p.kind.name) for p in parameters] == [
        ("self", inspect.Parameter.empty, "POSITIONAL_OR_KEYWORD"),
        ("fn", inspect.Parameter.empty, "POSITIONAL_OR_KEYWORD"),
        ("iterables", inspect.Parameter.empty, "VAR_POSITIONAL"),
        ("timeout", None, "KEYWORD_ONLY"),
        ("chunksize", 1, "KEYWORD_ONLY"),
        ("buffersize", None, "KEYWORD_ONLY"),
    ]
    theirs = list(inspect.signature(ThreadPoolExecutor.map).parameters)
    assert theirs in ([p.name for p in parameters], [p.name for p in parameters][:-1])


def test_all_keywords_reach_the_call(one: TokenGateExecutor) -> None:
    """A callee may have parameters of any name."""
    names = ["self", "fn", "args", "kwargs", "weight", "operation", "timeout"]
    token = one.submit(dict, **{name: name for name in names})
    assert token.result(30) == {name: name for name in names}


def test_default_number_of_workers() -> None:
    """It is the standard library's."""
    with ThreadPoolExecutor() as theirs, TokenGateExecutor() as ours:
        assert ours._max_workers == theirs._max_workers
        with TokenGateExecutor(None) as said:
            assert said._max_workers == theirs._max_workers


@pytest.mark.parametrize("cpus", [1, 3, 64, None])
def test_default_number_of_workers_on_other_machines(
    cpus: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four more than there are CPUs, and at most 32."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: cpus, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    with TokenGateExecutor() as executor:
        assert executor._max_workers == min(32, (cpus or 1) + 4)


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, TokenGateExecutor])
def test_thread_names_with_a_prefix(kind: type[ThreadPoolExecutor]) -> None:
    """The prefix and a number from 0."""
    assert names_of_workers(kind(3, "crawler"), 3) == ["crawler_0", "crawler_1", "crawler_2"]


def test_thread_names_without_a_prefix() -> None:
    """The name of the class, also of a subclass, and a number for each executor."""

    class Crawler(TokenGateExecutor):
        pass

    first, second = names_of_workers(Crawler(2), 2), names_of_workers(Crawler(1), 1)
    prefix, number = first[0].removesuffix("_0").split("-")
    assert (prefix, first[1]) == ("Crawler", f"Crawler-{number}_1")
    assert second == [f"Crawler-{int(number) + 1}_0"]
    assert names_of_workers(TokenGateExecutor(1), 1)[0].startswith("TokenGateExecutor-")


def test_threads_start_when_they_are_needed() -> None:
    """None at first; no second one while the first is idle."""
    with TokenGateExecutor(4) as executor:
        assert executor._threads == set()
        held = Held(executor)
        assert len(executor._threads) == 1
        other = Held(executor)
        assert len(executor._threads) == 2
        assert executor.statistics().workers == 2
        held.release.set()
        other.release.set()


def test_the_initializer_runs_once_in_each_thread_before_its_calls() -> None:
    """With its arguments, and not in more threads than are started."""
    local = threading.local()
    runs: list[tuple[int, str]] = []

    def prepare(number: int, name: str) -> None:
        runs.append((threading.get_ident(), f"{number} {name}"))
        local.prepared = True

    executor = TokenGateExecutor(2, initializer=prepare, initargs=(7, "days"))
    held = Held(executor, 2)
    held.release.set()
    assert executor.submit(lambda: local.prepared).result(30)
    executor.shutdown()
    assert {text for _, text in runs} == {"7 days"}
    assert len(runs) == len({ident for ident, _ in runs}) == 2


# -- wrong values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [0, -1])
def test_no_workers(given: int) -> None:
    """It is an error with the standard library's text."""
    for kind in (ThreadPoolExecutor, TokenGateExecutor):
        with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
            kind(given)


def test_an_initializer_that_is_none() -> None:
    """It is an error with the standard library's text."""
    wrong: Any = "prepare"
    for kind in (ThreadPoolExecutor, TokenGateExecutor):
        with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
            kind(1, initializer=wrong)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"lanes": 0}, "an int of at least 1 and at most 2"),
        ({"lanes": 3}, "an int of at least 1 and at most 2"),
        ({"lanes": 1.5}, "an int of at least 1 and at most 2"),
        ({"lanes": True}, "an int of at least 1 and at most 2"),
        ({"policy": "staggered"}, "an AffinityPolicy or None"),
        ({"mailbox_size": 0}, "an int of at least 1"),
        ({"mailbox_size": "32"}, "an int of at least 1"),
        ({"history_size": -1}, "an int of at least 0"),
        ({"history_size": None}, "an int of at least 0"),
        ({"max_spare_workers": -1}, "an int of at least 0"),
        ({"max_spare_workers": 2.0}, "an int of at least 0"),
        ({"max_pending": 0}, "an int of at least 1"),
        ({"max_pending": {None: 0}}, "an int of at least 1"),
        ({"on_full": "wait"}, None),
        ({"submit_timeout": "1"}, "seconds, at least 0, or None"),
        ({"submit_timeout": 1, "on_full": "raise"}, "None unless on_full is 'block'"),
        ({"ageing": float("inf")}, "seconds, above 0 and finite"),
        ({"ageing": float("nan")}, "seconds, above 0 and finite"),
        ({"ageing": None}, "seconds, above 0"),
        ({"keep_alive": float("inf")}, "seconds, at least 0, or None"),
        ({"keep_alive": True}, "seconds, at least 0, or None"),
        ({"exit_policy": "hang"}, "one of 'wait', 'abandon'"),
        ({"exit_policy": None}, "one of 'wait', 'abandon'"),
    ],
    ids=repr,
)
def test_wrong_values(arguments: dict[str, Any], allowed: str | None) -> None:
    """The error has the argument's name, what was given and what is allowed."""
    with pytest.raises(InvalidOptionError) as caught:
        TokenGateExecutor(2, **arguments)
    error = caught.value
    name, given = next(iter(arguments.items()))
    if name == "max_pending":
        given = 0  # the number, wherever it was
    assert (error.option, error.given) == (name, given)
    if allowed is not None:
        assert error.allowed == allowed
    assert str(error).startswith(f"{name} must be ")


@pytest.mark.parametrize(
    ("lanes", "policy_lanes", "allowed"),
    [
        (1, 2, "a policy for 1 lanes, at most one for each of 2 workers"),
        (None, 3, "a policy for 3 lanes, at most one for each of 2 workers"),
    ],
)
def test_a_policy_that_does_not_fit(lanes: int | None, policy_lanes: int, allowed: str) -> None:
    """It has to be for as many lanes as there are, and each of these needs a worker."""
    policy = AffinityPolicy.staggered(policy_lanes)
    with pytest.raises(InvalidOptionError) as caught:
        TokenGateExecutor(2, lanes=lanes, policy=policy)
    assert (caught.value.option, caught.value.given) == ("policy", policy)
    assert caught.value.allowed == allowed


@pytest.mark.parametrize("weights", [{"huge": 1}, {5: 1}])
def test_a_bound_for_a_weight_that_is_none(weights: Any) -> None:
    """The error names the weight."""
    with pytest.raises(InvalidOptionError, match="by weight: 'heavy', 'medium', 'light' or None"):
        TokenGateExecutor(2, max_pending=weights)


# -- right values ---------------------------------------------------------------------------------


def test_lanes_and_workers() -> None:
    """There are as many lanes as were said, and the workers are dealt over them."""
    with TokenGateExecutor(5, lanes=3) as executor:
        held = Held(executor, 5)
        lanes = executor.statistics().lanes
        assert [lane.number for lane in lanes] == [1, 2, 3]
        assert [lane.workers for lane in lanes] == [2, 2, 1]
        assert executor.policy == AffinityPolicy.staggered(3)
        held.release.set()


def test_default_lanes() -> None:
    """As many as there are cores for this process, and never more than workers."""
    with TokenGateExecutor(64) as many, TokenGateExecutor(1) as one:
        assert len(many.statistics().lanes) == max(1, many.topology.usable_cores)
        assert len(one.statistics().lanes) == 1


def test_the_policys_lanes_are_the_default() -> None:
    """Who gives a policy need not say its number of lanes again."""
    policy = AffinityPolicy.staggered(3)
    with TokenGateExecutor(4, policy=policy) as executor:
        assert executor.policy is policy
        assert len(executor.statistics().lanes) == 3


def test_mailbox_size() -> None:
    """A lane takes no more tokens from the gate than that, beyond those it runs."""
    with TokenGateExecutor(1, mailbox_size=3) as executor:
        held = Held(executor)
        release, started = threading.Event(), threading.Event()
        executor.submit(lambda: (started.set(), release.wait(30)))
        for _ in range(50):
            executor.submit(int)
        held.release.set()
        assert started.wait(30)
        assert executor.statistics().lanes[0].depth == 3
        release.set()


@pytest.mark.parametrize("size", [0, 3])
def test_history_size(size: int) -> None:
    """So many finished tokens are remembered, the last ones, and none with 0."""
    with TokenGateExecutor(2, lanes=2, history_size=size) as executor:
        tokens = [executor.options(operation=str(number)).submit(int) for number in range(10)]
        wait(tokens, timeout=30)
    assert len(executor.history()) == size
    settled = sorted(tokens, key=lambda token: token.settled_at or 0.0)
    expected = [token.operation for token in settled[10 - size :]]
    assert [record.operation for record in executor.history()] == expected


def test_max_pending() -> None:
    """One bound for all weights together, or one for each that is named; by default there is none."""
    with (
        TokenGateExecutor(1) as unbounded,
        TokenGateExecutor(1, max_pending=5) as together,
        TokenGateExecutor(1, max_pending={None: 3, "heavy": 2}) as apart,
    ):
        executors = unbounded, together, apart
        assert [one.statistics().capacity for one in executors] == [None, 5, 5]
        held = [Held(one) for one in executors]
        for one in executors:
            one.submit(int)
            one.options(weight="heavy").submit(int)
            one.options(weight="light").submit(int)
        assert [one.statistics().pending for one in executors] == [0, 3, 2]
        for one in held:
            one.release.set()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin threads")
def test_pin_lanes() -> None:
    """It is taken where it can be kept, and calls run as ever."""
    with TokenGateExecutor(2, pin_lanes=True) as executor:
        assert executor.submit(pow, 2, 3).result(30) == 8


def test_exit_policy_does_nothing_before_the_end() -> None:
    """Both take calls and finish them in `shutdown`."""
    for exit_policy in ("wait", "abandon"):
        with TokenGateExecutor(1, exit_policy=exit_policy) as executor:  # type: ignore[arg-type]
            tokens = [executor.submit(int) for _ in range(10)]
        assert all(token.done() for token in tokens)


# -- an initializer that fails --------------------------------------------------------------------


def broken() -> None:
    """Fail as an initializer."""
    raise LookupError("not prepared")


def test_a_failed_initializer_breaks_it(caplog: pytest.LogCaptureFixture) -> None:
    """What waits fails, what comes is refused, and what the initializer raised is logged."""
    go = threading.Event()

    def prepare() -> None:
        go.wait(30)
        broken()

    with TokenGateExecutor(1, initializer=prepare) as executor:
        seen: list[Token[int]] = []
        tokens = [executor.submit(int) for _ in range(3)]
        cancelled = executor.submit(int)
        cancelled.cancel()
        for token in tokens:
            token.add_done_callback(seen.append)
        go.set()
        for token in tokens:
            error = token.exception(30)
            assert type(error) is BrokenThreadPool
            assert str(error) == BROKEN_TEXT
        for submit in (executor.submit, executor.options(weight="heavy").submit):
            with pytest.raises(BrokenThreadPool) as caught:
                submit(int)
            assert str(caught.value) == BROKEN_TEXT
        assert executor._broken == BROKEN_TEXT
    assert seen == tokens
    assert cancelled.cancelled()
    now = executor.statistics()
    assert (now.submitted, now.failed, now.cancelled, now.waiting) == (4, 3, 1, 0)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("concurrent.futures", logging.CRITICAL)
    assert record.getMessage() == "Exception in initializer:"
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError


def test_a_broken_one_stays_broken_after_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    """As in the standard library, the initializer's failure is what is said from then on."""
    for kind in (ThreadPoolExecutor, TokenGateExecutor):
        executor = kind(1, initializer=broken)
        with suppress(BrokenThreadPool):  # if it is broken before the call can be taken
            assert isinstance(executor.submit(int).exception(30), BrokenThreadPool)
        executor.shutdown()
        with pytest.raises(BrokenThreadPool):
            executor.submit(int)
    assert len(caplog.records) == 2


def test_calls_that_run_are_finished_when_another_workers_initializer_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only what waits fails; the worker that was prepared ends after its call."""
    numbers, go = count(), threading.Event()

    def prepare() -> None:
        if next(numbers):
            go.wait(30)
            broken()

    with TokenGateExecutor(2, initializer=prepare) as executor:
        held = Held(executor)
        token = executor.submit(int)
        go.set()
        assert isinstance(token.exception(30), BrokenThreadPool)
        held.release.set()
        assert held.futures[0].result(30) == held.names[0]
    assert [record.name for record in caplog.records] == ["concurrent.futures"]


def test_an_initializer_that_exits(caplog: pytest.LogCaptureFixture) -> None:
    """`SystemExit` in it is a failure like others."""

    def leave() -> None:
        raise SystemExit(3)

    with TokenGateExecutor(1, initializer=leave) as executor, suppress(BrokenThreadPool):
        assert isinstance(executor.submit(int).exception(30), BrokenThreadPool)
    assert executor._broken
    assert len(caplog.records) == 1


# -- shutdown -------------------------------------------------------------------------------------


def test_shutdown_finishes_what_waits(one: TokenGateExecutor) -> None:
    """It returns when all calls are done and all threads have ended; again it does nothing."""
    held = Held(one)
    tokens = [one.submit(pow, 2, number) for number in range(5)]
    ender = threading.Thread(target=one.shutdown)
    ender.start()
    held.release.set()
    ender.join()
    assert [token.result(0) for token in tokens] == [1, 2, 4, 8, 16]
    assert not any(thread.is_alive() for thread in one._threads)
    one.shutdown()
    assert one._shutdown


def test_shutdown_refuses_more(one: TokenGateExecutor) -> None:
    """By every way in, with the standard library's text."""
    view = one.options(weight="heavy")
    one.shutdown()
    ways: list[Callable[[], object]] = [
        lambda: one.submit(int),
        lambda: view.submit(int),
        lambda: one.map(abs, [1]),
        lambda: view.map(abs, [1], buffersize=1),
        one.task(int),
    ]
    for way in ways:
        with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
            way()


def test_shutdown_without_waiting(one: TokenGateExecutor) -> None:
    """It returns at once, and what waits is run all the same."""
    held = Held(one)
    token = one.submit(pow, 2, 3)
    one.shutdown(wait=False)
    assert not token.done()
    with pytest.raises(RuntimeError):
        one.submit(int)
    held.release.set()
    assert token.result(30) == 8


def test_shutdown_cancels_what_waits(one: TokenGateExecutor) -> None:
    """With `cancel_futures` nothing more starts; callbacks have run when it returns."""
    held = Held(one)
    seen: list[Token[int]] = []
    tokens = [one.options(weight=w).submit(int) for w in ("heavy", None, "light", None)]
    for token in tokens:
        token.add_done_callback(seen.append)
    one.shutdown(wait=False, cancel_futures=True)
    assert all(token.cancelled() for token in tokens)
    assert set(seen) == set(tokens)
    assert len(seen) == 4
    held.release.set()
    one.shutdown()
    now = one.statistics()
    assert (now.completed, now.cancelled, now.waiting) == (1, 4, 0)


def test_shutdown_through_a_view(one: TokenGateExecutor) -> None:
    """A view has no life of its own: it is the executor that ends, as after its `with` block."""
    held = Held(one)
    token = one.submit(int)
    one.options(weight="heavy").shutdown(wait=False, cancel_futures=True)
    assert one._shutdown
    assert token.cancelled()
    held.release.set()
    with TokenGateExecutor(1) as other, other.options(operation="x") as view:
        token = view.submit(int)
        view.shutdown()
        assert (token.result(0), other._shutdown) == (0, True)


def test_shutdown_inside_a_call(one: TokenGateExecutor) -> None:
    """A worker does not wait for itself, and finishes what waits behind its call."""
    go = threading.Event()

    def end() -> str:
        go.wait(30)
        one.shutdown()
        return "ended"

    token, behind = one.submit(end), one.submit(int)
    go.set()
    assert token.result(30) == "ended"
    assert behind.result(30) == 0


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, TokenGateExecutor])
def test_with_block(kind: type[ThreadPoolExecutor]) -> None:
    """It shuts down and waits at the end, also when the block raises, which it lets out."""
    with kind(2) as executor:
        assert isinstance(executor, kind)
        future = executor.submit(pow, 2, 3)
    assert future.done()
    with pytest.raises(LookupError), kind(2) as executor:  # noqa: PT012  the block is what is tested
        future = executor.submit(pow, 2, 3)
        broken()
    assert future.done()
    with pytest.raises(RuntimeError):
        executor.submit(int)


def test_the_last_reference_ends_the_threads() -> None:
    """Idle threads end by themselves, too, and the executor itself is gone at once."""
    executor = TokenGateExecutor(2, thread_name_prefix="dropped")
    held = Held(executor, 2)
    held.release.set()
    wait(held.futures, timeout=30)
    threads = executor._threads
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_a_view_holds_the_executor() -> None:
    """As long as there is a view, calls are taken."""
    view = TokenGateExecutor(1).options(weight="heavy")
    gc.collect()
    assert view.submit(pow, 2, 3).result(30) == 8


# -- what monitoring code reads -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, TokenGateExecutor])
def test_private_attributes_that_monitoring_code_reads(kind: type[ThreadPoolExecutor]) -> None:
    """They are there, and say what the standard library's say."""
    executor: Any = kind(2)
    assert (executor._max_workers, executor._threads) == (2, set())
    assert (executor._work_queue.qsize(), executor._work_queue.empty()) == (0, True)
    assert (executor._shutdown, executor._broken) == (False, False)
    held = Held(executor, 2)
    for _ in range(3):
        executor.submit(int)
    assert (executor._work_queue.qsize(), executor._work_queue.empty()) == (3, False)
    assert {thread.name for thread in executor._threads} == set(held.names)
    assert all(thread.is_alive() for thread in executor._threads)
    held.release.set()
    executor.shutdown()
    assert (executor._shutdown, executor._broken) == (True, False)


def test_threads_cannot_be_taken_away(one: TokenGateExecutor) -> None:
    """What is read is a copy: emptying it changes nothing."""
    assert one.submit(int).result(30) == 0
    one._threads.clear()
    assert len(one._threads) == 1
