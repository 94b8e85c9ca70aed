"""The circuit breaker: when it opens, what it lets in then, and which results count."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.policies.breaker import (
    MOVES,
    BreakerPolicy,
    Circuit,
    CircuitReport,
    CircuitState,
    Ticket,
    Trigger,
)

CLOSED, OPEN, HALF_OPEN = CircuitState


def entered(circuit: Circuit, now: float) -> Ticket:
    """The ticket of a call that must be let in."""
    ticket = circuit.may_enter(now)
    assert ticket is not None
    return ticket


def count(circuit: Circuit, now: float, *, successes: int = 0, failures: int = 0) -> None:
    """Say how the calls of the window ended, as whoever counts them does after a failure."""
    circuit.judge(now, successes + failures, failures)


def opened(policy: BreakerPolicy | None = None, now: float = 0.0) -> Circuit:
    """A circuit that has just opened because calls failed."""
    circuit = Circuit(policy or BreakerPolicy())
    count(circuit, now, failures=circuit.policy.min_calls)
    assert circuit.state is OPEN
    return circuit


def test_over_the_rate_is_strictly_over() -> None:
    """9 failures of 10 are 90 %, not over it; 10 of 11 are."""
    circuit = Circuit(BreakerPolicy())
    count(circuit, 0.0, successes=1, failures=9)
    assert circuit.state is CLOSED
    count(circuit, 0.0, successes=1, failures=10)
    assert circuit.state is OPEN


@pytest.mark.parametrize(
    ("failures", "calls", "rate", "blocks"),
    [
        (29, 100, 0.29, False),
        (30, 100, 0.29, True),
        (7, 10, 0.7, False),
        (1, 10, 0, True),
        (0, 10, 0, False),
    ],
)
def test_shares_are_exact(failures: int, calls: int, rate: float, blocks: bool) -> None:
    """A share that is written as a decimal is met exactly, whatever floats make of it."""
    assert BreakerPolicy(failure_rate=rate).blocks(failures, calls) is blocks


def test_below_the_least_number_of_calls_nothing_opens_it() -> None:
    """Nine failures of nine are not enough; nine of ten are."""
    policy = BreakerPolicy(failure_rate=0.5)
    circuit = Circuit(policy)
    count(circuit, 0.0, failures=9)
    assert circuit.state is CLOSED
    count(circuit, 0.0, successes=1, failures=9)
    assert circuit.state is OPEN


def test_open_lets_nobody_in_before_its_time() -> None:
    """It is open for 30 s, then 3 trial calls may enter and no fourth."""
    circuit = opened()
    assert circuit.may_enter(29.999) is None
    assert circuit.state is OPEN
    assert all(entered(circuit, 30.0).trial for _ in range(3))
    assert circuit.state is HALF_OPEN
    assert circuit.may_enter(1e9) is None


def test_successful_trials_close_it() -> None:
    """When all three succeed it is closed, and calls count that begin from then on."""
    circuit = opened()
    trials = [entered(circuit, 30.0) for _ in range(3)]
    for trial in trials[:2]:
        circuit.succeeded(trial, 31.0)
    assert circuit.state is HALF_OPEN
    assert circuit.may_enter(31.0) is None, "those that succeeded are not replaced"
    circuit.succeeded(trials[2], 31.0)
    assert circuit.state is CLOSED
    assert circuit.closed_since == 31.0
    assert circuit.describe(31.0).calls == 0


def test_a_failed_trial_opens_it_again() -> None:
    """One failure is enough, it is open for the whole time again, and the other trials do not count."""
    circuit = opened()
    trials = [entered(circuit, 30.0) for _ in range(3)]
    circuit.failed(trials[0], 40.0)
    assert circuit.state is OPEN
    before = circuit.describe(69.9)
    circuit.succeeded(trials[1], 41.0)
    circuit.failed(trials[2], 69.9)
    assert circuit.describe(69.9) == before
    assert circuit.may_enter(69.9) is None
    assert circuit.may_enter(70.0) is not None


def test_a_trial_without_a_result_is_given_back() -> None:
    """A trial call that was cancelled makes room for another, once."""
    circuit = opened()
    trials = [entered(circuit, 30.0) for _ in range(3)]
    circuit.forgo(trials[0])
    circuit.forgo(trials[0])
    assert circuit.may_enter(30.0) is not None
    assert circuit.may_enter(30.0) is None


def test_results_from_before_do_not_count() -> None:
    """A call that began before the circuit opened says nothing about it afterwards."""
    circuit = Circuit(BreakerPolicy())
    slow = entered(circuit, 0.0)
    count(circuit, 0.0, failures=10)
    for _ in range(3):
        entered(circuit, 30.0)
    for _ in range(5):
        circuit.failed(slow, 30.0)
        circuit.succeeded(slow, 30.0)
        circuit.forgo(slow)
    assert circuit.state is HALF_OPEN
    assert circuit.may_enter(30.0) is None
    circuit.reset(31.0)
    for _ in range(50):
        circuit.failed(slow, 31.0)
    assert circuit.state is CLOSED


@pytest.mark.parametrize("state", CircuitState)
def test_by_hand(state: CircuitState) -> None:
    """Whatever its state, it can be opened, closed and reset by hand."""

    def circuit_in_state() -> Circuit:
        circuit = Circuit(BreakerPolicy()) if state is CLOSED else opened()
        if state is HALF_OPEN:
            entered(circuit, 30.0)
        assert circuit.state is state
        return circuit

    circuit = circuit_in_state()
    circuit.open(40.0)
    assert circuit.may_enter(1e12) is None
    assert circuit.describe(1e12).retry_after is None
    circuit.close(41.0)
    assert not entered(circuit, 41.0).trial
    circuit = circuit_in_state()
    circuit.open(40.0, 5)
    assert circuit.may_enter(44.9) is None
    assert entered(circuit, 45.0).trial
    circuit.reset(46.0)
    assert circuit.describe(46.0) == Circuit(BreakerPolicy()).describe(46.0)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, "5", True])
def test_seconds_by_hand_are_checked(seconds: Any) -> None:
    """For how long it is opened is a number above 0, and nothing happens if it is not."""
    circuit = Circuit(BreakerPolicy())
    with pytest.raises(
        InvalidOptionError, match=r"seconds must be a finite number of seconds above"
    ):
        circuit.open(0.0, seconds)
    assert circuit.state is CLOSED


def test_the_report_says_rate_count_and_when() -> None:
    """What a refusal has to say is there: the share, the number, and the time."""
    circuit = Circuit(BreakerPolicy(failure_rate=0.5))
    count(circuit, 100.0, successes=3, failures=7)
    report = circuit.describe(110.0)
    assert report == CircuitReport(OPEN, 10, 7, 130.0, 20.0, 0, 1)
    assert report.failure_rate == 0.7
    assert circuit.describe(131.0).retry_after == 0
    circuit.failed(entered(circuit, 131.0), 132.0)
    report = circuit.describe(132.0)
    assert (report.calls, report.failures, report.openings) == (11, 8, 2)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (CircuitReport(CLOSED, 1, 0, 5.0, 0.0, 0, 0), "closed: 0 of 1 call failed"),
        (
            CircuitReport(OPEN, 10, 10, 5.0, 2.5, 0, 1),
            "open: 10 of 10 calls failed; may be tried in 2.5 s",
        ),
        (
            CircuitReport(OPEN, 0, 0, None, None, 0, 1),
            "open: 0 of 0 calls failed; until it is closed by hand",
        ),
        (
            CircuitReport(HALF_OPEN, 10, 10, 5.0, 0.0, 1, 1),
            "half-open: 10 of 10 calls failed; 1 trial call on the way",
        ),
    ],
)
def test_the_report_is_readable(report: CircuitReport, text: str) -> None:
    """Printed, it says what its state means."""
    assert str(report) == text


def test_the_policy_is_readable() -> None:
    """Printed, it says what it does."""
    assert str(BreakerPolicy()) == (
        "Breaker: opens for 30 s when over 90 % of at least 10 calls within 60 s failed; "
        "then 3 trial calls"
    )


@pytest.mark.parametrize(
    ("argument", "given", "allowed"),
    [
        ("failure_rate", 1, "a number from 0 to below 1"),
        ("failure_rate", -0.1, "a number from 0 to below 1"),
        ("failure_rate", math.nan, "a number from 0 to below 1"),
        ("failure_rate", False, "a number from 0 to below 1"),
        ("min_calls", 0, "an int of at least 1"),
        ("min_calls", 10.0, "an int of at least 1"),
        ("trial_calls", True, "an int of at least 1"),
        ("window", 0, "a finite number of seconds, at least 0.001"),
        ("window", math.inf, "a finite number of seconds, at least 0.001"),
        ("window", 10**400, "a finite number of seconds, at least 0.001"),
        ("open_for", 0, "a finite number of seconds above 0"),
        ("open_for", "30", "a finite number of seconds above 0"),
        ("quick_failure", -1, "a finite number of seconds, at least 0"),
    ],
)
def test_wrong_arguments_are_named(argument: str, given: Any, allowed: str) -> None:
    """The error names the argument, what was given, and what is allowed."""
    with pytest.raises(InvalidOptionError) as caught:
        BreakerPolicy(**{argument: given})
    error = caught.value
    assert (error.option, error.given, error.allowed) == (argument, given, allowed)


def test_the_table_has_no_dead_end() -> None:
    """From every state every other is reached, and each trigger is in the table."""
    assert {trigger for _, trigger in MOVES} == set(Trigger)
    reached = {state: {MOVES[a, b] for a, b in MOVES if a is state} for state in CircuitState}
    assert reached[CLOSED] == {OPEN, CLOSED}
    assert reached[OPEN] == set(CircuitState)
    assert reached[HALF_OPEN] == {OPEN, CLOSED}


class CircuitMachine(RuleBasedStateMachine):
    """Random calls, results, cancellations and hands on one circuit."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = BreakerPolicy(
            failure_rate=0.5, min_calls=3, window=10, open_for=5, trial_calls=2
        )
        self.circuit = Circuit(self.policy)
        self.now = 0.0
        self.stretch = 0  # of one state; a ticket counts for its own
        self.out: list[tuple[Ticket, int]] = []
        self.succeeded_trials = 0
        self.open_until = -math.inf

    def follow(self, before: CircuitState, after: CircuitState, *, by_hand: bool = False) -> None:
        """Note a change of state."""
        if before is not after or by_hand:
            assert by_hand or any(
                MOVES.get((before, trigger)) is after
                for trigger in Trigger
                if trigger not in (Trigger.OPENED_BY_HAND, Trigger.CLOSED_BY_HAND)
            ), f"{before} to {after} is no move"
            self.stretch += 1
            self.succeeded_trials = 0
            if after is OPEN and not by_hand:
                self.open_until = self.now + self.policy.open_for

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def enter(self) -> None:
        """Ask for a ticket."""
        before = self.circuit.state
        ticket = self.circuit.may_enter(self.now)
        after = self.circuit.state
        if before is OPEN:
            assert (after is OPEN) == (self.now < self.open_until), "let in neither early nor late"
        self.follow(before, after)
        if ticket is None:
            assert after is OPEN or self.trials_out() + self.succeeded_trials == 2
        else:
            assert after is not OPEN
            assert ticket.trial is (after is HALF_OPEN)
            self.out.append((ticket, self.stretch))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), way=st.sampled_from(["succeeded", "failed", "forgo"]))
    def end(self, data: st.DataObject, way: str) -> None:
        """Tell how one of the calls on their way ended."""
        ticket, stretch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before, described = self.circuit.state, self.circuit.describe(self.now)
        arguments = () if way == "forgo" else (self.now,)
        getattr(self.circuit, way)(ticket, *arguments)
        if stretch != self.stretch:
            assert self.circuit.describe(self.now) == described, "an old ticket is harmless"
            return
        self.succeeded_trials += ticket.trial and way == "succeeded"
        if ticket.trial and way == "failed":
            assert self.circuit.state is OPEN
        if not ticket.trial:
            assert self.circuit.describe(self.now) == described, "it is counted elsewhere"
        self.follow(before, self.circuit.state)

    @rule(successes=st.integers(0, 4), failures=st.integers(0, 4))
    def count(self, successes: int, failures: int) -> None:
        """Say how the calls within the window have ended."""
        before, described = self.circuit.state, self.circuit.describe(self.now)
        count(self.circuit, self.now, successes=successes, failures=failures)
        if before is CLOSED and self.policy.blocks(failures, successes + failures):
            assert self.circuit.state is OPEN
            report = self.circuit.describe(self.now)
            assert (report.calls, report.failures) == (successes + failures, failures)
        else:
            assert self.circuit.describe(self.now) == described
        self.follow(before, self.circuit.state)

    @rule(seconds=st.none() | st.floats(0.1, 8))
    def open_by_hand(self, seconds: float | None) -> None:
        """Open it, for a time or until it is closed."""
        before = self.circuit.state
        self.circuit.open(self.now, seconds)
        self.open_until = math.inf if seconds is None else self.now + seconds
        self.follow(before, OPEN, by_hand=True)

    @rule(way=st.sampled_from(["close", "reset"]))
    def close_by_hand(self, way: str) -> None:
        """Close or reset it."""
        before = self.circuit.state
        getattr(self.circuit, way)(self.now)
        self.follow(before, CLOSED, by_hand=True)
        assert self.circuit.describe(self.now).calls == 0

    def trials_out(self) -> int:
        """How many trial calls of this stretch are on their way."""
        return sum(ticket.trial and stretch == self.stretch for ticket, stretch in self.out)

    @invariant()
    def never_too_many_trials(self) -> None:
        """In half-open no more than two trial calls run or have succeeded, and else none."""
        report = self.circuit.describe(self.now)
        assert report.trials == self.trials_out()
        assert report.trials + self.succeeded_trials <= 2
        assert report.trials == 0 or report.state is HALF_OPEN

    @invariant()
    def the_report_adds_up(self) -> None:
        """Numbers and times of a report agree with each other and with the state."""
        report = self.circuit.describe(self.now)
        assert 0 <= report.failures <= report.calls
        assert 0 <= report.failure_rate <= 1
        assert (report.retry_after is None) == (report.retry_at is None)
        if report.state is OPEN:
            assert report.openings > 0
            expected = None if self.open_until == math.inf else max(self.now, self.open_until)
            assert report.retry_at == expected


TestCircuitMachine = CircuitMachine.TestCase
