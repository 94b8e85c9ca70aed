"""Names and errors as they are written down."""

from __future__ import annotations

import errno
import io
import json
import os

import pytest

from tokengate_executor.demos.text import (
    MESSAGE_CHARACTERS_AT_MOST,
    describe_error,
    escaped,
    escaped_path,
    printable,
    write_line,
)


def test_escaped_text_survives_strict_utf_8_and_json() -> None:
    """A message with surrogates becomes text that any reader of JSON accepts."""
    text = escaped("café\udcff")
    assert text == "café\\udcff"
    assert json.loads(json.dumps(text).encode("utf-8")) == text


def test_an_escaped_path_shows_the_bytes_that_are_not_utf_8() -> None:
    """Names that are UTF-8 stay as they are, whatever the locale makes of them."""
    assert escaped_path(os.fsdecode(b"caf\xc3\xa9\xff")) == "café\\xff"


def test_printable_text_stays_on_one_line() -> None:
    """Line ends, escape sequences and surrogates of a name do not reach the terminal."""
    assert printable("a\nb\x1b[2J\udcff é") == "a\\nb\\x1b[2J\\udcff é"


def test_write_line_escapes_what_the_stream_cannot_encode() -> None:
    """An ASCII terminal gets escapes instead of a traceback."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_line(stream, "é")
    stream.flush()
    assert raw.getvalue().split() == [b"\\xe9"]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/a/b"),
            "FileNotFoundError",
            "No such file",
        ),
        (OSError("odd"), "OSError", "odd"),
        (SyntaxError("bad", ("<unknown>", 3, 1, "x")), "SyntaxError", "bad (line 3)"),
        (SyntaxError("bad"), "SyntaxError", "bad"),
        (ValueError("a\udcff"), "ValueError", "a\\udcff"),
    ],
)
def test_an_error_is_described_without_paths(error: Exception, kind: str, message: str) -> None:
    """The description holds the type and the message only, equal for equal faults."""
    assert describe_error(error) == {"type": kind, "message": message}


def test_a_long_message_is_cut() -> None:
    """One strange file cannot fill the report with its message."""
    message = describe_error(ValueError("x" * 10_000))["message"]
    assert len(message) == MESSAGE_CHARACTERS_AT_MOST + len("...")
