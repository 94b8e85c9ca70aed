"""Words for what the file system and the calls hand back: names and errors of any kind."""

from __future__ import annotations

import os
from typing import IO, TypeAlias

MESSAGE_CHARACTERS_AT_MOST = 300
"""Longer error messages are cut, so that one strange file cannot fill the report."""


ErrorDescription: TypeAlias = dict[str, str]
"""What a report keeps of an error: ``type``, the name of its class, and ``message``."""


def escaped(text: str) -> str:
    """Return ``text`` with every surrogate as a backslash escape, so that any UTF-8 file holds it.

    Strict readers of JSON refuse lone surrogates.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def escaped_path(path: str) -> str:
    """Return ``path`` with its bytes that are not UTF-8 as escapes, the same in any locale.

    Python holds such bytes as surrogates (PEP 383), and in an ASCII locale all others beyond ASCII.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Return ``text`` fit for one line of a terminal: control characters become escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def write_line(stream: IO[str], text: str = "") -> None:
    """Write ``text`` and a line end; what the stream's encoding lacks becomes an escape."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def describe_error(error: BaseException) -> ErrorDescription:
    """Return the type and message of ``error``, the same for the same fault in any run.

    Paths are left out of an ``OSError`` because the row that holds the description names the file,
    and out of a ``SyntaxError`` because the parser was given no name.
    """
    if isinstance(error, OSError) and error.errno is not None:
        message = error.strerror or os.strerror(error.errno)
    elif isinstance(error, SyntaxError):
        line = "" if error.lineno is None else f" (line {error.lineno})"
        message = f"{error.msg}{line}"
    else:
        message = str(error)
    if len(message) > MESSAGE_CHARACTERS_AT_MOST:
        message = message[:MESSAGE_CHARACTERS_AT_MOST] + "..."
    return {"type": type(error).__name__, "message": escaped(message)}
