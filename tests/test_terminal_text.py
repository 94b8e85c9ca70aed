"""Text for a terminal: harmless, of a known width, and written whatever the encoding."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.terminal_text import (
    columns_of,
    complain,
    cut,
    cut_front,
    encodable,
    padded,
    printable,
    say,
)

COMBINED = "e\N{COMBINING ACUTE ACCENT}"


def test_what_would_move_or_colour_is_escaped() -> None:
    """Control characters, those that turn the direction of writing, and halves of characters."""
    assert printable("a\nb\x1b[2J\x9b\u202e\udcff é") == "a\\nb\\x1b[2J\\x9b\\u202e\\udcff é"
    assert printable("") == ""


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("é…", 2), ("日本", 4), (COMBINED, 1), ("ﾊ", 1)]
)
def test_columns(text: str, columns: int) -> None:
    """East Asian signs take two, those that combine with others none."""
    assert columns_of(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "beginning", "end"),
    [
        ("shop.pay", 8, "shop.pay", "shop.pay"),
        ("shop.pay", 5, "shop…", "….pay"),
        ("shop.pay", 1, "…", "…"),
        ("shop.pay", 0, "", ""),
        ("日本日本", 4, "日…", "…本"),
        ("日本日本", 8, "日本日本", "日本日本"),
        (COMBINED * 3, 2, f"{COMBINED}…", f"…{COMBINED}"),
    ],
)
def test_cut(text: str, columns: int, beginning: str, end: str) -> None:
    """A mark says at which end something was."""
    assert cut(text, columns) == beginning
    assert cut_front(text, columns) == end


@given(st.text(alphabet="ab日é\N{COMBINING ACUTE ACCENT}."), st.integers(0, 12))
def test_what_is_cut_fits(text: str, columns: int) -> None:
    """Whatever is in it, and nothing is cut that would have fitted."""
    for shortened in (cut(text, columns), cut_front(text, columns)):
        assert columns_of(shortened) <= columns
        assert (shortened == text) is (columns_of(text) <= columns)


def test_padded() -> None:
    """On either side, and never shorter."""
    assert padded("日", 4) == "日  "
    assert padded("7", 3, right=True) == "  7"
    assert padded("long", 2) == "long"


def test_what_an_encoding_lacks_keeps_its_width() -> None:
    """Our own signs have plain relatives."""
    assert encodable("a…█░▂é日", "utf-8") == "a…█░▂é日"
    assert encodable("a…·█░▂é日", "ascii") == "a~-#..???"
    assert encodable("é…", "latin-1") == "é~"


def test_say_escapes_what_the_stream_cannot_encode() -> None:
    """An ASCII terminal gets escapes instead of a traceback."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    say("é", to=stream)
    stream.flush()
    assert raw.getvalue().split() == [b"\\xe9"]


def test_say_and_complain(capsys: pytest.CaptureFixture[str]) -> None:
    """To the output; and harmless, in one line, to the error stream."""
    say("one")
    say()
    complain(ValueError("two\nthree\x1b"))
    said = capsys.readouterr()
    assert said.out == "one\n\n"
    assert said.err == "two\\nthree\\x1b\n"
    assert sys.stdout.encoding
