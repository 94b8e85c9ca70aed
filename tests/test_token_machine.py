"""Random lives of tokens, beside those of the standard library's futures and the table of moves.

Each token here has a twin, a ``concurrent.futures.Future`` to which the same is done. What is expected
of both is worked out from ``lifecycle.MOVES``, and every phase that a token is given is noted.
"""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    wait,
)
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokengate_executor import Token, TokenGateExecutor
from tokengate_executor.lifecycle import MOVES, SETTLED, TokenState

SECONDS = 10
"""For how long to wait for what has to come."""

_PHASE: Any = Token._phase  # the slot's descriptor

Outcome = tuple[str, object]

SUBSTATES = {TokenState.WAITING: (TokenState.WAITING, TokenState.ADMITTED)}
"""A token that waits is seen as admitted once a lane has it in its mailbox."""

KINDS = ("notes", "raises", "adds another", "cancels", "reads")
"""What callbacks do besides noting that they ran."""


class WatchedToken(Token[Any]):
    """A token that notes every phase it is given, by whichever thread."""

    @property
    def _phase(self) -> TokenState:  # type: ignore[override]
        return _PHASE.__get__(self)

    @_phase.setter
    def _phase(self, phase: TokenState) -> None:
        self.__dict__.setdefault("phases", []).append(phase)
        _PHASE.__set__(self, phase)

    @property
    def phases(self) -> list[TokenState]:
        """Every phase so far, in order."""
        return self.__dict__["phases"]


def is_move(before: TokenState, after: TokenState) -> bool:
    """Whether the table has the move; a token in a mailbox has the phase of one that waits."""
    return after in MOVES[before] or (
        before is TokenState.WAITING and after in MOVES[TokenState.ADMITTED]
    )


def outcome(act: Callable[[], object]) -> Outcome:
    """What came of it, in a form in which a token's and a future's can be compared."""
    try:
        return "returned", act()
    except Exception as error:
        text = str(error).replace("CANCELLED_AND_NOTIFIED", "CANCELLED")
        return type(error).__name__, without_address(text)


def without_address(text: str) -> str:
    """A token's or a future's repr without what differs."""
    return re.sub(r"<\w+ at 0x[0-9a-f]+", "<", text)


NUMBERS = st.integers(0, 99)


class Argument:
    """Something that a call is given, of which one can see when it is gone."""


