"""A table of ``top`` as lines: its columns, its rows, its heading."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokengate_executor.terminal_lines import Span, text_of, width_of
from tokengate_executor.top.panels import Column, Panel, panel_lines

COLUMNS = (Column("LAST", 5, 2), Column("FIRST", 5, 0), Column("TEXT", 6, 1, right=False))

PANEL = Panel(
    heading="NAMES",
    narrowest=8,
    columns=COLUMNS,
    rows=[
        (Span("one"), Span("1"), Span("2", "bad"), Span("three")),
        (Span("a.long.name.two"), Span("123456"), Span("7"), Span("too long")),
    ],
    total=2,
    least=1,
    wanted=2,
    nothing="none",
)


def shown(panel: Panel, columns: int, rows: int) -> list[str]:
    """Return the lines as text, without the blanks behind them."""
    return [text_of(line).rstrip() for line in panel_lines(panel, columns, rows)]


def test_all_columns() -> None:
    """In the order in which they were given; the name takes what the others leave."""
    assert shown(PANEL, 40, 2) == [
        "NAMES                LAST  FIRST  TEXT",
        "one                     1      2  three",
        "a.long.name.two     1234…      7  too l…",
    ]


@pytest.mark.parametrize(
    ("columns", "heading"),
    [
        (30, "NAMES      LAST  FIRST  TEXT"),
        (29, "NAMES          FIRST  TEXT"),
        (23, "NAMES     FIRST  TEXT"),
        (22, "NAMES            FIRST"),
        (15, "NAMES     FIRST"),
        (14, "NAMES"),
        (3, "NA…"),
        (0, ""),
    ],
)
def test_columns_go_by_their_rank(columns: int, heading: str) -> None:
    """The highest first; and the name stays, cut where it has to be."""
    found = shown(PANEL, columns, 2)[0]
    assert found.split() == heading.split()
    assert len(found) <= columns


def test_names_are_cut_at_the_front() -> None:
    """The end of a dotted name tells more."""
    assert shown(PANEL, 23, 2)[2].startswith("…ame.two ")


def test_a_name_is_not_wider_than_it_need_be() -> None:
    """On a very wide screen the columns stay near it."""
    assert shown(PANEL, 200, 1)[1].index("three") < 70


def test_rows_that_have_no_room() -> None:
    """The heading says how many are shown, and how many there are."""
    assert shown(PANEL, 40, 1)[0].startswith("NAMES 1/2 ")
    assert shown(replace(PANEL, total=90), 40, 5)[0].startswith("NAMES 2/90 ")
    assert len(shown(PANEL, 40, 1)) == 2


def test_rows_that_are_not_there() -> None:
    """Their places stay empty, so that nothing below moves."""
    assert shown(PANEL, 40, 4)[3:] == ["", ""]
    assert shown(replace(PANEL, rows=[], total=0), 40, 2)[1:] == ["none", ""]
    assert len(shown(replace(PANEL, rows=[]), 40, 0)) == 1


def test_styles_and_widths() -> None:
    """A cell has its style, whatever its column is; no line is wider than the screen."""
    lines = panel_lines(PANEL, 40, 2)
    assert lines[0][0].style == "heading"
    assert next(span for span in lines[1] if span.text.strip() == "2").style == "bad"
    assert all(width_of(line) <= 40 for line in lines)
    assert width_of(lines[0]) == 40
