"""``map``: in order, in time, all at once or a few at a time, and what becomes of the rest."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from itertools import count, islice
from typing import Any

import pytest

from tokengate_executor import Token, TokenGateExecutor, TokenState
from tokengate_executor.mapping import check_buffersize, deadline_after, eager, lazy

both_ways = pytest.mark.parametrize("buffersize", [None, 2], ids=["eager", "lazy"])


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


class Thing:
    """Something of which one can see when it is gone."""

    def __init__(self, number: int = 0) -> None:
        self.number = number


class GoneError(Exception):
    """An exception of which one can see when it is gone."""


class Desk:
    """Takes submissions, and makes tokens that only the test settles."""

    def __init__(self) -> None:
        self.tokens: list[Token[Any]] = []
        self.given: list[tuple[Any, ...]] = []
        self.refusal: RuntimeError | None = None

    def submit(self, given: tuple[Any, ...]) -> Token[Any]:
        """Make a token, unless it is closed."""
        if self.refusal is not None:
            raise self.refusal
        self.given.append(given)
        self.tokens.append(Token())
        return self.tokens[-1]

    def settle_all(self) -> None:
        """Give each its number as the result."""
        for number, token in enumerate(self.tokens):
            if not token.done():
                token.set_result(number)


def fail_at(number: int) -> Callable[[int], int]:
    """Return a function that fails for that argument."""

    def call(argument: int) -> int:
        if argument == number:
            raise ValueError(f"no {argument}")
        return argument

    return call


# -- the arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, 1, 7])
def test_buffersizes(given: int | None) -> None:
    """A positive number or none at all is right."""
    check_buffersize(given)


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (0, ValueError, "buffersize must be None or > 0"),
        (-1, ValueError, "buffersize must be None or > 0"),
        ("2", TypeError, "buffersize must be an integer or None"),
        (2.0, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_wrong_buffersizes(given: Any, kind: type[Exception], text: str) -> None:
    """The error has the text of Python 3.14, and comes before anything is taken or submitted."""
    taken: list[int] = []
    with pytest.raises(kind, match=f"^{text}$"):
        check_buffersize(given)
    with TokenGateExecutor(1) as executor:
        for target in (executor, executor.options(weight="heavy")):
            with pytest.raises(kind, match=f"^{text}$"):
                target.map(abs, map(taken.append, range(3)), buffersize=given)
    assert taken == []


def test_deadlines() -> None:
    """Without a timeout there is none; a later timeout ends later."""
    assert deadline_after(None) is None
    soon, late = deadline_after(1), deadline_after(1000)
    assert soon is not None
    assert late is not None
    assert 900 < late - soon < 1100


# -- results --------------------------------------------------------------------------------------


@both_ways
def test_results_in_the_order_of_the_input(buffersize: int | None) -> None:
    """Whichever call ends first, and on whichever worker."""
    barrier = threading.Barrier(2)

    def meet(number: int) -> int:
        barrier.wait(30)
        return -number

    with TokenGateExecutor(2) as executor:
        results = executor.map(meet, range(20), buffersize=buffersize)
        assert list(results) == [-number for number in range(20)]


@both_ways
@pytest.mark.parametrize(
    ("iterables", "results"),
    [
        (([1, 2, 3], [10, 20]), [11, 22]),
        (([], [1]), []),
        (("ab", "cd", "ef"), ["ace", "bdf"]),
        ((), []),
    ],
    ids=["unequal", "empty", "three", "none"],
)
def test_several_iterables(
    one: TokenGateExecutor,
    buffersize: int | None,
    iterables: tuple[Any, ...],
    results: list[Any],
) -> None:
    """They are taken together, until the shortest is over."""

    def add(first: Any, *rest: Any) -> Any:
        for other in rest:
            first += other
        return first

    assert list(one.map(add, *iterables, buffersize=buffersize)) == results


def test_all_input_is_taken_at_once_by_default(one: TokenGateExecutor) -> None:
    """Before the first result is asked for, everything is submitted."""
    release = threading.Event()
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            taken.append(number)
            yield number

    one.submit(release.wait)
    results = one.map(abs, numbers())
    assert taken == [0, 1, 2, 3, 4]
    release.set()
    assert list(results) == taken


def test_infinite_input() -> None:
    """With `buffersize` input may have no end; as many results as wanted are taken."""
    with TokenGateExecutor(3) as executor:
        results = executor.map(pow, count(), count(1), buffersize=4)
        assert list(islice(results, 50)) == [n ** (n + 1) for n in range(50)]
        results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("buffersize", [1, 3, 1000])
def test_no_more_in_flight_than_that(buffersize: int) -> None:
    """Input is taken when the result before it is, so no more than that is ever under way."""
    desk = Desk()
    results = lazy(desk.submit, ((n,) for n in range(10)), None, buffersize)
    for number in range(10):
        assert len(desk.given) == min(10, number + buffersize)
        desk.settle_all()
        assert next(results) == number
    assert list(results) == []
    assert desk.given == [(n,) for n in range(10)]


@both_ways
def test_inside_a_call(one: TokenGateExecutor, buffersize: int | None) -> None:
    """A worker that maps over its own executor, with no other worker, gets its results."""
    token = one.submit(lambda: list(one.map(abs, range(-5, 0), buffersize=buffersize)))
    assert token.result(30) == [5, 4, 3, 2, 1]


@both_ways
def test_views_map_with_their_options(one: TokenGateExecutor, buffersize: int | None) -> None:
    """What a view says holds for each of the calls."""
    view = one.options(operation="mapped", weight="heavy")
    assert list(view.map(abs, range(3), buffersize=buffersize)) == [0, 1, 2]
    records = [(record.operation, record.weight) for record in one.history()]
    assert records == [("mapped", "heavy")] * 3


# -- time -----------------------------------------------------------------------------------------


@both_ways
def test_out_of_time(one: TokenGateExecutor, buffersize: int | None) -> None:
    """A result that is not there in time is an error, and what has not started is cancelled."""
    release = threading.Event()
    ran: list[int] = []

    def stay(number: int) -> None:
        ran.append(number)
        release.wait(30)

    results = one.map(stay, range(5), timeout=0.05, buffersize=buffersize)
    with pytest.raises(TimeoutError):
        next(results)
    release.set()
    one.shutdown()
    assert ran == [0]
    assert one.statistics().cancelled == (4 if buffersize is None else 1)


@both_ways
def test_one_that_is_not_there_in_time_is_cancelled(buffersize: int | None) -> None:
    """Nobody can ask for it any more, so it need not start."""
    desk = Desk()
    given = [(n,) for n in range(2)]
    past = deadline_after(-5)
    if buffersize is None:
        results = eager([desk.submit(one) for one in given], past)
    else:
        results = lazy(desk.submit, given, past, buffersize)
    with pytest.raises(TimeoutError):
        next(results)
    assert [token.cancelled() for token in desk.tokens] == [True, True]


@both_ways
def test_what_is_there_comes_after_the_time_is_over(buffersize: int | None) -> None:
    """Results that need no waiting are handed out whatever the time."""
    desk = Desk()
    past = deadline_after(-5)
    given = [(n,) for n in range(3)]
    if buffersize is None:
        results = eager([desk.submit(one) for one in given], past)
    else:
        results = lazy(desk.submit, given, past, buffersize)
    desk.settle_all()
    assert list(islice(results, 2)) == [0, 1]


# -- failures, and leaving early ------------------------------------------------------------------


@both_ways
def test_the_first_error_ends_it(one: TokenGateExecutor, buffersize: int | None) -> None:
    """Results before it come; then it is raised, and the rest is cancelled."""
    results = one.map(fail_at(2), range(100), buffersize=buffersize)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="no 2"):
        next(results)
    assert list(results) == []


@both_ways
def test_closing_cancels_the_rest(buffersize: int | None) -> None:
    """What waits is cancelled; what runs is not asked to stop."""
    desk = Desk()
    given = [(n,) for n in range(5)]
    if buffersize is None:
        results = eager([desk.submit(one) for one in given], None)
    else:
        results = lazy(desk.submit, given, None, 3)
    desk.tokens[0].set_result(0)
    desk.tokens[1].set_running_or_notify_cancel()
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    states = [token.state for token in desk.tokens]
    assert states[:2] == [TokenState.COMPLETED, TokenState.EXECUTING]
    assert states[2:]
    assert set(states[2:]) == {TokenState.CANCELLED}
    assert next(results, None) is None


@both_ways
def test_one_that_was_cancelled(buffersize: int | None) -> None:
    """It raises `CancelledError` in its place, as its `result` does, and ends the rest."""
    desk = Desk()
    given = [(n,) for n in range(2)]
    if buffersize is None:
        results = eager([desk.submit(one) for one in given], None)
    else:
        results = lazy(desk.submit, given, None, buffersize)
    desk.tokens[0].cancel()
    with pytest.raises(CancelledError):
        next(results)
    assert desk.tokens[1].cancelled()


def broken_input() -> Iterator[int]:
    """Yield two numbers, and fail."""
    yield 0
    yield 1
    raise LookupError("no more input")


@pytest.mark.parametrize("buffersize", [None, 3])
def test_input_that_fails_at_once(one: TokenGateExecutor, buffersize: int | None) -> None:
    """While `map` takes its first input, an error of that comes out of `map` itself."""
    ran: list[int] = []
    with pytest.raises(LookupError, match="no more input"):
        one.map(ran.append, broken_input(), buffersize=buffersize)
    one.shutdown()
    assert ran == [0, 1], "what was submitted by then is run"


def test_input_that_fails_later() -> None:
    """When more input is taken, an error of that comes instead, and the rest is cancelled."""
    desk = Desk()
    results = lazy(desk.submit, ((n,) for n in broken_input()), None, 2)
    desk.tokens[0].set_result(0)
    with pytest.raises(LookupError, match="no more input"):
        next(results)
    assert desk.tokens[1].cancelled()


def test_refill_after_shutdown(one: TokenGateExecutor) -> None:
    """What is in flight is still handed out; then it is said that nothing more is taken."""
    results = one.map(abs, count(), buffersize=3)
    assert next(results) == 0
    one.shutdown()
    assert [next(results), next(results), next(results)] == [1, 2, 3]
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        next(results)
    assert next(results, None) is None


def test_a_refusal_is_said_once_all_in_flight_is_handed_out() -> None:
    """Input is not asked again after the first refusal, even if it would be taken by then."""
    desk = Desk()
    results = lazy(desk.submit, ((n,) for n in count()), None, 2)
    desk.settle_all()
    desk.refusal = RuntimeError("closed")
    assert next(results) == 0
    refusal, desk.refusal = desk.refusal, None
    assert next(results) == 1
    with pytest.raises(RuntimeError) as caught:
        next(results)
    assert caught.value is refusal
    assert len(desk.given) == 2


# -- what is kept ---------------------------------------------------------------------------------


@both_ways
def test_results_are_not_retained(one: TokenGateExecutor, buffersize: int | None) -> None:
    """Once the consumer has let go of a result nothing has it, without the collector's help."""
    gc.collect()
    gc.disable()
    try:
        results = one.map(Thing, range(5), buffersize=buffersize)
        for number in range(5):
            one.submit(int).result(30)  # the worker has come back from all that it had by then
            thing = next(results)
            assert thing.number == number
            gone = weakref.ref(thing)
            del thing
            assert gone() is None
    finally:
        gc.enable()


