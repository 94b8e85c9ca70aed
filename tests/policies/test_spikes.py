"""How large calls are by their arguments, and when one is too large for its operation."""

from __future__ import annotations

import array
import math
from collections import UserList, deque
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.policies.spikes import (
    CALL_COST,
    LARGEST_COST,
    CostHistory,
    Finding,
    SpikePolicy,
    Verdict,
    estimate,
)


class Raising:
    """An object that raises whatever it is asked."""

    @property
    def nbytes(self) -> int:
        """No number."""
        raise RuntimeError("nbytes")

    def __len__(self) -> int:
        raise ValueError("len")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("iter")

    def __eq__(self, other: object) -> bool:
        raise TypeError("eq")

    def __hash__(self) -> int:
        return 1


class Lying:
    """An object with a strange answer."""

    def __init__(self, said: Any) -> None:
        self.nbytes = said


class Sized:
    """An object with any length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class ArrayLike:
    """An object like an array: its length is that of its first axis only."""

    nbytes = 8_000_000

    def __len__(self) -> int:
        return 1000


class MakesUpAttributes:
    """A proxy or mock: whatever attribute it is asked for, it makes one."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


class Colour(Enum):
    """Its class has a length."""

    RED = 1
    BLUE = 2


class Liar(int):
    """A number that compares as it likes."""

    def __gt__(self, other: object) -> bool:
        raise TypeError

    def __abs__(self) -> int:
        raise TypeError


def size(*args: Any, **kwargs: Any) -> float:
    """What the arguments add to a call's cost."""
    return estimate(args, kwargs) - CALL_COST


def known(*costs: float, samples: int = 64) -> CostHistory:
    """A history of these costs."""
    history = CostHistory(samples)
    for cost in costs:
        history.add(cost)
    return history


ring: list[Any] = ["ring"]
ring.append(ring)

released = memoryview(b"abc")
released.release()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, 0, id="None"),
        pytest.param(True, 0, id="bool"),
        pytest.param(1000, 1000, id="int"),
        pytest.param(-1000, 1000, id="negative int"),
        pytest.param(2.5, 2.5, id="float"),
        pytest.param(3 + 4j, 5, id="complex"),
        pytest.param(math.nan, 0, id="NaN"),
        pytest.param("hello", 5, id="str"),
        pytest.param(b"hello", 5, id="bytes"),
        pytest.param(bytearray(7), 7, id="bytearray"),
        pytest.param(memoryview(array.array("d", [1.0, 2.0])), 16, id="memoryview"),
        pytest.param(released, 0, id="released memoryview"),
        pytest.param([1_000_000] * 10, 10, id="numbers inside are items"),
        pytest.param(("abc", "de"), 7, id="tuple of strings"),
        pytest.param({"a", "b"}, 4, id="set"),
        pytest.param(frozenset(), 0, id="frozenset"),
        pytest.param({"key": "value"}, 9, id="dict"),
        pytest.param([[1, 2], [3, 4]], 6, id="containers inside"),
        pytest.param([[["deep"]]], 3, id="deeper ones are items"),
        pytest.param(["x" * 100] * 1000, 101_000, id="many items"),
        pytest.param(ring, 2 + 4 + 2 + 4 + 2, id="a list in itself"),
        pytest.param(range(10, 1010, 10), 100, id="range"),
        pytest.param(range(0), 0, id="empty range"),
        pytest.param(range(10**30), 10**30, id="range longer than len() can say"),
        pytest.param(deque([1, 2, 3]), 3, id="deque"),
        pytest.param(UserList("abc"), 3, id="object with a length"),
        pytest.param(ArrayLike(), 8_000_000, id="nbytes before length"),
        pytest.param(Colour, 2, id="class with a length"),
        pytest.param(list, 0, id="class without one"),
        pytest.param(MakesUpAttributes(), 0, id="made-up attributes"),
        pytest.param(iter([1, 2, 3]), 0, id="iterator"),
        pytest.param(Raising(), 0, id="raises"),
        pytest.param(Sized(-1), 0, id="negative length"),
        pytest.param(Sized(10**30), 0, id="length too large for len()"),
        pytest.param(Lying(5), 0, id="nbytes of the object only"),
        pytest.param(Liar(5), 0, id="subclass of a number"),
    ],
)
def test_size_of_an_argument(value: Any, expected: float) -> None:
    """Each kind of argument has the size that is told in the documentation."""
    assert size(value) == pytest.approx(expected)
    assert size(name=value) == pytest.approx(expected)


@pytest.mark.parametrize("said", [math.nan, -5, "5", None, Liar(5), True])
def test_strange_nbytes_count_as_nothing(said: Any) -> None:
    """Only a number of bytes is a number of bytes."""

    class Strange:
        nbytes = said

    assert size(Strange()) == 0


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**400, -(10**400), complex(1e308, 1e308)])
def test_nothing_is_larger_than_the_largest(value: Any) -> None:
    """Infinite and huge numbers are cut off, alone and together."""
    assert estimate((value,), {}) == LARGEST_COST
    assert estimate((value,) * 1000, {"name": value}) == LARGEST_COST


