"""A table of ``top`` as lines: which of its columns there is room for, and its rows under a heading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from tokengate_executor.terminal_lines import Line, Span
from tokengate_executor.terminal_text import cut, cut_front, padded

__all__ = ["Column", "Panel", "panel_lines"]

_GAP: Final = 2
_WIDEST_NAME: Final = 44


class Column(NamedTuple):
    """A column besides the first one.

    Attributes:
        heading: its name.
        width: in columns of the terminal.
        rank: those with the highest are left out first where there is no room for all.
        right: whether it is flush right, as numbers are.
    """

    heading: str
    width: int
    rank: int = 0
    right: bool = True


@dataclass(frozen=True, slots=True)
class Panel:
    """A table.

    Attributes:
        heading: of the first column, and with it of the table.
        narrowest: columns of the terminal that the first column needs.
        columns: the others.
        rows: a cell for each column; the first is cut at its front.
        total: how many rows there would be in all.
        least: with fewer rows it is not worth its heading.
        wanted: how many it may come to need.
        nothing: what is said when there are no rows.
    """

    heading: str
    narrowest: int
    columns: tuple[Column, ...]
    rows: list[tuple[Span, ...]]
    total: int
    least: int
    wanted: int
    nothing: str = ""


def panel_lines(panel: Panel, columns: int, rows: int) -> list[Line]:
    """The heading and exactly so many rows, in so many columns of the terminal."""
    shown = _columns_for(panel, columns)
    widths = [panel.columns[index].width for index in shown]
    name_width = min(columns - sum(widths) - _GAP * len(widths), _WIDEST_NAME)
    heading = panel.heading
    if panel.total > min(rows, len(panel.rows)):
        heading += f" {min(rows, len(panel.rows))}/{panel.total}"
    lines: list[Line] = [_heading_line(panel, shown, cut(heading, name_width), name_width, columns)]
    for row in panel.rows[:rows]:
        name = row[0]
        spans = [Span(padded(cut_front(name.text, name_width), name_width), name.style)]
        for index in shown:
            column, cell = panel.columns[index], row[index + 1]
            text = padded(cut(cell.text, column.width), column.width, right=column.right)
            spans += [Span(" " * _GAP), Span(text, cell.style)]
        lines.append(tuple(spans))
    if not panel.total and rows:
        lines.append((Span(panel.nothing, "faint"),))
    lines += [()] * (rows + 1 - len(lines))
    return lines


def _heading_line(
    panel: Panel, shown: list[int], heading: str, name_width: int, columns: int
) -> Line:
    text = padded(heading, name_width)
    for index in shown:
        column = panel.columns[index]
        text += " " * _GAP + padded(column.heading, column.width, right=column.right)
    return (Span(padded(text, columns), "heading"),)


def _columns_for(panel: Panel, columns: int) -> list[int]:
    """Which columns there is room for, the most important ones first of all."""
    shown: list[int] = []
    left = columns - panel.narrowest
    for index in sorted(range(len(panel.columns)), key=lambda index: panel.columns[index].rank):
        need = panel.columns[index].width + _GAP
        if need > left:
            break
        shown.append(index)
        left -= need
    return sorted(shown)