class Twins:
    """A token and the standard library's future, and what the table says of both.

    Attributes:
        state: where both are by the table.
        outcome: what ``result`` gives; ``None``: they are not settled.
        told: per twin, the callbacks that ran, in order.
        to_be_told: the callbacks that have to have run, in order.
        argument: of the token's call, which it lets go of when it settles.
    """

    def __init__(
        self,
        token: WatchedToken,
        future: Future[Any],
        state: TokenState,
        argument: weakref.ref[Argument],
    ) -> None:
        self.both: tuple[WatchedToken, Future[Any]] = token, future
        self.token = token
        self.state = state
        self.argument = argument
        self.outcome: Outcome | None = None
        self.told: tuple[list[str], list[str]] = [], []
        self.to_be_told: list[str] = []
        self._callbacks: list[list[str]] = []
        self._is_notified = False
        self._sleepers: list[threading.Thread] = []
        self._awakened: tuple[list[Outcome], list[Outcome]] = [], []

    # -- the model --------------------------------------------------------------------------------

    def may_become(self, state: TokenState) -> bool:
        """Whether the table has that move."""
        return is_move(self.state, state)

    def become(self, state: TokenState, result: Outcome | None = None) -> None:
        """The model makes the move."""
        assert self.may_become(state)
        self.state = state
        if state in SETTLED:
            self.outcome = result
            for names in self._callbacks:
                self.to_be_told += names
            for sleeper in self._sleepers:
                sleeper.join(SECONDS)
                assert not sleeper.is_alive()

    @property
    def expected(self) -> Outcome:
        """What ``result(timeout=0)`` gives."""
        return ("TimeoutError", "") if self.outcome is None else self.outcome

    # -- what is done to both -----------------------------------------------------------------------

    def do(self, act: Callable[[Any], object]) -> Outcome:
        """Do it to both; they agree on what comes of it."""
        ours, theirs = (outcome(lambda one=one: act(one)) for one in self.both)
        assert ours == theirs
        return ours

    def cancel(self) -> None:
        """Cancel both: it works unless the call has begun or both are settled."""
        works = self.may_become(TokenState.CANCELLED)
        done = self.do(lambda one: one.cancel())
        if works:
            self.become(TokenState.CANCELLED, ("CancelledError", ""))
        assert done == ("returned", self.state is TokenState.CANCELLED)

    def set_running(self) -> None:
        """Begin both: it works once, and for a cancelled one says so."""
        if self.state is TokenState.CANCELLED and self._is_notified:
            # The standard library answers that once, and then refuses. Ours is notified by `cancel`.
            assert self.token.set_running_or_notify_cancel() is False
            return
        works = self.may_become(TokenState.EXECUTING)
        done = self.do(lambda one: one.set_running_or_notify_cancel())
        if works:
            self.become(TokenState.EXECUTING)
            assert done == ("returned", True)
        elif self.state is TokenState.CANCELLED:
            self._is_notified = True
            assert done == ("returned", False)
        else:
            assert done == ("RuntimeError", "Future in unexpected state")

    def settle(self, state: TokenState, result: Outcome, act: Callable[[Any], object]) -> None:
        """Set both a result or an exception: it works unless they are settled."""
        works = self.may_become(state)
        done = self.do(act)
        if works:
            self.become(state, result)
            assert done == ("returned", None)
        else:
            assert done[0] == InvalidStateError.__name__

    def add_callback(self, name: str, kind: str) -> None:
        """Add a callback to both, which notes its name and perhaps does something else."""
        for one, told in zip(self.both, self.told, strict=True):
            one.add_done_callback(self._callback(name, kind, told))
        names = [name, f"{name} again"] if kind == "adds another" else [name]
        if self.state in SETTLED:
            self.to_be_told += names
        else:
            self._callbacks.append(names)

    def _callback(self, name: str, kind: str, told: list[str]) -> Callable[[Future[Any]], None]:
        def call_back(one: Future[Any]) -> None:
            assert one.done()
            told.append(name)
            if kind == "raises":
                raise ValueError(name)
            if kind == "adds another":
                one.add_done_callback(lambda _: told.append(f"{name} again"))
            if kind == "cancels":
                assert one.cancel() == one.cancelled()
            if kind == "reads":
                outcome(one.result)

        return call_back

    def sleep(self) -> None:
        """Have a thread wait for each of both."""
        for one, awakened in zip(self.both, self._awakened, strict=True):

            def wait_for(one: Future[Any] = one, awakened: list[Outcome] = awakened) -> None:
                awakened.append(outcome(lambda: one.result(SECONDS)))

            self._sleepers.append(threading.Thread(target=wait_for))
            self._sleepers[-1].start()

    # -- what has to be true --------------------------------------------------------------------------

    def check(self) -> None:
        """Both agree with the model, and reading what the token is takes no lock."""
        token, future = self.both
        with token._lock:  # held: whatever would take it does not come back
            assert token.state in SUBSTATES.get(self.state, (self.state,))
            for one in self.both:
                assert one.done() is (self.state in SETTLED)
                assert one.cancelled() is (self.state is TokenState.CANCELLED)
                assert one.running() is (self.state is TokenState.EXECUTING)
            assert without_address(repr(token)) == without_address(repr(future))
            assert f"{token}" == str(token) == repr(token)
            assert bool(token)
            assert token == token  # noqa: PLR0124  that it does not block
            assert token != future
            assert len({token, token}) == 1
            assert (token.settled_at is not None) is (self.state in SETTLED)
            assert token.operation != "unnamed"
        assert token.phases[0] is TokenState.CREATED
        assert token.phases[-1] is self.state
        assert all(is_move(*move) for move in pairwise(token.phases)), token.phases
        assert self.told == (self.to_be_told, self.to_be_told)
        ours, theirs = self._awakened
        assert ours + theirs == [self.expected] * (len(self._sleepers) if self.outcome else 0)
        assert (self.argument() is None) is (self.state in SETTLED)


class Machine(RuleBasedStateMachine):
    """What can be done to tokens wherever they are; numbers choose among those there are."""

    def __init__(self) -> None:
        super().__init__()
        self.twins: list[Twins] = []
        self.number = 0
        # Callbacks that raise are logged, as they should be; nobody wants to see it here.
        self.logger = logging.getLogger("concurrent.futures")
        self.logger.disabled = True

    def teardown(self) -> None:
        """What is logged is seen again."""
        self.logger.disabled = False

    def next_number(self) -> int:
        """A number that is given once: for results, errors and callbacks."""
        self.number += 1
        return self.number

    def one(self, number: int) -> Twins:
        """The twins that a number stands for."""
        return self.twins[number % len(self.twins)]

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        """Cancel one."""
        self.one(number).cancel()

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS, kind=st.sampled_from(KINDS))
    def add_done_callback(self, number: int, kind: str) -> None:
        """Have something called back."""
        self.one(number).add_callback(str(self.next_number()), kind)

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS)
    def result_at_once(self, number: int) -> None:
        """Ask for the result, without waiting."""
        twins = self.one(number)
        assert twins.do(lambda one: one.result(timeout=0)) == twins.expected

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS)
    def exception_at_once(self, number: int) -> None:
        """Ask for the exception, without waiting."""
        twins = self.one(number)
        kind, value = twins.expected
        done = twins.do(lambda one: repr(one.exception(timeout=0)))
        if kind == "returned":
            assert done == ("returned", "None")
        elif kind in ("TimeoutError", "CancelledError"):
            assert done == (kind, value)
        else:
            assert done == ("returned", f"{kind}({value!r})")

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS)
    def sleep(self, number: int) -> None:
        """Have threads wait for the result, until there is one."""
        self.one(number).sleep()

    @rule(return_when=st.sampled_from([ALL_COMPLETED, FIRST_COMPLETED]))
    def wait_at_once(self, return_when: str) -> None:
        """Ask which are done; unlike the standard library, ours include what was just cancelled."""
        done, not_done = wait([twins.token for twins in self.twins], 0, return_when)
        assert done == {twins.token for twins in self.twins if twins.state in SETTLED}
        assert not_done == {twins.token for twins in self.twins if twins.state not in SETTLED}

    @invariant()
    def all_agree(self) -> None:
        """Every token is what its twin and the model say."""
        for twins in self.twins:
            twins.check()


