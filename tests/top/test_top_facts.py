"""What is read of a snapshot, whatever a server sends; and how numbers and times are written."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.top.facts import Facts, clock, count, duration

FACTS = Facts(
    {
        "one": 1,
        "half": 0.5,
        "yes": True,
        "no": False,
        "text": "a\x1b[2J",
        "list": [0, 1, -1, "2", 3.0, True, 10**400],
        "part": {"inner": 2},
        "parts": {"a\n": {"x": 1}, "b": 3},
        "huge": 10**400,
        "nan": math.nan,
    }
)


def test_what_is_there() -> None:
    """Each kind by its own verb."""
    assert (FACTS.number("one"), FACTS.number("half")) == (1.0, 0.5)
    assert FACTS.maybe("one") == 1.0
    assert (FACTS.flag("yes"), FACTS.flag("no")) == (True, False)
    assert FACTS.part("part").number("inner") == 2.0
    assert FACTS.numbers("list") == [0, 1]


def test_texts_are_harmless() -> None:
    """Also where they are keys."""
    assert FACTS.text("text") == "a\\x1b[2J"
    assert [(name, facts.number("x")) for name, facts in FACTS.parts("parts")] == [
        ("a\\n", 1.0),
        ("b", 0.0),
    ]


@pytest.mark.parametrize("name", ["missing", "yes", "text", "list", "part", "huge", "nan"])
def test_what_is_no_number(name: str) -> None:
    """It counts as nothing."""
    assert FACTS.number(name) == 0.0
    assert FACTS.maybe(name) is None


@pytest.mark.parametrize("name", ["missing", "one", "text", "list"])
def test_what_is_no_object(name: str) -> None:
    """There is nothing in it."""
    assert FACTS.parts(name) == []
    assert FACTS.part(name).text("text") == ""
    assert FACTS.part("part").flag(name) is False
    assert FACTS.part("part").numbers(name) == []


@pytest.mark.parametrize("given_", [None, 3, "text", [], [1]])
def test_a_snapshot_that_is_none(given_: Any) -> None:
    """It has nothing to tell."""
    assert Facts(given_).number("one") == 0.0
    assert Facts(given_).parts("one") == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (999, "999"), (12_345, "12,345"), (999_999, "999,999")),
        *((1_000_000, "1.00 M"), (23_400_000, "23 M"), (5e9, "5.00 G"), (7.2e13, "72 T")),
        *((2.6, "3"), (-1200, "-1,200")),
    ],
)
def test_count(number: float, text: str) -> None:
    """With commas as long as there is room."""
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((None, "-"), (0.0, "0.0 ms"), (0.0042, "4.2 ms"), (0.25, "250 ms"), (1.25, "1.2 s")),
        *((119.0, "119.0 s"), (600.0, "10 min"), (7200.0, "2 h"), (4 * 86400.0, "4 d")),
        *((-3.0, "0.0 ms"),),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    """In the unit that says most."""
    assert duration(seconds) == text


@given(st.floats(0, 1e9))
def test_nothing_is_wider_than_its_column(number: float) -> None:
    """Seven columns are enough for any count and any time."""
    assert len(count(number)) <= 7
    assert len(duration(number)) <= 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (61.9, "0:01:01"), (7534, "2:05:34"), (90061, "1 d 1:01:01"), (-5, "0:00:00")],
)
def test_clock(seconds: float, text: str) -> None:
    """To the second, with days where there are any."""
    assert clock(seconds) == text
