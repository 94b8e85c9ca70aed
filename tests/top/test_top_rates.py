"""How many calls were finished per second, from counts that are seen now and then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.top.rates import Rates


def rates_of(*seen: tuple[float, float]) -> Rates:
    """Return rates that were told of these counts."""
    rates = Rates()
    for now, finished in seen:
        rates.note(now, finished)
    return rates


def test_nothing_was_seen() -> None:
    """There is no rate, and no trend."""
    assert Rates().per_second(10.0) is None
    assert Rates().trend(10.0, 5) == []


def test_too_little_was_seen() -> None:
    """Less than a second tells nothing."""
    rates = rates_of((100.0, 50), (100.5, 60))
    assert rates.per_second(100.5) is None
    assert rates.trend(100.5, 5) == []


def test_per_second() -> None:
    """The mean since the first count, and after some seconds that of the last five."""
    rates = rates_of((100.0, 1000), (102.0, 1020))
    assert rates.per_second(102.0) == pytest.approx(10.0)
    rates.note(110.0, 1820)
    assert rates.per_second(110.0) == pytest.approx(100.0)


def test_nothing_happens_any_more() -> None:
    """A count that stays is told, too, and the rate goes down to nothing."""
    rates = rates_of((0.0, 0), (10.0, 100), (12.5, 100), (20.0, 100))
    assert rates.per_second(12.5) == pytest.approx(5.0)
    assert rates.per_second(20.0) == 0.0


def test_trend() -> None:
    """One number for each second, the latest last; between two counts it grew evenly."""
    rates = rates_of((0.0, 0), (2.0, 20), (3.0, 20), (4.0, 70))
    assert rates.trend(4.0, 10) == pytest.approx([10, 10, 0, 50])
    assert rates.trend(4.0, 2) == pytest.approx([0, 50])


def test_another_executor() -> None:
    """A count that has gone down is that of a new executor: it begins anew."""
    rates = rates_of((0.0, 5000), (5.0, 5100), (6.0, 3), (8.0, 7))
    assert rates.per_second(8.0) == pytest.approx(2.0)
    assert rates.trend(8.0, 10) == pytest.approx([2, 2])


@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 100)), min_size=1, max_size=300),
    st.floats(0, 20),
)
def test_the_trend_adds_up(steps: list[tuple[float, int]], later: float) -> None:
    """However the counts came, no call is counted twice, and old ones are forgotten."""
    rates, now, finished = Rates(), 0.0, 0
    for gap, more in steps:
        now, finished = now + gap, finished + more
        rates.note(now, finished)
    trend = rates.trend(now + later, 60)
    assert len(trend) <= 60
    assert all(each >= 0 for each in trend)
    assert sum(trend) <= finished + 1e-6
    assert len(rates._seen) < 90 / 0.01
