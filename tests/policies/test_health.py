"""How an operation is doing: what is counted, the grade, what is recommended, and the table."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.policies.health import (
    Health,
    OperationHealth,
    Outcome,
    assess,
    report,
)

KINDS = st.sampled_from(["success", "failure", "timeout", "killed", "cancelled"])


def outcomes(
    successes: int = 0, failures: int = 0, timeouts: int = 0, *, seconds: float = 1.0
) -> list[Outcome]:
    """So many calls that ended at moment 0."""
    kinds = ["success"] * successes + ["failure"] * failures + ["timeout"] * timeouts
    return [(0.0, seconds, kind) for kind in kinds]


def health(
    successes: int = 0,
    failures: int = 0,
    timeouts: int = 0,
    *,
    seconds: float = 1.0,
    name: str = "shop.pay",
) -> OperationHealth:
    """How an operation with so many calls is doing."""
    return assess(name, outcomes(successes, failures, timeouts, seconds=seconds), 0.0, 60.0)


@pytest.mark.parametrize(
    ("successes", "attempts", "grade"),
    [
        (4, 4, Health.UNKNOWN),
        (0, 4, Health.UNKNOWN),
        (5, 5, Health.EXCELLENT),
        (95, 100, Health.EXCELLENT),
        (94, 100, Health.HEALTHY),
        (80, 100, Health.HEALTHY),
        (79, 100, Health.AT_RISK),
        (50, 100, Health.AT_RISK),
        (49, 100, Health.PROBLEMATIC),
        (0, 5, Health.PROBLEMATIC),
    ],
)
def test_grades(successes: int, attempts: int, grade: Health) -> None:
    """The grade goes by the share of successes, from five attempts on."""
    assert health(successes, attempts - successes).health is grade


def test_counts_and_durations() -> None:
    """Failures and timeouts are counted apart, and durations are of all attempts."""
    calls: list[Outcome] = [
        *[(0.0, float(second), "success") for second in range(1, 19)],
        (0.0, 0.1, "failure"),
        (0.0, 30.0, "timeout"),
    ]
    result = assess("shop.pay", reversed(calls), 10.0, 60.0)
    assert (result.operation, result.attempts) == ("shop.pay", 20)
    assert (result.successes, result.failures, result.timeouts) == (18, 1, 1)
    assert result.quick_failures == 1
    assert result.success_rate == 0.9
    assert result.mean_seconds == pytest.approx((18 * 19 / 2 + 30.1) / 20)
    assert (result.p95_seconds, result.max_seconds) == (18, 30)


def test_nothing_is_known_of_no_calls() -> None:
    """Without attempts there is no share and no duration, instead of made-up zeros."""
    result = health()
    assert (result.attempts, result.health) == (0, Health.UNKNOWN)
    assert result.success_rate is None
    assert (result.mean_seconds, result.p95_seconds, result.max_seconds) == (None, None, None)
    assert result.recommendations == ("too few calls to judge: 0 of 5",)


def test_only_the_window_counts() -> None:
    """Calls that ended longer ago are left out."""
    calls: list[Outcome] = [(second, 1.0, "success") for second in (0.0, 39.9, 40.0, 99.0)]
    assert assess("op", calls, 100.0, 60.0).attempts == 2
    assert assess("op", calls, 100.0, math.inf).attempts == 4


def test_killed_and_cancelled_calls_do_not_count() -> None:
    """What somebody stopped says nothing of the operation."""
    calls: list[Outcome] = [(0.0, 1.0, "killed"), (0.0, 1.0, "cancelled"), (0.0, 1.0, "success")]
    assert assess("op", calls, 0.0, 60.0).attempts == 1


def test_only_failures_are_quick() -> None:
    """A quick success and a timeout are no quick failures; how quick that is can be said."""
    calls: list[Outcome] = [(0.0, 0.05, kind) for kind in ("success", "failure", "timeout")]
    calls.append((0.0, 0.11, "failure"))
    assert assess("op", calls, 0.0, 60.0).quick_failures == 1
    assert assess("op", calls, 0.0, 60.0, quick_failure=0.2).quick_failures == 2
    assert assess("op", calls, 0.0, 60.0, quick_failure=0).quick_failures == 0


@pytest.mark.parametrize(
    ("result", "recommendations"),
    [
        (health(10), ["works excellently"]),
        (health(9, 1), ["works well"]),
        (health(4), ["too few calls to judge: 4 of 5"]),
        (health(6, 0, 4), ["many timeouts: make it faster, or give it more time"]),
        (health(6, 4), ["many errors: look at how it deals with them"]),
        (health(14, 3, 3), ["fails now and then: review how reliable its code is"]),
        (
            health(2, 4, 4, seconds=0.01),
            [
                "many timeouts: make it faster, or give it more time",
                "many errors: look at how it deals with them",
                "quick failures: check its input before it is called",
            ],
        ),
        (
            health(16, 4, 1, seconds=0.01),
            ["quick failures: check its input before it is called"],
        ),
    ],
)
def test_recommendations(result: OperationHealth, recommendations: list[str]) -> None:
    """What is recommended goes by how the calls failed."""
    assert list(result.recommendations) == recommendations


@pytest.mark.parametrize("window", [0, -1, math.nan])
def test_a_window_is_above_nothing(window: float) -> None:
    """A window without length is refused."""
    with pytest.raises(InvalidOptionError, match="window must be a number of seconds above 0"):
        assess("op", [], 0.0, window)


@pytest.mark.parametrize("seconds", [-0.1, math.nan])
def test_quick_failure_is_no_negative_time(seconds: float) -> None:
    """A time below 0 is refused."""
    with pytest.raises(InvalidOptionError, match="quick_failure must be a number of seconds"):
        assess("op", [], 0.0, 60.0, seconds)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e6), KINDS)), st.floats(0.1, 100))
def test_it_adds_up(calls: list[Outcome], window: float) -> None:
    """Whatever the outcomes, parts make the whole, durations are in order, and something is said."""
    result = assess("op", calls, 100.0, window)
    assert result.attempts == result.successes + result.failures + result.timeouts
    assert result.quick_failures <= result.failures
    assert result.recommendations
    if result.mean_seconds is not None:
        assert result.p95_seconds is not None
        assert result.max_seconds is not None
        assert 0 <= result.p95_seconds <= result.max_seconds
        assert result.mean_seconds <= result.max_seconds * (1 + 1e-9)
    assert "op" in report([result])


def test_text_of_one() -> None:
    """One operation is told of in a line."""
    assert str(health(9, 1)) == "shop.pay: healthy, 9 of 10 succeeded; works well"


def test_report() -> None:
    """The table has the worst first, columns in line, and recommendations where there is need."""
    healths = [
        health(9, 1, name="mail.send", seconds=0.0012),
        health(20, name="shop.list"),
        health(4, 6, name="shop.pay", seconds=150),
        health(3, 0, 7, name="shop.refund"),
        health(name="shop.new"),
    ]
    assert report(healths).splitlines() == [
        "Guard house: 5 operations, 50 calls",
        "",
        "PROBLEMATIC (less than 50 % succeeded)",
        "  operation          succeeded  failed  quick  timed out    mean     p95     max",
        "  shop.refund    30.0 % (3/10)       0      0          7  1.00 s  1.00 s  1.00 s",
        "    > many timeouts: make it faster, or give it more time",
        "  shop.pay       40.0 % (4/10)       6      0          0   150 s   150 s   150 s",
        "    > many errors: look at how it deals with them",
        "",
        "HEALTHY (80 % or more)",
        "  operation          succeeded  failed  quick  timed out    mean     p95     max",
        "  mail.send      90.0 % (9/10)       1      1          0  1.2 ms  1.2 ms  1.2 ms",
        "",
        "EXCELLENT (95 % or more)",
        "  operation          succeeded  failed  quick  timed out    mean     p95     max",
        "  shop.list    100.0 % (20/20)       0      0          0  1.00 s  1.00 s  1.00 s",
        "",
        "UNKNOWN (fewer than 5 attempts)",
        "  operation          succeeded  failed  quick  timed out    mean     p95     max",
        "  shop.new             - (0/0)       0      0          0       -       -       -",
        "    > too few calls to judge: 0 of 5",
    ]


def test_report_of_nothing() -> None:
    """Without operations it says so."""
    assert report([]) == "Guard house: no calls yet"


def test_names_cannot_break_the_table() -> None:
    """Control characters are escaped, long names lose their beginning, and twins stay two."""
    wild = health(10, name="a\nb\x1b[31m")
    long = health(10, name="package." * 20 + "function")
    text = report([wild, long, wild])
    assert text.count("a\\nb\\x1b[31m") == 2
    assert "\x1b" not in text
    assert "...kage.package.package.package.package.function" in text
    assert {len(line) for line in text.splitlines()[3:]} == {len(text.splitlines()[3])}
