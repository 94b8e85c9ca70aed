"""Text for a terminal: made harmless, measured and cut in columns, and written.

Names and messages come from users, files and servers. None of them may move the cursor, colour what
follows, or make a line longer than it seems.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["columns_of", "complain", "cut", "cut_front", "encodable", "padded", "printable", "say"]

_CUT: Final = "…"

_PLAIN: Final = str.maketrans({"…": "~", "·": "-", "░": "."}) | dict(
    zip(map(ord, "▁▂▃▄▅▆▇█"), "_.-=+*%#", strict=True)
)
"""What stands for our own signs where the encoding lacks them, each one column wide."""


def printable(text: str) -> str:
    """The text in one line, without what would move or colour a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def columns_of(text: str) -> int:
    """How many columns of a terminal printable text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, columns: int) -> str:
    """The beginning of the text, in so many columns at most; a mark says that there was more."""
    if columns_of(text) <= columns:
        return text
    return _head(text, columns - 1) + _CUT if columns > 0 else ""


def cut_front(text: str, columns: int) -> str:
    """The same with the end of the text: of a dotted name it tells more."""
    if columns_of(text) <= columns:
        return text
    if columns <= 0:
        return ""
    kept = _head(text[::-1], columns - 1)[::-1]
    # A mark that combines with what was cut off would combine with ours.
    return _CUT + kept.lstrip("".join(c for c in kept if not _columns(c)))


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """The text with blanks behind it, or with ``right`` before it, in at least so many columns."""
    blanks = " " * (columns - columns_of(text))
    return blanks + text if right else text + blanks


def encodable(text: str, encoding: str) -> str:
    """The text with other signs of the same width for those that the encoding lacks."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_stand_in(character, encoding) for character in text)
    return text


def say(line: str = "", *, to: TextIO | None = None) -> None:
    """Write one line to the output, or ``to`` another stream; what its encoding lacks is escaped."""
    stream = to or sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def complain(message: object) -> None:
    """Write what is wrong to the error stream, in one line."""
    say(printable(str(message)), to=sys.stderr)


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0  # combines with the one before it
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _head(text: str, columns: int) -> str:
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > columns:
            return text[:index]
    return text


def _stand_in(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        plain = character.translate(_PLAIN)
        return plain if plain.isascii() else "?" * _columns(character)
    return character
