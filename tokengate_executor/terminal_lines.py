"""Lines of a terminal's screen: text with styles, brought to a width, and painted in colours or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from tokengate_executor.terminal_text import columns_of, cut, encodable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Line", "Span", "Style", "fitted", "painted", "text_of", "width_of"]

Style: TypeAlias = Literal["", "heading", "strong", "faint", "good", "warn", "bad"]

_SGR: Final[dict[Style, str]] = {
    "heading": "1;4;36",
    "strong": "1",
    "faint": "2",
    "good": "32",
    "warn": "33",
    "bad": "1;31",
}
"""Style → the parameters of the escape sequence that begins it."""


class Span(NamedTuple):
    """Printable text in one style."""

    text: str
    style: Style = ""


Line: TypeAlias = tuple[Span, ...]


def width_of(line: Iterable[Span]) -> int:
    """How many columns a line takes."""
    return sum(columns_of(span.text) for span in line)


def text_of(line: Iterable[Span]) -> str:
    """A line without its styles."""
    return "".join(span.text for span in line)


def fitted(line: Line, columns: int) -> Line:
    """The line in exactly so many columns: cut, or with blanks behind it."""
    left = columns
    spans: list[Span] = []
    for span in line:
        width = columns_of(span.text)
        if width > left:
            spans.append(Span(cut(span.text, left), span.style))
            # A sign of two columns that had no room leaves one.
            left -= columns_of(spans[-1].text)
            break
        spans.append(span)
        left -= width
    if left:
        spans.append(Span(" " * left))
    return tuple(spans)


def painted(line: Line, encoding: str, *, colours: bool) -> str:
    """The line as it is written to a terminal."""
    if not colours:
        return encodable(text_of(line), encoding)
    return "".join(
        f"\x1b[{_SGR[span.style]}m{encodable(span.text, encoding)}\x1b[0m"
        if span.style
        else encodable(span.text, encoding)
        for span in line
    )
