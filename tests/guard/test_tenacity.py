"""A tenacity.Retrying as a retry policy: its strategies decide, and nobody sleeps."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor import Token, TokenGateExecutor, TokenState

tenacity = pytest.importorskip("tenacity")

if TYPE_CHECKING:
    from tests.guard.conftest import ByHand


def never_slept(_: float) -> None:
    """Be a sleep that is never called."""
    raise AssertionError("slept")


def retrying(**strategies: Any) -> Any:
    """Make a Retrying whose sleep must not be called."""
    return tenacity.Retrying(sleep=never_slept, **strategies)


class Outcomes:
    """A call with these outcomes, one for each run: an error is raised, anything else returned."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.runs = 0

    def __call__(self, *_: object) -> object:
        """Have the next outcome; the last one goes on."""
        outcome = self.outcomes[min(self.runs, len(self.outcomes) - 1)]
        self.runs += 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def delays_of(by_hand: ByHand, token: Token[Any]) -> list[float]:
    """Let all moments come until the token is settled; returns the delays before its attempts."""
    delays: list[float] = []
    settled = threading.Event()

    def tell(_: object) -> None:
        settled.set()
        by_hand.set(0.0, str)

    token.add_done_callback(tell)
    while True:
        timer = by_hand.next()
        if settled.is_set():
            return delays
        delays.append(timer.delay)
        timer.fire()


def test_stop_wait_and_retry_decide(by_hand: ByHand) -> None:
    """So many attempts, at these distances, for these errors; then the call's own error."""
    policy = retrying(
        stop=tenacity.stop_after_attempt(5),
        wait=tenacity.wait_exponential(multiplier=0.5, max=3),
        retry=tenacity.retry_if_exception_type(OSError),
    )
    error = OSError("down")
    with by_hand.executor(1, retry=policy) as executor:
        call = Outcomes(error)
        token = executor.submit(call)
        assert delays_of(by_hand, token) == [0.5, 1.0, 2.0, 3.0]
        assert token.exception(0) is error  # and no RetryError
        assert call.runs == token.attempts == 5
        assert error.__notes__ == [f"attempt {number}: OSError: down" for number in range(1, 5)]
        other = Outcomes(ValueError())
        assert isinstance(executor.submit(other).exception(30), ValueError)
        assert other.runs == 1


@pytest.mark.parametrize(
    ("wait", "delays"),
    [
        (tenacity.wait_none, [0.0, 0.0, 0.0]),
        (lambda: tenacity.wait_fixed(2), [2.0, 2.0, 2.0]),
        (lambda: tenacity.wait_incrementing(start=1, increment=10), [1.0, 11.0, 21.0]),
        (
            lambda: tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(7)),
            [1.0, 7.0, 7.0],
        ),
        (lambda: tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3.0, 3.0, 3.0]),
        (lambda: lambda state: state.attempt_number * 1.5, [1.5, 3.0, 4.5]),
        (lambda: lambda state: 1 + state.idle_for, [1.0, 2.0, 4.0]),
        (lambda: lambda _: -1, [0.0, 0.0, 0.0]),
    ],
)
def test_waits(wait: Callable[[], Any], delays: list[float], by_hand: ByHand) -> None:
    """Each wait strategy finds in the state what it reads."""
    policy = retrying(stop=tenacity.stop_after_attempt(4), wait=wait())
    with by_hand.executor(1) as executor:
        token = executor.options(retry=policy).submit(Outcomes(OSError()))
        assert delays_of(by_hand, token) == delays


def test_retry_if_result(by_hand: ByHand) -> None:
    """A result that is not good enough is tried again like an error."""
    policy = retrying(
        stop=tenacity.stop_after_attempt(5),
        wait=tenacity.wait_fixed(1),
        retry=tenacity.retry_if_result(lambda result: result is None),
    )
    with by_hand.executor(1, retry=policy) as executor:
        token = executor.submit(Outcomes(None, None, 7))
        assert delays_of(by_hand, token) == [1.0, 1.0]
        assert token.result(0) == 7
        now = executor.statistics()
        assert (now.completed, now.retries, now.submitted) == (1, 2, 1)


def test_a_result_that_stays_bad(by_hand: ByHand) -> None:
    """When there are no more attempts the token has it, and no RetryError."""
    policy = retrying(
        stop=tenacity.stop_after_attempt(2),
        retry=tenacity.retry_if_result(lambda result: result is None),
    )
    with by_hand.executor(1, retry=policy) as executor:
        token = executor.submit(Outcomes(None))
        assert delays_of(by_hand, token) == [0.0]
        assert token.result(0) is None
        assert token.state is TokenState.COMPLETED


def test_a_result_and_then_an_error(by_hand: ByHand) -> None:
    """The error's notes say what was returned before, by its type alone."""
    policy = retrying(
        stop=tenacity.stop_after_attempt(2),
        retry=tenacity.retry_any(
            tenacity.retry_if_result(lambda result: result == "secret"),
            tenacity.retry_if_exception_type(),
        ),
    )
    with by_hand.executor(1, retry=policy) as executor:
        token = executor.submit(Outcomes("secret", OSError()))
        delays_of(by_hand, token)
        error = token.exception(0)
        assert error is not None
        assert error.__notes__ == ["attempt 1: returned str"]


