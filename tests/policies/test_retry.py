"""Tests of tokengate_executor.policies.retry: numbers for time and for chance, nothing waits."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import pickle
import subprocess
import sys
from concurrent.futures import CancelledError
from fractions import Fraction
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokengate_executor.errors import InvalidOptionError, TokenKilledError
from tokengate_executor.policies.complexity import ComplexityLevel
from tokengate_executor.policies.retry import (
    BudgetAccount,
    Jitter,
    RetryBudget,
    RetryPolicy,
    TenacityRetrying,
    asks_to_end,
)

Levels = dict[ComplexityLevel, int]

BEYOND_FLOATS = 10**400
LONGEST = sys.float_info.max

draws = st.floats(0.0, 1.0, exclude_max=True)
jitters = st.sampled_from(["full", "equal", None])


def never_asked() -> ComplexityLevel:
    """Stand for the level of a call, where nobody may want to know it."""
    raise AssertionError("the level was asked for")


def is_any(_error: BaseException) -> bool:
    """Say that every error is worth another attempt."""
    return True


# --- how long to wait -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({}, [0.1, 0.2, 0.4, 0.8, 1.6]),
        ({"delay": 1.0, "factor": 3.0, "max_delay": 20.0}, [1.0, 3.0, 9.0, 20.0, 20.0]),
        ({"delay": 1, "factor": 2, "max_delay": 5}, [1, 2, 4, 5, 5]),
        ({"delay": 0.5, "factor": 1.0}, [0.5, 0.5, 0.5]),
        ({"delay": 0.0, "factor": 9.0}, [0.0, 0.0, 0.0]),
        ({"delay": 60.0}, [30.0, 30.0]),
        ({"delay": 1.0, "max_delay": 0.0}, [0.0, 0.0]),
    ],
)
def test_without_jitter_the_delay_grows_by_the_factor_up_to_the_longest(
    options: dict[str, Any], delays: list[float]
) -> None:
    """After attempt n it is ``delay * factor ** (n - 1)``, whatever number is drawn."""
    policy = RetryPolicy(9, OSError, jitter=None, **options)
    for draw in (0.0, 0.7):
        assert [policy.delay_after(n, draw) for n in range(1, len(delays) + 1)] == delays


@pytest.mark.parametrize(
    ("jitter", "draw", "delays"),
    [
        ("full", 0.0, [0.0, 0.0, 0.0, 0.0]),
        ("full", 0.25, [0.5, 1.0, 2.0, 2.5]),
        ("full", 0.75, [1.5, 3.0, 6.0, 7.5]),
        ("equal", 0.0, [1.0, 2.0, 4.0, 5.0]),
        ("equal", 0.25, [1.25, 2.5, 5.0, 6.25]),
        ("equal", 0.75, [1.75, 3.5, 7.0, 8.75]),
    ],
)
def test_jitter_takes_its_share_of_the_delay(
    jitter: Jitter, draw: float, delays: list[float]
) -> None:
    """Full: from nothing to all of it; equal: from half to all; both of the delay as cut off."""
    policy = RetryPolicy(9, OSError, delay=2.0, max_delay=10.0, jitter=jitter)
    assert [policy.delay_after(n, draw) for n in range(1, 5)] == delays


def test_full_jitter_is_the_default() -> None:
    """Who says nothing does not retry in step with others."""
    assert RetryPolicy(2, OSError).jitter == "full"


@given(
    delay=st.just(0.0) | st.floats(1e-9, 1e6),
    factor=st.floats(1.0, 1.01) | st.floats(1.0, 1000.0),
    max_delay=st.floats(0.0, 1e9),
    attempt=st.integers(1, 6000),
)
@example(delay=0.1, factor=1.001, max_delay=30.0, attempt=5000)
@settings(deadline=None)
def test_schedule_is_that_of_exact_arithmetic(
    delay: float, factor: float, max_delay: float, attempt: int
) -> None:
    """A small factor grows on after any number of attempts, as far as floats can tell."""
    policy = RetryPolicy(
        9, OSError, delay=delay, factor=factor, max_delay=max_delay, jitter=None, budget=None
    )
    exact = min(Fraction(max_delay), Fraction(delay) * Fraction(factor) ** (attempt - 1))
    assert math.isclose(policy.delay_after(attempt, 0.0), exact, rel_tol=1e-9)


policies = st.builds(
    RetryPolicy,
    attempts=st.just(9),
    on=st.just(OSError),
    delay=st.floats(0.0, LONGEST) | st.integers(0, 10**308),
    factor=st.floats(1.0, LONGEST) | st.integers(1, 10**308),
    max_delay=st.floats(0.0, LONGEST) | st.integers(0, 10**308),
    jitter=jitters,
)


@given(policies, st.integers(1, BEYOND_FLOATS), draws)
@example(RetryPolicy(9, OSError, delay=1, factor=10**308), 10**18, 0.5)
@example(RetryPolicy(9, OSError, delay=1.0, factor=1), BEYOND_FLOATS, 0.5)
@example(RetryPolicy(9, OSError, delay=0.0, factor=2.0), BEYOND_FLOATS, 0.5)
def test_no_delay_is_above_the_longest(policy: RetryPolicy, attempt: int, draw: float) -> None:
    """Nothing overflows, turns negative or fills the memory, ints of any size included."""
    delay = policy.delay_after(attempt, draw)
    assert 0.0 <= delay <= policy.max_delay
    if policy.delay == 0:
        assert delay == 0
    if policy.factor == 1:
        assert delay == policy.delay_after(1, draw)


@given(
    delay=st.floats(0.0, 1e6),
    factor=st.floats(1.0, 1e6),
    jitter=jitters,
    attempts=st.lists(st.integers(1, 10**30), min_size=2, max_size=6),
    draw=draws,
)
def test_no_delay_is_shorter_than_the_one_before(
    delay: float, factor: float, jitter: Jitter | None, attempts: list[int], draw: float
) -> None:
    """With the same draw, a later attempt waits as long or longer."""
    policy = RetryPolicy(9, OSError, delay=delay, factor=factor, jitter=jitter)
    delays = [policy.delay_after(attempt, draw) for attempt in sorted(attempts)]
    assert all(earlier <= later for earlier, later in pairwise(delays))


# --- how many attempts ----------------------------------------------------------------------------


def test_a_number_of_attempts_is_for_every_call() -> None:
    """The level of the call is not even asked for: it may cost something."""
    assert RetryPolicy(4, OSError).attempts_for(never_asked) == 4


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ({ComplexityLevel.SIMPLE: 7, ComplexityLevel.MODERATE: 3}, 7),
        ({ComplexityLevel.EXTREME: 7, ComplexityLevel.MODERATE: 3}, 3),
        ({ComplexityLevel.EXTREME: 7}, 1),
        ({}, 1),
    ],
)
def test_attempts_by_complexity(attempts: Levels, expected: int) -> None:
    """A level that is not named counts as moderate; without that, there is one attempt."""
    assert RetryPolicy(attempts, OSError).attempts_for(lambda: ComplexityLevel.SIMPLE) == expected


def test_unknown_may_have_attempts_of_its_own() -> None:
    """It counts as moderate only if it is not named."""
    policy = RetryPolicy({ComplexityLevel.UNKNOWN: 9, ComplexityLevel.MODERATE: 3}, OSError)
    assert policy.attempts_for(lambda: ComplexityLevel.UNKNOWN) == 9


@pytest.mark.parametrize(
    ("level", "attempts"),
    [
        (ComplexityLevel.TRIVIAL, 5),
        (ComplexityLevel.SIMPLE, 4),
        (ComplexityLevel.MODERATE, 3),
        (ComplexityLevel.COMPLEX, 2),
        (ComplexityLevel.EXTREME, 2),
        (ComplexityLevel.UNKNOWN, 3),
    ],
)
def test_by_complexity_is_the_table_of_the_seed(level: ComplexityLevel, attempts: int) -> None:
    """The more there is to a call the fewer attempts it has; unknown is moderate."""
    assert RetryPolicy.by_complexity(OSError).attempts_for(lambda: level) == attempts


def test_by_complexity_leaves_the_rest_at_its_defaults() -> None:
    """Only the attempts differ from a policy made by hand."""
    policy = RetryPolicy.by_complexity((OSError, EOFError))
    assert policy == RetryPolicy(policy.attempts, (OSError, EOFError))


# --- policies as values ---------------------------------------------------------------------------


def test_equal_policies_are_equal_and_hash_alike() -> None:
    """In a set there is one of them, however its attempts are given or ordered."""
    some = {ComplexityLevel.TRIVIAL: 5, ComplexityLevel.EXTREME: 2}
    turned = dict(reversed(some.items()))
    assert RetryPolicy(some, OSError) == RetryPolicy(turned, OSError)
    policies = {
        RetryPolicy(3, OSError),
        RetryPolicy(3, OSError, budget=RetryBudget()),
        RetryPolicy(some, OSError),
        RetryPolicy(turned, OSError),
        RetryPolicy.by_complexity(OSError),
        RetryPolicy.by_complexity(OSError),
    }
    assert len(policies) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"attempts": 4},
        {"attempts": {ComplexityLevel.MODERATE: 3}},
        {"on": EOFError},
        {"delay": 0.2},
        {"factor": 3.0},
        {"max_delay": 31.0},
        {"jitter": None},
        {"timeout": 1.0},
        {"budget": None},
        {"budget": RetryBudget(share=0.2)},
        {"budget": RetryBudget(minimum=11)},
        {"budget": RetryBudget(window=11.0)},
    ],
)
def test_policies_that_differ_are_not_equal(changes: dict[str, Any]) -> None:
    """Every field counts."""
    policy = RetryPolicy(3, OSError)
    assert dataclasses.replace(policy, **changes) != policy


def test_a_policy_does_not_change_with_the_mapping_it_was_made_of() -> None:
    """It has a copy, so that neither its answers nor its hash change."""
    attempts = {ComplexityLevel.MODERATE: 3}
    policy = RetryPolicy(attempts, OSError)
    before = hash(policy)
    attempts[ComplexityLevel.MODERATE] = 8
    assert policy.attempts_for(lambda: ComplexityLevel.MODERATE) == 3
    assert hash(policy) == before


@pytest.mark.parametrize("policy", [RetryPolicy(3, OSError), RetryPolicy.by_complexity(OSError)])
def test_policies_can_be_copied_and_pickled(policy: RetryPolicy) -> None:
    """What comes back is equal, hashes alike, and has the same attempts."""
    for twin in (pickle.loads(pickle.dumps(policy)), dataclasses.replace(policy)):
        assert twin == policy
        assert hash(twin) == hash(policy)
        assert twin.attempts_for(lambda: ComplexityLevel.MODERATE) == 3


def test_policies_and_budgets_are_frozen() -> None:
    """No field can be set."""
    policy, budget = RetryPolicy(3, OSError), RetryBudget()
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.delay = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(dataclasses.FrozenInstanceError):
        budget.share = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# --- what is worth another attempt ----------------------------------------------------------------


def test_on_may_be_a_type() -> None:
    """Its subclasses are meant, too."""
    policy = RetryPolicy(3, OSError)
    assert policy.is_worth_it(OSError())
    assert policy.is_worth_it(ConnectionResetError())
    assert not policy.is_worth_it(ValueError())


def test_on_may_be_several_types() -> None:
    """Any of them will do."""
    policy = RetryPolicy(3, (OSError, EOFError))
    assert policy.is_worth_it(TimeoutError())
    assert policy.is_worth_it(EOFError())
    assert not policy.is_worth_it(ValueError())


def test_on_may_be_a_function() -> None:
    """It is given the error itself, and its answer is made a bool."""
    asked: list[BaseException] = []

    def first_argument(error: BaseException) -> Any:
        asked.append(error)
        return error.args[0]

    policy = RetryPolicy(3, first_argument)
    errors = [OSError("busy"), OSError(""), OSError(None)]
    assert [policy.is_worth_it(error) for error in errors] == [True, False, False]
    assert asked == errors


def test_what_a_function_given_as_on_raises_is_not_hidden() -> None:
    """Whoever asks has to deal with it."""

    def broken(error: BaseException) -> bool:
        raise LookupError(repr(error))

    with pytest.raises(LookupError, match="ValueError"):
        RetryPolicy(3, broken).is_worth_it(ValueError())


class TaskCancelled(asyncio.CancelledError):
    """A cancellation of somebody's own."""


