"""Limits as data: the arithmetic of the token bucket, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor import RateLimit
from tokengate_executor.policies.limits import STORAGE_LIMITS, STORAGE_TIERS, is_permit_count

RATES = st.builds(
    RateLimit,
    rate=st.floats(0.1, 1000),
    per=st.floats(0.1, 100),
    burst=st.none() | st.integers(1, 50),
)


def test_capacity_is_burst_or_rate() -> None:
    """A bucket holds ``burst``, by default the rate rounded down, and at least one permit."""
    assert RateLimit(7.9).capacity == 7
    assert RateLimit(0.5).capacity == 1
    assert RateLimit(100, per=60, burst=20).capacity == 20


@given(RATES, st.lists(st.floats(0, 10), max_size=60))
def test_no_more_start_than_burst_and_rate_allow(limit: RateLimit, steps: list[float]) -> None:
    """Whoever takes whole permits only never has more than ``burst + rate * t / per``."""
    level, elapsed, taken = float(limit.capacity), 0.0, 0
    for step in steps:
        level, elapsed = limit.level_after(level, step), elapsed + step
        taken += int(level)
        level -= int(level)
        assert taken <= limit.capacity + limit.rate * elapsed / limit.per + 1e-6


@given(RATES, st.floats(0, 1))
def test_one_is_there_when_it_is_said_to_be(limit: RateLimit, level: float) -> None:
    """After the seconds until one there is one, as far as floats can tell."""
    assert limit.level_after(level, limit.seconds_until_one(level)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"rate": 0}, ValueError, "rate must be above 0 and finite, got 0"),
        ({"rate": float("inf")}, ValueError, "rate must be above 0 and finite"),
        ({"rate": "1"}, TypeError, "rate must be a number above 0, got '1'"),
        ({"rate": True}, TypeError, "rate must be a number above 0, got True"),
        ({"rate": 1, "per": -1}, ValueError, "per must be above 0 and finite, got -1"),
        ({"rate": 1, "burst": 0}, ValueError, "burst must be an int of at least 1 or None, got 0"),
        ({"rate": 1, "burst": 1.5}, TypeError, "burst must be an int of at least 1 or None"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The error names the argument, what is allowed, and what was given."""
    with pytest.raises(error, match=text):
        RateLimit(**arguments)


def test_storage_tiers_are_those_of_tokengate() -> None:
    """Ten, twenty-five, fifty and seventy at once, each behind a limit of its own."""
    assert STORAGE_TIERS == {"slow": 10, "moderate": 25, "fast": 50, "insane": 70}
    assert set(STORAGE_LIMITS.values()) == set(STORAGE_TIERS)


@pytest.mark.parametrize("given", [0, -1, True, 1.0, "1", None])
def test_what_is_no_permit_count(given: object) -> None:
    """Only an int of at least 1 is."""
    assert is_permit_count(1)
    assert not is_permit_count(given)