@pytest.mark.parametrize(
    ("stop", "runs"),
    [
        (lambda: tenacity.stop_after_attempt(1), 1),
        (lambda: tenacity.stop_before_delay(35), 4),
        (lambda: tenacity.stop_after_delay(35), 5),
        (lambda: tenacity.stop_before_delay(35) | tenacity.stop_after_attempt(2), 2),
        (lambda: tenacity.stop_before_delay(35) & tenacity.stop_after_attempt(6), 6),
        (lambda: lambda state: state.upcoming_sleep + state.idle_for > 25, 3),
    ],
)
def test_stops(
    stop: Callable[[], Any], runs: int, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is counted from the first attempt, and the coming sleep is known: all by the test's clock."""
    # Waits of ten seconds, under tenacity's own clock, which goes with ours.
    monkeypatch.setattr("time.monotonic", lambda: by_hand.now)
    monkeypatch.setattr("tokengate_executor.guard.reviewer.monotonic", lambda: by_hand.now)
    policy = retrying(stop=stop(), wait=tenacity.wait_fixed(10))
    with by_hand.executor(1) as executor:
        call = Outcomes(OSError())
        token = executor.options(retry=policy).submit(call)
        assert delays_of(by_hand, token) == [10.0] * (runs - 1)
        assert call.runs == runs


def test_time_in_the_queue_does_not_count(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """For `stop_after_delay` the clock begins with the first attempt, as in tenacity."""
    monkeypatch.setattr("tokengate_executor.guard.reviewer.monotonic", lambda: by_hand.now)
    policy = retrying(stop=tenacity.stop_after_delay(5), wait=tenacity.wait_fixed(4))
    with by_hand.executor(1) as executor:
        executor.pause()
        token = executor.options(retry=policy).submit(Outcomes(OSError()))
        by_hand.now += 60
        executor.resume()
        assert delays_of(by_hand, token) == [4.0, 4.0]


def test_try_again(by_hand: ByHand) -> None:
    """A call may ask for another attempt itself, whatever the retry strategy is."""
    policy = retrying(
        stop=tenacity.stop_after_attempt(3),
        retry=tenacity.retry_if_exception_type(OSError),
    )
    with by_hand.executor(1, retry=policy) as executor:
        token = executor.submit(Outcomes(tenacity.TryAgain(), 7))
        assert delays_of(by_hand, token) == [0.0]
        assert token.result(0) == 7
        call = Outcomes(tenacity.TryAgain())
        token = executor.submit(call)
        delays_of(by_hand, token)
        assert isinstance(token.exception(0), tenacity.TryAgain)
        assert call.runs == 3


def test_one_that_is_disabled(by_hand: ByHand) -> None:
    """Tries nothing again, as tenacity has it."""
    try:
        policy = retrying(stop=tenacity.stop_after_attempt(3), enabled=False)
    except TypeError:
        pytest.skip("an old tenacity")
    with by_hand.executor(1, retry=policy) as executor:
        call = Outcomes(OSError())
        assert isinstance(executor.submit(call).exception(30), OSError)
        assert call.runs == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_asks_to_end(error: BaseException, by_hand: ByHand) -> None:
    """Is not tried again, even if the strategy would."""
    policy = retrying(retry=tenacity.retry_if_exception(lambda _: True))
    with by_hand.executor(1, retry=policy) as executor:
        call = Outcomes(error)
        assert executor.submit(call).exception(30) is error
        assert call.runs == 1


@pytest.mark.parametrize("name", ["stop", "wait", "retry"])
@pytest.mark.parametrize("raised", [LookupError("broken"), SystemExit(3)])
def test_a_strategy_that_fails(
    name: str, raised: BaseException, by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    """That is logged, and the call's own error is final."""

    def fail(_: object) -> bool:
        raise raised

    error = OSError()
    with by_hand.executor(1, retry=retrying(**{name: fail})) as executor:
        assert executor.submit(Outcomes(error)).exception(30) is error
        assert executor.submit(Outcomes(1)).result(30) == 1 or name == "retry"
    assert "the retry policy of" in caplog.text


def test_one_object_for_many_tokens(by_hand: ByHand) -> None:
    """Each token has a state of its own."""
    states: list[Any] = []

    def wait(state: Any) -> float:
        states.append(state)
        return float(state.attempt_number)

    policy = retrying(stop=tenacity.stop_after_attempt(3), wait=wait)
    with by_hand.executor(2, retry=policy) as executor:
        tokens = [executor.submit(Outcomes(OSError())) for _ in range(2)]
        delays = []
        for _ in range(4):
            timer = by_hand.next()
            delays.append(timer.when - 1000.0)
            timer.action()
        assert sorted(delays) == [1.0, 1.0, 2.0, 2.0]
        for token in tokens:
            assert isinstance(token.exception(30), OSError)
    assert len({id(state) for state in states}) == 2
    assert all(state.args == () and state.kwargs == {} and state.fn is None for state in states)


class OwnError(Exception):
    """An error to which a weak reference can be made."""


def test_the_state_keeps_nothing(by_hand: ByHand) -> None:
    """Between attempts and afterwards, neither the arguments nor an error are held for tenacity."""
    errors: list[weakref.ref[OwnError]] = []

    def work() -> None:
        error = OwnError()
        errors.append(weakref.ref(error))
        raise error

    policy = retrying(stop=tenacity.stop_after_attempt(2))
    with by_hand.executor(1, retry=policy) as executor:
        token = executor.submit(work)
        timer = by_hand.next()
        assert executor.submit(int).result(30) == 0  # the worker has left the attempt
        gc.collect()
        assert errors[0]() is None
        timer.fire()
        assert token.exception(30) is errors[1]()
        assert token._earlier is not None
        assert token._earlier.tenacity is None


def test_without_tenacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object with the same strategies, but nothing installed: it is said at once."""

    class Strategies:
        """What looks like a Retrying."""

        stop = wait = retry = staticmethod(lambda _: False)

    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(ImportError):
        TokenGateExecutor(1, retry=Strategies())