ENDING = [
    asyncio.CancelledError(),
    TaskCancelled(),
    KeyboardInterrupt(),
    SystemExit(1),
    GeneratorExit(),
    TokenKilledError("operation"),
]


@pytest.mark.parametrize("error", ENDING, ids=repr)
def test_what_asks_to_end_is_never_tried_again(error: BaseException) -> None:
    """Not even if it is named, or a function would say so; that one is not asked."""

    def ask(given: BaseException) -> bool:
        raise AssertionError(f"asked about {given!r}")

    assert asks_to_end(error)
    for on in (BaseException, type(error), (BaseException,), (ValueError, type(error)), ask):
        assert not RetryPolicy(3, on).is_worth_it(error)


@pytest.mark.parametrize("error", [OSError(), BaseException(), CancelledError()], ids=repr)
def test_what_does_not_ask_to_end_may_be_tried_again(error: BaseException) -> None:
    """A future's CancelledError is none of this call's: it may come from one that it waited for."""
    assert not asks_to_end(error)
    for on in (BaseException, type(error), (BaseException,), is_any):
        assert RetryPolicy(3, on).is_worth_it(error)


def test_asyncio_is_not_imported_and_yet_known() -> None:
    """Nobody pays for it who does not use it; who does is understood from then on."""
    program = """
import sys
from tokengate_executor.policies.retry import RetryPolicy, asks_to_end
assert not asks_to_end(ValueError())
assert RetryPolicy(3, BaseException).is_worth_it(ValueError())
assert not [name for name in sys.modules if name.partition(".")[0] == "asyncio"]
import asyncio
assert asks_to_end(asyncio.CancelledError())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [None, ModuleType("asyncio.exceptions")], ids=repr)
def test_asyncio_may_be_absent_or_half_imported(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType | None
) -> None:
    """While another thread imports it, it is there before its exceptions are."""
    monkeypatch.setitem(sys.modules, "asyncio.exceptions", module)
    assert not asks_to_end(ValueError())
    assert asks_to_end(KeyboardInterrupt())


# --- what is refused ------------------------------------------------------------------------------

NO_NUMBERS: list[object] = [
    BEYOND_FLOATS,
    -BEYOND_FLOATS,
    "1",
    True,
    False,
    1j,
    [1.0],
    Fraction(1),
    math.nan,
    math.inf,
    -math.inf,
]
WRONG_NUMBERS = [None, *NO_NUMBERS]
ATTEMPTS = "an int of at least 1, or a mapping of ComplexityLevel to such"
ON = "an exception type, a tuple of such, or a function of an exception"


@pytest.mark.parametrize(
    ("field", "allowed", "wrong"),
    [
        ("attempts", ATTEMPTS, [0, -1, True, 2.0, math.inf, "3", None, (3,), [3], ComplexityLevel]),
        (
            "attempts",
            ATTEMPTS,
            [{ComplexityLevel.SIMPLE: n} for n in (0, -1, True, 2.0, "3", None)],
        ),
        ("attempts", ATTEMPTS, [{ComplexityLevel.SIMPLE: 1, ComplexityLevel.EXTREME: 0}]),
        ("attempts", ATTEMPTS, [{key: 3} for key in ("SIMPLE", 2, None, ComplexityLevel)]),
        ("on", ON, [None, "OSError", 3, OSError(), str, object, {OSError}, [OSError]]),
        ("on", ON, [(), (OSError, str), (OSError, "EOFError"), (OSError, (EOFError,)), (is_any,)]),
        ("on", ON, [OSError | EOFError]),
        ("delay", "a finite number, at least 0", [*WRONG_NUMBERS, -0.001, -1]),
        ("factor", "a finite number, at least 1", [*WRONG_NUMBERS, 0.999, 0, -2.0]),
        ("max_delay", "a finite number, at least 0", [*WRONG_NUMBERS, -0.001, -1]),
        ("jitter", "'full', 'equal' or None", ["FULL", "", "none", True, 0, 1.0, ["full"]]),
        ("timeout", "a finite number, at least 0", [*NO_NUMBERS, -0.001, -1]),
        ("budget", "a RetryBudget or None", [RetryBudget, 10, 0.1, True, "RetryBudget()"]),
    ],
)
def test_wrong_values_of_a_policy_are_named(field: str, allowed: str, wrong: list[object]) -> None:
    """The error says which field, what is allowed, and what was given; as text and as attributes."""
    for value in wrong:
        arguments: dict[str, Any] = {"attempts": 3, "on": OSError, field: value}
        with pytest.raises(InvalidOptionError) as caught:
            RetryPolicy(**arguments)
        assert str(caught.value) == f"{field} must be {allowed}, not {value!r}"
        assert caught.value.option == field
        assert caught.value.given is value


@pytest.mark.parametrize(
    ("field", "allowed", "wrong"),
    [
        ("share", "a finite number, at least 0", [*WRONG_NUMBERS, -0.001, -1]),
        ("minimum", "an int of at least 0", [-1, True, False, 1.0, math.inf, "1", None, [1]]),
        ("window", "a finite number, above 0", [*WRONG_NUMBERS, 0, 0.0, -0.001]),
    ],
)
def test_wrong_values_of_a_budget_are_named(field: str, allowed: str, wrong: list[object]) -> None:
    """The error says which field, what is allowed, and what was given; as text and as attributes."""
    for value in wrong:
        arguments: dict[str, Any] = {field: value}
        with pytest.raises(InvalidOptionError) as caught:
            RetryBudget(**arguments)
        assert str(caught.value) == f"{field} must be {allowed}, not {value!r}"
        assert caught.value.option == field
        assert caught.value.given is value


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 1},
        {"attempts": BEYOND_FLOATS},
        {"attempts": dict.fromkeys(ComplexityLevel, 1)},
        {"on": (OSError,)},
        {"delay": 0, "factor": 1, "max_delay": 0, "timeout": 0},
        {"delay": LONGEST, "factor": LONGEST, "max_delay": LONGEST, "timeout": LONGEST},
        {"jitter": "equal"},
        {"budget": None},
        {"budget": RetryBudget(0, 0, 5e-324)},
        {"budget": RetryBudget(LONGEST, BEYOND_FLOATS, LONGEST)},
    ],
)
def test_the_last_values_that_are_allowed(options: dict[str, Any]) -> None:
    """What lies on a bound is kept as it was given."""
    arguments: dict[str, Any] = {"attempts": 3, "on": OSError, **options}
    policy = RetryPolicy(**arguments)
    assert {name: getattr(policy, name) for name in options} == options


# --- the budget -----------------------------------------------------------------------------------


def test_a_quiet_executor_may_retry_the_minimum() -> None:
    """Without any success there are so many retries, and no more."""
    account = BudgetAccount(RetryBudget(minimum=3))
    assert [account.spend(0.0) for _ in range(5)] == [True, True, True, False, False]


def test_ten_successes_pay_for_a_retry() -> None:
    """With a share of a tenth and no minimum, nine are not enough."""
    account = BudgetAccount(RetryBudget(share=0.1, minimum=0))
    answers: list[bool] = []
    for _ in range(20):
        account.earn(1.0)
        answers.append(account.spend(1.0))
    assert [count for count, answer in enumerate(answers, 1) if answer] == [10, 20]


def test_a_refused_retry_costs_nothing() -> None:
    """However often it was asked in vain, the next success pays for one."""
    account = BudgetAccount(RetryBudget(share=1.0, minimum=0))
    assert not any(account.spend(0.0) for _ in range(100))
    account.earn(0.0)
    assert account.spend(0.0)
    assert not account.spend(0.0)


def test_without_share_and_minimum_there_is_no_retry() -> None:
    """Successes that are worth nothing pay for nothing."""
    account = BudgetAccount(RetryBudget(share=0.0, minimum=0))
    for _ in range(100):
        account.earn(0.0)
    assert not account.spend(0.0)


@pytest.mark.parametrize("budget", [RetryBudget(minimum=BEYOND_FLOATS), RetryBudget(share=LONGEST)])
def test_a_budget_without_end_pays_always(budget: RetryBudget) -> None:
    """No number is so large that the account cannot reckon with it."""
    account = BudgetAccount(budget)
    for _ in range(20):
        account.earn(0.0)
        assert account.spend(0.0)


@pytest.mark.parametrize("start", [-1e6, -25.0, -9.5, -5.0, -0.5, 0.0, 0.5, 3.0, 1e9])
def test_retries_are_forgotten_after_a_window_wherever_the_clock_begins(start: float) -> None:
    """What was spent first still counts after nine tenths of the window, and no more after the whole."""
    account = BudgetAccount(RetryBudget(share=0.0, minimum=1, window=10.0))
    answers = [account.spend(start + later) for later in (0.0, 1.0, 9.0, 9.5, 10.0, 19.0, 20.0)]
    assert answers == [True, False, False, False, True, False, True]


@pytest.mark.parametrize("start", [-1e6, -25.0, -9.5, -5.0, -0.5, 0.0, 0.5, 3.0, 1e9])
def test_successes_are_forgotten_after_a_window_wherever_the_clock_begins(start: float) -> None:
    """One pays after nine tenths of the window, and no more after the whole."""
    for later, paid in ((9.0, True), (9.5, True), (10.0, False), (1e12, False)):
        account = BudgetAccount(RetryBudget(share=1.0, minimum=0, window=10.0))
        account.earn(start)
        assert account.spend(start + later) is paid


def test_in_a_whole_window_there_can_be_twice_the_minimum() -> None:
    """The price of slots: the guarantee is for nine tenths of a window, as the docstring says."""
    account = BudgetAccount(RetryBudget(share=0.0, minimum=2, window=10.0))
    account.earn(0.0)  # the first slot begins here
    assert [account.spend(0.75) for _ in range(3)] == [True, True, False]
    assert not account.spend(9.75)
    assert [account.spend(10.0) for _ in range(3)] == [True, True, False]


def test_a_moment_before_the_last_one_counts_as_the_last() -> None:
    """Threads read the clock before they have the lock, and may come in another order."""
    account = BudgetAccount(RetryBudget(share=1.0, minimum=0, window=10.0))
    account.earn(100.0)
    account.earn(-1e300)
    assert account.spend(99.0)
    assert account.spend(50.0)
    assert not account.spend(109.0)


@pytest.mark.parametrize("window", [5e-324, 1e-310, 1e-3, 10, 1e300, LONGEST])
def test_a_clock_may_jump_as_far_as_it_likes(window: float) -> None:
    """No slot that was passed over is looked at: this would never end if they were."""
    account = BudgetAccount(RetryBudget(share=1.0, minimum=0, window=window))
    for now in (-1e300, -1e18, 0.0, 1e-300, 1.0, 1e9, 1e18, 1e100, 1e300):
        account.earn(now)
        assert account.spend(now)
        assert not account.spend(now)


@dataclasses.dataclass
class Ledger:
    """The account as it would be if every moment were kept: a list of what happened when."""

    budget: RetryBudget
    successes: list[float] = dataclasses.field(default_factory=list[float])
    retries: list[float] = dataclasses.field(default_factory=list[float])

    def allows(self, retries_since: float, successes_since: float) -> bool:
        """Whether a retry can be paid for by what happened at those moments and later."""
        spent = sum(moment >= retries_since for moment in self.retries)
        earned = sum(moment >= successes_since for moment in self.successes)
        return spent + 1 - self.budget.minimum <= self.budget.share * earned


# A tenth of such a window is a power of two, so that no moment below is rounded.
exact_budgets = st.builds(
    RetryBudget,
    share=st.sampled_from([0.0, 0.125, 0.5, 1.0, 2.5]),
    minimum=st.integers(0, 4),
    window=st.sampled_from([0.625, 2.5, 10.0, 40.0]),
)
sixty_fourths = st.integers(0, 640) | st.sampled_from([0, 1, 63, 64, 575, 576, 577, 639, 640, 6400])
events = st.lists(
    st.tuples(sixty_fourths, st.sampled_from(["success", "retry", "retry"])), max_size=60
)


@given(exact_budgets, st.integers(-(2**20), 2**20), events)
def test_each_answer_is_that_of_a_ledger_for_nine_tenths_of_the_window_or_more(
    budget: RetryBudget, start: int, happenings: list[tuple[int, str]]
) -> None:
    """Some time from nine tenths of the window to less than all of it, the same for both sides."""
    account, ledger = BudgetAccount(budget), Ledger(budget)
    now = start / 64
    for gap, what in happenings:
        now += gap * budget.window / 640
        if what == "success":
            account.earn(now)
            ledger.successes.append(now)
            continue
        most, least = math.nextafter(now - budget.window, math.inf), now - budget.window * 9 / 10
        between = [
            moment for moment in ledger.successes + ledger.retries if most <= moment <= least
        ]
        answers = {ledger.allows(since, since) for since in (least, *between)}
        answer = account.spend(now)
        assert answer in answers
        assert ledger.allows(most, least) <= answer <= ledger.allows(least, most)
        if answer:
            ledger.retries.append(now)


@given(
    st.builds(
        RetryBudget,
        share=st.floats(0.0, 3.0),
        minimum=st.integers(0, 4),
        window=st.floats(1e-6, 1e6),
    ),
    st.floats(-1e6, 1e6),
    st.lists(
        st.tuples(st.floats(0.0, 0.2) | st.floats(0.0, 1.5), st.integers(0, 6), st.integers(0, 6)),
        max_size=40,
    ),
)
def test_the_guarantee_holds_for_every_stretch_of_time(
    budget: RetryBudget, start: float, happenings: list[tuple[float, int, int]]
) -> None:
    """Retries of nine tenths of a window are at most the minimum and the share of its successes."""
    account, ledger = BudgetAccount(budget), Ledger(budget)
    now = start
    for gap, successes, wishes in happenings:
        now += gap * budget.window
        for _ in range(successes):
            account.earn(now)
            ledger.successes.append(now)
        for _ in range(wishes):
            if not account.spend(now):
                continue
            ledger.retries.append(now)
            rounding = 64 * math.ulp(abs(now) + budget.window)
            since = now - budget.window * 0.9 + rounding
            retries = sum(moment >= since for moment in ledger.retries)
            since = now - budget.window - rounding
            paying = sum(moment > since for moment in ledger.successes)
            assert retries - budget.minimum <= budget.share * paying


# --- tenacity -------------------------------------------------------------------------------------


class Strategies:
    """As much of a ``tenacity.Retrying`` as is asked for."""

    stop = wait = retry = None


def test_an_object_with_tenacitys_strategies_is_known() -> None:
    """Tenacity is not needed for that; a policy of ours is no such object."""
    assert isinstance(Strategies(), TenacityRetrying)
    assert not isinstance(RetryPolicy(3, OSError), TenacityRetrying)
    assert not isinstance(OSError, TenacityRetrying)