@both_ways
def test_an_error_makes_no_ring(buffersize: int | None) -> None:
    """The error, the token and the iterator are gone when nobody holds them any more."""

    def read(results: list[Iterator[object]]) -> weakref.ref[GoneError]:
        try:
            next(results.pop())
        except GoneError as error:
            return weakref.ref(error)
        raise AssertionError("there was no error")

    gc.collect()
    gc.disable()
    try:
        desk = Desk()
        if buffersize is None:
            results = [eager([desk.submit((1,))], None)]
        else:
            results = [lazy(desk.submit, [(1,)], None, 1)]
        iterator_gone = weakref.ref(results[0])
        token = desk.tokens.pop()
        token.set_exception(GoneError())
        token_gone = weakref.ref(token)
        del token
        error_gone = read(results)
        assert (error_gone(), token_gone(), iterator_gone()) == (None, None, None)
    finally:
        gc.enable()


def test_the_iterator_does_not_hold_the_executor() -> None:
    """With nobody else to hold it, the executor ends, and the results are there all the same."""
    executor = TokenGateExecutor(1)
    gone = weakref.ref(executor)
    results = executor.map(abs, range(-20, 0))
    threads = executor._threads
    del executor
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(30)
    assert list(results) == list(range(20, 0, -1))


def test_futures_of_any_kind() -> None:
    """`eager` takes the standard library's futures, too, and the list for its own."""
    futures: list[Future[int]] = [Future(), Future()]
    for number, future in enumerate(futures):
        future.set_result(number)
    assert list(eager(futures, None)) == [0, 1]
    assert futures == []
