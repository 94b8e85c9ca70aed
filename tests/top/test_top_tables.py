"""The tables of ``top``: what each of them shows of a snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from tokengate_executor.terminal_lines import text_of
from tokengate_executor.top.facts import Facts
from tokengate_executor.top.panels import Panel, panel_lines
from tokengate_executor.top.tables import panels_of

NOW = 1_700_000_000.0


def table(name: str, snapshot: dict[str, Any]) -> Panel:
    """Return one table of a snapshot."""
    return panels_of(Facts(snapshot), NOW)[name]


def rows(name: str, snapshot: dict[str, Any]) -> list[list[str]]:
    """Return the words of each row of a table that has room for everything."""
    panel = table(name, snapshot)
    return [text_of(line).split() for line in panel_lines(panel, 250, len(panel.rows))][1:]


def test_an_empty_snapshot() -> None:
    """There is a table for what each executor has, and each says that there is nothing."""
    panels = panels_of(Facts(None), NOW)
    assert list(panels) == ["operations", "lanes", "running", "waiting", "recent"]
    for panel in panels.values():
        assert panel.rows == []
        assert panel.total == 0
        assert panel.nothing
        assert 1 <= panel.least <= panel.wanted


def test_each_row_has_a_cell_for_each_column() -> None:
    """In every table, however little the snapshot says of a thing."""
    thing: dict[str, Any] = {"x": {}}
    names = ("operations", "lanes", "running", "waiting", "limits", "recent")
    snapshot = dict.fromkeys(names, thing) | {"quarantine": {"calls": thing}}
    panels = panels_of(Facts(snapshot), NOW)
    assert len(panels) == 7
    for panel in panels.values():
        assert [len(row) for row in panel.rows] == [1 + len(panel.columns)]


def test_operations() -> None:
    """What is blocked or paused first, then by the number of calls."""
    usual = {"health": "EXCELLENT", "success_rate": 1.0, "mean_seconds": 0.25, "circuit": "closed"}
    snapshot = {
        "operations": {
            "few": usual | {"calls": 3},
            "many": usual | {"calls": 1234},
            "paused": usual | {"calls": 2, "paused": True},
            "blocked": {
                "health": "PROBLEMATIC",
                "calls": 1,
                "success_rate": 0.004,
                "failures": 7,
                "timeouts": 2,
                "circuit": "open",
                "retry_after_seconds": 12.0,
            },
        },
        "operations_left_out": 6,
    }
    assert rows("operations", snapshot) == [
        ["paused", "excellent", "100", "%", "2", "250", "ms", "0", "0", "paused"],
        ["blocked", "problematic", "1", "%", "1", "-", "7", "2", "open", "12.0", "s"],
        ["many", "excellent", "100", "%", "1,234", "250", "ms", "0", "0", "closed"],
        ["few", "excellent", "100", "%", "3", "250", "ms", "0", "0", "closed"],
    ]
    assert table("operations", snapshot).total == 10


@pytest.mark.parametrize(
    ("circuit", "shown", "style"),
    [
        ({"circuit": "open"}, "open", "bad"),
        ({"circuit": "half_open"}, "half open", "warn"),
        ({"circuit": "closed"}, "closed", "faint"),
        ({}, "-", "faint"),
    ],
)
def test_circuits(circuit: dict[str, str], shown: str, style: str) -> None:
    """One that was opened by hand has no time."""
    assert table("operations", {"operations": {"pay": circuit}}).rows[0][-1] == (shown, style)


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(1.0, "100 %"), (0.9999, "99 %"), (0.5, "50 %"), (0.0001, "1 %"), (0.0, "0 %")],
)
def test_shares(rate: float, shown: str) -> None:
    """What is not whole is not said to be."""
    snapshot = {"operations": {"pay": {"success_rate": rate}}}
    assert table("operations", snapshot).rows[0][2].text == shown


def test_lanes() -> None:
    """By their numbers, also from ten on."""
    lane = {
        "cpus": [0, 4],
        "workers": 2,
        "depth": 3,
        "executing": 1,
        "completed": 12,
        "failed": 4,
        "stolen": 5,
        "started_by_weight": {"heavy": 6, "medium": 7, "light": 8, "unweighted": 9},
        "mean_wait_seconds": 0.002,
        "busy_seconds": 30.0,
    }
    snapshot = {"lanes": {"10": {}, "2": lane, "1": {}}}
    found = rows("lanes", snapshot)
    assert [row[0] for row in found] == ["1", "2", "10"]
    assert " ".join(found[1]) == "2 · cpu 0,4 2 1 3 12 4 5 6 7 8 2.0 ms 30.0 s"


def test_running() -> None:
    """The longest first; and whether somebody wants it to end."""
    snapshot = {
        "running": {
            "3-1": {"operation": "young", "started_at": NOW - 1, "lane": 1, "worker": 3},
            "4-1": {
                "operation": "old",
                "started_at": NOW - 9,
                "lane": 2,
                "worker": 4,
                "attempt": 2,
                "kill_requested": True,
            },
        },
        "tokens": {"executing": 7},
        "system": {"max_workers": 6},
    }
    assert rows("running", snapshot) == [
        ["old", "9.0", "s", "2", "4", "2", "kill", "asked", "4-1"],
        ["young", "1.0", "s", "1", "3", "0", "3-1"],
    ]
    panel = table("running", snapshot)
    assert (panel.total, panel.wanted) == (7, 6)


def test_a_clock_that_goes_before_ours() -> None:
    """What begins in the future has just begun."""
    snapshot = {"running": {"1": {"operation": "pay", "started_at": NOW + 5}}}
    assert rows("running", snapshot)[0][:3] == ["pay", "0.0", "ms"]


def test_waiting() -> None:
    """All that does not run, the oldest first."""
    snapshot = {
        "waiting": {
            "b": {
                "operation": "two",
                "submitted_at": NOW - 2,
                "state": "waiting",
                "weight": "light",
            },
            "a": {"operation": "one", "submitted_at": NOW - 8, "state": "quarantined"},
            "c": {"operation": "three", "submitted_at": NOW, "state": "retrying", "attempts": 2},
        },
        "tokens": {"waiting": 30, "retrying": 1, "quarantined": 1},
    }
    assert rows("waiting", snapshot) == [
        ["one", "8.0", "s", "held", "-", "0", "a"],
        ["two", "2.0", "s", "waiting", "light", "0", "b"],
        ["three", "0.0", "ms", "retrying", "-", "2", "c"],
    ]
    assert table("waiting", snapshot).total == 32


def test_limits() -> None:
    """Permits that are held, and permits that are used up."""
    snapshot = {
        "limits": {
            "db": {"kind": "permits", "limit": 4, "used": 3, "free": 1, "waiting": 0},
            "api": {"kind": "rate", "limit": 100, "per": 0.5, "burst": 20, "free": 0, "waiting": 9},
        }
    }
    assert rows("limits", snapshot) == [
        ["api", "██████████", "100", "per", "0.5", "s", "0", "9"],
        ["db", "████████░░", "3", "of", "4", "1", "0"],
    ]
    styles = [row[1].style for row in table("limits", snapshot).rows]
    assert styles == ["bad", "warn"]


@pytest.mark.parametrize(
    "limit", [{}, {"limit": 0, "used": 3}, {"limit": 2, "used": 5}, {"kind": "rate", "free": 9}]
)
def test_limits_that_make_no_sense(limit: dict[str, Any]) -> None:
    """A bar is a bar all the same: one that was lowered may be exceeded for a while."""
    bar = table("limits", {"limits": {"db": limit}}).rows[0][1].text
    assert len(bar) == 10
    assert set(bar) <= set("█░")


def test_quarantine() -> None:
    """What is to be decided, the latest first."""
    snapshot = {
        "quarantine": {
            "counts": {"pending": 8, "approved": 1, "rejected": 4},
            "calls": {
                "a1": {
                    "operation": "mail",
                    "reason": "given up",
                    "status": "pending",
                    "added_at": NOW - 100,
                    "attempts": 3,
                    "error_type": "smtplib.SMTPException",
                },
                "b2": {"operation": "export", "reason": "spike", "added_at": NOW - 3},
            },
        }
    }
    assert rows("quarantine", snapshot) == [
        ["export", "spike", "3", "s", "0", "-", "b2"],
        ["mail", "given", "up", "pending", "100", "s", "3", "SMTPException", "a1"],
    ]
    assert table("quarantine", snapshot).total == 9


@pytest.mark.parametrize(
    ("quarantine", "nothing"),
    [
        ({"counts": {"pending": 0, "replayed": 1}}, "nothing to decide"),
        ({"counts": {}, "problem": "it cannot be read"}, "it cannot be read"),
    ],
)
def test_quarantine_with_nothing_in_it(quarantine: dict[str, Any], nothing: str) -> None:
    """It is there if it was ever used, or cannot be read; and says so."""
    assert table("quarantine", {"quarantine": quarantine}).nothing == nothing
    unused = {"counts": {"pending": 0, "rejected": 0}, "held": 0, "calls": {}}
    assert "quarantine" not in panels_of(Facts({"quarantine": unused}), NOW)


def test_recent() -> None:
    """The latest first."""
    snapshot = {
        "recent": {
            "1-1": {
                "operation": "pay",
                "weight": "heavy",
                "state": "COMPLETED",
                "waited_seconds": 0.001,
                "run_seconds": 2.0,
                "settled_at": NOW - 200,
                "attempts": 1,
                "complexity": "SIMPLE",
            },
            "1-2": {
                "operation": "mail",
                "state": "FAILED",
                "error": "ConnectionError",
                "settled_at": NOW - 4,
                "attempts": 3,
            },
        }
    }
    assert [" ".join(row) for row in rows("recent", snapshot)] == [
        "mail failed 4 s - - 3 ConnectionError - - 1-2",
        "pay completed 3 min 1.0 ms 2.0 s 1 - heavy simple 1-1",
    ]
    styles = [row[1].style for row in table("recent", snapshot).rows]
    assert styles == ["bad", "good"]


def test_names_are_harmless() -> None:
    """Wherever a snapshot has text, what would move the cursor is escaped."""
    evil = "\x1b[2J\n"
    facts = dict.fromkeys(
        ("operation", "state", "weight", "health", "circuit", "reason", "status", "error"), evil
    )
    facts |= {"error_type": evil, "complexity": evil, "kind": evil}
    names = ("operations", "lanes", "running", "waiting", "limits", "recent")
    snapshot: dict[str, Any] = {name: {evil: facts} for name in names}
    snapshot["quarantine"] = {"calls": {evil: facts}, "problem": evil}
    for panel in panels_of(Facts(snapshot), NOW).values():
        cells = [cell.text for row in panel.rows for cell in row]
        assert any("\\x1b[2" in cell.lower() for cell in cells)
        assert all(cell.isprintable() for cell in [*cells, panel.nothing, panel.heading])