class BareTokens(Machine):
    """Tokens that no executor has."""

    @rule()
    def create(self) -> None:
        """One more."""
        argument = Argument()
        token = WatchedToken(print, (argument,))
        self.twins.append(Twins(token, Future(), TokenState.CREATED, weakref.ref(argument)))

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS)
    def set_running_or_notify_cancel(self, number: int) -> None:
        """Begin one."""
        self.one(number).set_running()

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS)
    def set_result(self, number: int) -> None:
        """Settle one with a result."""
        result = self.next_number()
        self.one(number).settle(
            TokenState.COMPLETED, ("returned", result), lambda one: one.set_result(result)
        )

    @precondition(lambda self: self.twins)
    @rule(number=NUMBERS)
    def set_exception(self, number: int) -> None:
        """Settle one with an exception."""
        text = str(self.next_number())
        self.one(number).settle(
            TokenState.FAILED,
            ("ValueError", text),
            lambda one: one.set_exception(ValueError(text)),
        )

    def teardown(self) -> None:
        """Nobody is left to sleep."""
        for twins in self.twins:
            twins.settle(TokenState.COMPLETED, ("returned", 0), lambda one: one.set_result(0))
        self.all_agree()
        super().teardown()


class HeldCall:
    """A call that begins, says so, and ends when it is told to."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.error: Exception | None = None
        self.result: object = None

    def __call__(self, argument: Argument) -> object:
        """Begin and end; an error's traceback, which holds this frame, does not hold the argument."""
        del argument
        self.has_begun.set()
        assert self.may_end.wait(SECONDS)
        if self.error is not None:
            raise self.error
        return self.result


class QueuedTokens(Machine):
    """Tokens of an executor with one worker, beside the standard library's executor."""

    def __init__(self) -> None:
        super().__init__()
        self.substitution = mock.patch("tokengate_executor.executor.Token", WatchedToken)
        self.substitution.start()
        self.executors = TokenGateExecutor(1, mailbox_size=2), ThreadPoolExecutor(1)
        self.calls: dict[Twins, tuple[HeldCall, HeldCall]] = {}

    def in_state(self, *states: TokenState) -> list[Twins]:
        """Those that are there, in the order in which they were submitted."""
        return [twins for twins in self.twins if twins.state in states]

    @precondition(lambda self: len(self.in_state(TokenState.WAITING)) < 9)
    @rule()
    def submit(self) -> None:
        """Submit one more call to each executor."""
        calls = HeldCall(), HeldCall()
        argument = Argument()
        ours, theirs = self.executors
        token, future = ours.submit(calls[0], argument), theirs.submit(calls[1], Argument())
        assert isinstance(token, WatchedToken)
        twins = Twins(token, future, TokenState.WAITING, weakref.ref(argument))
        self.calls[twins] = calls
        self.twins.append(twins)
        self.begin_next()

    def begin_next(self) -> None:
        """The workers take the first that waits, if they have nothing to do."""
        waiting = self.in_state(TokenState.WAITING)
        if waiting and not self.in_state(TokenState.EXECUTING):
            for call in self.calls[waiting[0]]:
                assert call.has_begun.wait(SECONDS)
            waiting[0].become(TokenState.EXECUTING)

    @precondition(lambda self: self.in_state(TokenState.EXECUTING))
    @rule(fails=st.booleans())
    def end(self, fails: bool) -> None:
        """Let the call end that runs; the next one begins."""
        (twins,) = self.in_state(TokenState.EXECUTING)
        number = self.next_number()
        told = threading.Event(), threading.Event()
        for one, call, last in zip(twins.both, self.calls[twins], told, strict=True):
            call.error = ValueError(str(number)) if fails else None
            call.result = number
            one.add_done_callback(lambda _, last=last: last.set())
            call.may_end.set()
            assert last.wait(SECONDS)
        if fails:
            twins.become(TokenState.FAILED, ("ValueError", str(number)))
        else:
            twins.become(TokenState.COMPLETED, ("returned", number))
        self.begin_next()

    @precondition(lambda self: self.in_state(TokenState.EXECUTING))
    @rule()
    def begin_again(self) -> None:
        """A call that runs cannot be begun."""
        (twins,) = self.in_state(TokenState.EXECUTING)
        twins.set_running()

    def teardown(self) -> None:
        """Everything ends."""
        while self.in_state(TokenState.EXECUTING):
            self.end(fails=False)
        for executor in self.executors:
            executor.shutdown()
        self.all_agree()
        self.substitution.stop()
        super().teardown()


SETTINGS = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
)
BareTokensTest = BareTokens.TestCase
BareTokensTest.settings = SETTINGS
QueuedTokensTest = QueuedTokens.TestCase
QueuedTokensTest.settings = SETTINGS