def test_arguments_are_added_up() -> None:
    """What one adds does not depend on the others, and a call without any costs something."""
    assert estimate((), {}) == CALL_COST
    assert size("ab", 10, other=[1, 2, 3]) == 2 + 10 + 3


def test_little_is_looked_at() -> None:
    """Of many arguments and items, only some are asked for their size."""
    asked: list[int] = []

    class Counting:
        def __len__(self) -> int:
            asked.append(1)
            return 2

    one = Counting()
    assert size(*[one] * 100_000) == pytest.approx(200_000)
    assert len(asked) <= 64
    asked.clear()
    assert size([one] * 100_000) == pytest.approx(300_000)
    assert size(dict.fromkeys(range(100_000), one)) == pytest.approx(300_000)
    assert size({Counting() for _ in range(1000)}) == pytest.approx(3000)
    assert len(asked) <= 3 * 16


def test_ctrl_c_is_not_swallowed() -> None:
    """An interruption that comes while an argument is asked for its length goes on its way."""

    class Interrupted:
        def __len__(self) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        size(Interrupted())


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**320),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    st.dates(),
    st.fractions(),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
    st.builds(Raising),
    st.builds(Sized, st.integers()),
    st.builds(Lying, st.floats() | st.text()),
    st.builds(MakesUpAttributes),
    st.builds(Liar, st.integers()),
    st.builds(lambda: released),
    st.sampled_from([ring, len, Raising, Colour, Colour.RED, object(), ArrayLike()]),
)
HASHABLE = st.none() | st.integers() | st.text() | st.builds(Sized, st.integers())
SOUP = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(deque)
        | st.sets(HASHABLE)
        | st.dictionaries(HASHABLE, inner)
    ),
)


