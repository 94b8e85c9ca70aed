"""The screen of ``top``: it fits any terminal, and what matters most is there at any size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokengate_executor.terminal_lines import Line, text_of, width_of
from tokengate_executor.top.screen import View, finished, screen

NOW = 1_700_000_000.0
OPERATIONS = [f"shop.operation_{number:02}" for number in range(12)]


def snapshot() -> dict[str, Any]:
    """Return one of a busy executor."""
    return {
        "protocol": 1,
        "executor": {
            "name": "shop",
            "state": "running",
            "version": "0.1.0",
            "python": "3.11.7",
            "pid": 4242,
            "started_at": NOW - 7534,
        },
        "system": {"max_workers": 8, "busy_workers": 5, "idle_workers": 3, "abandoned": 1},
        "tokens": {
            "submitted": 123_456,
            "waiting": 14,
            "executing": 5,
            "retrying": 2,
            "quarantined": 3,
            "completed": 112_000,
            "failed": 900,
            "timed_out": 110,
            "cancelled": 12,
            "rejected": 321,
        },
        "queue": {"pending": 14, "capacity": 500, "oldest_wait_seconds": 2.1},
        "lanes": {
            str(number): {"cpus": [number], "workers": 2, "executing": 1} for number in range(1, 5)
        },
        "operations": {
            name: {"health": "HEALTHY", "calls": 9, "success_rate": 0.9, "circuit": "closed"}
            for name in OPERATIONS
        },
        "limits": {"db": {"kind": "permits", "limit": 3, "used": 1, "free": 2, "waiting": 0}},
        "running": {
            f"1-{number}": {"operation": OPERATIONS[number], "started_at": NOW - number}
            for number in range(5)
        },
        "waiting": {
            f"0-{number}": {"operation": OPERATIONS[number], "submitted_at": NOW - number}
            for number in range(9)
        },
        "quarantine": {
            "counts": {"pending": 1},
            "held": 1,
            "calls": {"ab": {"operation": OPERATIONS[0], "reason": "spike", "added_at": NOW}},
        },
        "recent": {
            f"2-{number}": {"operation": OPERATIONS[number % 12], "state": "COMPLETED"}
            for number in range(50)
        },
    }


def view(**said: Any) -> View:
    """Return a view at the moment of the snapshot."""
    return View(**({"moment": NOW, "foot": "q ends"} | said))


def lines(columns: int, rows: int, given_: object = None, **said: Any) -> list[str]:
    """Return a screen as text."""
    shown = snapshot() if given_ is None else given_
    return [text_of(line).rstrip() for line in screen(shown, columns, rows, view(**said))]


def headings(shown: list[Line]) -> list[str]:
    """Return the names of the tables."""
    return [span.text.split()[0] for line in shown for span in line if span.style == "heading"]


def assert_fits(shown: list[Line], columns: int, rows: int) -> None:
    """Each row is there, and exactly as wide as the terminal."""
    assert len(shown) == rows
    assert {width_of(line) for line in shown} == {columns}


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 250), st.integers(1, 80))
def test_any_size(columns: int, rows: int) -> None:
    """Also those that are too small to be of use."""
    assert_fits(screen(snapshot(), columns, rows, view()), columns, rows)


def shaped_like(example: Any) -> st.SearchStrategy[Any]:
    """Return values as a server might send that means no good: parts are of any kind."""
    odd = st.sampled_from([None, True, -1, 1e308, 10**30, "", "x\n\x1b[2J日", [1], {}])
    if not isinstance(example, dict):
        return st.one_of(st.just(example), odd)
    whole = st.fixed_dictionaries({}, optional={k: shaped_like(v) for k, v in example.items()})
    return st.one_of(whole, whole, odd)


SMALL: dict[str, Any] = {
    name: dict(list(part.items())[:2])
    if name in ("lanes", "operations", "running", "waiting", "recent")
    else part
    for name, part in snapshot().items()
    if isinstance(part, dict)
}


@settings(max_examples=100, deadline=None)
@given(shaped_like(SMALL), st.sampled_from([(60, 15), (80, 24), (140, 45)]))
def test_any_snapshot(given_: Any, size: tuple[int, int]) -> None:
    """Whatever a server sends, there is a screen, and nothing in it moves the cursor."""
    shown = screen(given_, *size, view())
    assert_fits(shown, *size)
    assert all(text_of(line).isprintable() for line in shown)


@pytest.mark.parametrize(("columns", "rows"), [(60, 15), (80, 24), (119, 40), (140, 45)])
def test_what_is_there_at_each_size(columns: int, rows: int) -> None:
    """Who it is, how it is, how fast, and the states of its calls."""
    shown = lines(columns, rows, throughput=23.42)
    for word in ("shop", "RUNNING", "up 2:05:34", "23.4/s", "5 of 8 busy"):
        assert word in shown[0]
    figures = "\n".join(shown[1:5])
    for name in ("running", "waiting", "retrying", "held", "completed", "failed", "timed out"):
        assert name in figures
    assert shown[-1] == "q ends"
    found = headings(screen(snapshot(), columns, rows, view()))
    assert {"OPERATIONS", "LANES", "RUNNING"} <= set(found)


def test_a_small_terminal() -> None:
    """The tables that tell most, with the rows that tell most."""
    assert headings(screen(snapshot(), 60, 15, view())) == ["OPERATIONS", "LANES", "RUNNING"]


def test_a_usual_terminal() -> None:
    """All tables."""
    assert headings(screen(snapshot(), 80, 24, view())) == [
        *("OPERATIONS", "LANES", "RUNNING", "LIMITS", "QUARANTINE", "WAITING", "RECENT")
    ]


def test_a_large_terminal() -> None:
    """Two stacks of tables, one beside the other, with everything in them."""
    shown = lines(160, 50)
    assert any(line.startswith("LANES") and "OPERATIONS" in line for line in shown)
    text = "\n".join(shown)
    assert all(name in text for name in OPERATIONS)
    assert "WAITING 9/19" in text
    assert "submitted  123,456" in text


def test_what_comes_and_goes_moves_nothing() -> None:
    """Each table stays where it is when calls begin and end."""

    def places(given_: dict[str, Any], size: tuple[int, int]) -> dict[str, int]:
        shown = lines(*size, given_)
        words = ("OPERATIONS", "LANES", "RUNNING", "LIMITS", "QUARANTINE", "WAITING", "RECENT")
        return {word: next(i for i, line in enumerate(shown) if word in line) for word in words}

    quiet = snapshot() | {"running": {}, "waiting": {}}
    for size in ((80, 24), (80, 60), (160, 50)):
        assert places(quiet, size) == places(snapshot(), size)


def test_a_screen_that_stays() -> None:
    """No rows are kept free for what may come."""
    quiet = snapshot() | {"running": {}, "tokens": {}}
    assert "" in lines(80, 60, quiet)[10:30]
    text = "\n".join(lines(80, 100, quiet, is_still=True))
    assert "nothing\n\nLIMITS" in text


def test_throughput() -> None:
    """As measured, or the mean of its whole life."""
    assert "15.0/s on average" in lines(80, 24)[0]
    assert "0.0/s" in lines(80, 24, {})[0]
    assert finished(snapshot()) == 113_010
    assert finished(None) == 0


def test_trend() -> None:
    """A bar for each second, the highest for the most."""
    line = lines(80, 24, throughput=1.0, trend=[0, 5, 10])[0]
    assert " ▁▅█ " in line
    assert line.endswith(" pid 4242 · Python 3.11.7")
    assert "▁▁" in lines(80, 24, throughput=0.0, trend=[0, 0])[0]
    assert lines(60, 24, throughput=1.0, trend=[1] * 30)[0].endswith("busy")


@pytest.mark.parametrize("state", ["paused", "draining", "shutdown", ""])
def test_states(state: str) -> None:
    """The state cannot be overlooked."""
    given_ = snapshot() | {"executor": {"state": state}}
    assert (state or "unknown").upper() in lines(60, 15, given_)[0]


def test_trouble_is_in_the_last_line() -> None:
    """However small the terminal is."""
    for size in ((80, 24), (40, 3), (20, 1)):
        shown = screen(snapshot(), *size, view(trouble="not connected"))
        assert text_of(shown[-1]).strip() == "not connected"
        assert shown[-1][0].style == "bad"


def test_a_long_name_leaves_room() -> None:
    """For the state, at least."""
    given_ = snapshot() | {"executor": {"name": "n" * 300, "state": "paused"}}
    assert "PAUSED" in lines(60, 15, given_)[0]
