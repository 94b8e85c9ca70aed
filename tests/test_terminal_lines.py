"""Lines of a screen: their width, and how they are painted."""

from __future__ import annotations

import pytest

from tokengate_executor.terminal_lines import Line, Span, fitted, painted, text_of, width_of

LINE: Line = (Span("shop ", "strong"), Span("日本", "bad"), Span("!"))


def test_text_and_width() -> None:
    """Of all its spans."""
    assert text_of(LINE) == "shop 日本!"
    assert width_of(LINE) == 10


@pytest.mark.parametrize(
    ("columns", "text"),
    [(12, "shop 日本!  "), (10, "shop 日本!"), (9, "shop 日本"), (8, "shop 日…"), (7, "shop … ")],
)
def test_fitted(columns: int, text: str) -> None:
    """Filled with blanks, or cut where it ends."""
    line = fitted(LINE, columns)
    assert text_of(line).rstrip() == text.rstrip()
    assert width_of(line) == columns


def test_fitted_to_nothing() -> None:
    """A window may be as narrow as it likes."""
    assert text_of(fitted(LINE, 0)) == ""
    assert width_of(fitted((), 3)) == 3


def test_painted() -> None:
    """Each style ends where its span does; without colours there is no escape sequence at all."""
    assert painted(LINE, "utf-8", colours=True) == "\x1b[1mshop \x1b[0m\x1b[1;31m日本\x1b[0m!"
    assert painted(LINE, "utf-8", colours=False) == "shop 日本!"
    assert painted(LINE, "ascii", colours=True) == "\x1b[1mshop \x1b[0m\x1b[1;31m????\x1b[0m!"