@given(st.lists(SOUP).map(tuple), st.dictionaries(st.text(), SOUP))
def test_any_call_has_a_finite_cost(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Whatever the arguments are, nothing is raised and the cost is a number that can be compared."""
    cost = estimate(args, kwargs)
    assert type(cost) is float
    assert CALL_COST <= cost <= LARGEST_COST


@pytest.mark.parametrize(
    ("cost", "finding", "over"),
    [
        (5, Finding.NORMAL, -0.5),
        (10, Finding.NORMAL, 0),
        (14.99, Finding.NORMAL, 0.499),
        (15, Finding.REVIEW, 0.5),
        (29.99, Finding.REVIEW, 1.999),
        (30, Finding.QUARANTINE, 2.0),
        (1000, Finding.QUARANTINE, 99.0),
    ],
)
def test_bounds(cost: float, finding: Finding, over: float) -> None:
    """50 % over is for review, 200 % over is for quarantine."""
    verdict = known(*[10.0] * 5).judge(cost, SpikePolicy())
    assert verdict.finding is finding
    assert verdict.over == pytest.approx(over)
    assert (verdict.cost, verdict.usual) == (cost, 10)


@given(st.floats(1e-3, 1e50))
def test_bounds_are_met_whatever_floats_make_of_them(usual: float) -> None:
    """Three times the usual is for quarantine at any scale, and its half more for review."""
    history = known(*[usual] * 5)
    assert history.judge(usual * 3, SpikePolicy()).finding is Finding.QUARANTINE
    assert history.judge(usual * 1.5, SpikePolicy()).finding is Finding.REVIEW
    assert history.judge(usual, SpikePolicy(review_at=0)).finding is Finding.NORMAL


def test_too_few_samples_judge_nothing() -> None:
    """Before there are five, every call is normal."""
    history = CostHistory()
    for _ in range(5):
        assert history.judge(1e9, SpikePolicy()) == Verdict(Finding.NORMAL, 0.0, 1e9, None)
        history.add(1.0)
    assert history.judge(1e9, SpikePolicy()).finding is Finding.QUARANTINE


def test_judging_changes_nothing() -> None:
    """A call that was only looked at does not become usual."""
    history = known(*[10.0] * 5)
    for _ in range(100):
        history.judge(1000, SpikePolicy())
    assert (len(history), history.usual()) == (5, 10)


def test_wild_samples_do_not_move_the_usual() -> None:
    """A quarter of the samples may be anything."""
    history = known(*[10.0] * 6, LARGEST_COST, LARGEST_COST)
    assert history.usual() == 10
    assert known(0, 0, *[10.0] * 6).usual() == 10


def test_old_samples_are_forgotten() -> None:
    """What is usual follows what is done."""
    history = known(*[10.0] * 64, *[1000.0] * 64)
    assert (len(history), history.usual()) == (64, 1000)
    assert CostHistory().usual() is None


@pytest.mark.parametrize(
    ("cost", "finding"),
    [
        (0, Finding.NORMAL),
        (7, Finding.NORMAL),
        (8, Finding.REVIEW),
        (32, Finding.QUARANTINE),
        (LARGEST_COST, Finding.QUARANTINE),
    ],
)
def test_nothing_as_the_usual(cost: float, finding: Finding) -> None:
    """If calls usually cost nothing, a trifle more is no spike, and a lot is."""
    assert known(*[0.0] * 20, 3.0).judge(cost, SpikePolicy()).finding is finding


def test_small_differences_of_small_calls_are_normal() -> None:
    """An empty list that once has five items, or a 1 that becomes a 3, is no spike."""
    policy = SpikePolicy()
    for usual, now in (([], [0] * 5), (1, 3), ("", "hello")):
        history = known(*[policy.cost_of((usual,), {})] * 5)
        assert history.judge(policy.cost_of((now,), {}), policy).finding is Finding.NORMAL
        assert history.judge(policy.cost_of(([0] * 500,), {}), policy).finding is Finding.QUARANTINE


@given(st.lists(st.floats(0, LARGEST_COST), min_size=1, max_size=80), st.floats(0, LARGEST_COST))
def test_every_verdict_is_finite(costs: list[float], cost: float) -> None:
    """Whatever costs are known, the usual lies among them and the answer is a number."""
    history = known(*costs)
    usual = history.usual()
    assert usual is not None
    assert min(costs) <= usual <= max(costs)
    assert math.isfinite(history.judge(cost, SpikePolicy(min_samples=1)).over)


def test_cost_of_the_user() -> None:
    """The function that the user gave has the last word, and is called with the call's arguments."""

    def cost(rows: list[int], *, factor: int) -> float:
        return len(rows) * factor

    assert SpikePolicy(cost=cost).cost_of(([1, 2],), {"factor": 10}) == 20
    assert SpikePolicy(cost=lambda: 10**400).cost_of((), {}) == LARGEST_COST
    assert SpikePolicy(cost=lambda: math.inf).cost_of((), {}) == LARGEST_COST
    assert SpikePolicy().cost_of(("abc",), {}) == CALL_COST + 3


@pytest.mark.parametrize("said", [math.nan, -1, "5", None, True])
def test_a_cost_that_is_none_is_refused(said: Any) -> None:
    """A function that returns something else than a cost is wrong, and is told so."""
    with pytest.raises(InvalidOptionError, match="cost must be a function that returns a number"):
        SpikePolicy(cost=lambda: said).cost_of((), {})


def test_what_a_cost_function_raises_is_raised() -> None:
    """An error in the user's function is the user's to see."""

    def cost() -> float:
        raise LookupError("no idea")

    with pytest.raises(LookupError, match="no idea"):
        SpikePolicy(cost=cost).cost_of((), {})


def test_texts() -> None:
    """Policy and verdict are readable."""
    assert str(SpikePolicy()) == (
        "Spikes: 50 % over the usual is reviewed, 200 % over is held; "
        "the usual is that of the last 64 calls, and known from 5 on"
    )
    assert "refused" in str(SpikePolicy(action="refuse"))
    history = known(*[100.0] * 5)
    assert str(history.judge(312, SpikePolicy())) == (
        "quarantine: cost 312 is 212 % over the usual 100"
    )
    assert str(history.judge(50, SpikePolicy())) == "normal: cost 50 is 50 % under the usual 100"
    assert str(CostHistory().judge(50, SpikePolicy())) == (
        "normal: cost 50, too few samples to judge"
    )


@pytest.mark.parametrize(
    ("argument", "given", "allowed"),
    [
        ("review_at", -1, "a finite number of at least 0"),
        ("review_at", math.nan, "a finite number of at least 0"),
        ("quarantine_at", 0.4, "a finite number of at least review_at (0.5)"),
        ("quarantine_at", math.inf, "a finite number of at least review_at (0.5)"),
        ("quarantine_at", 10**400, "a finite number of at least review_at (0.5)"),
        ("min_samples", 0, "an int of at least 1"),
        ("min_samples", True, "an int of at least 1"),
        ("samples", 4, "an int of at least min_samples (5)"),
        ("action", "drop", "'hold' or 'refuse'"),
        ("cost", 5, "a callable or None"),
    ],
)
def test_wrong_arguments_are_named(argument: str, given: Any, allowed: str) -> None:
    """The error names the argument, what was given, and what is allowed."""
    with pytest.raises(InvalidOptionError) as caught:
        SpikePolicy(**{argument: given})
    error = caught.value
    assert (error.option, error.given, error.allowed) == (argument, given, allowed)


def test_a_history_remembers_something() -> None:
    """A history of no samples is refused."""
    with pytest.raises(InvalidOptionError, match="samples must be an int of at least 1, not 0"):
        CostHistory(0)
