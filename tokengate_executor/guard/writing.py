"""What is written down of a quarantined call: its pickle, and texts for people.

Whatever takes a caller's object apart (``pickle``, ``repr``, ``str`` of an exception) runs code of the
user's. So nothing here is called under a lock, and what that code raises is told, not passed on.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import traceback
from dataclasses import dataclass, field
from reprlib import Repr
from types import FunctionType
from typing import Any, Final

from tokengate_executor.guard.calls import Call
from tokengate_executor.options import joined, name_of

__all__ = [
    "ERROR_TEXT_LENGTH",
    "SUMMARY_LENGTH",
    "TRACEBACK_LENGTH",
    "WrittenCall",
    "bounded",
    "told",
    "written",
]

SUMMARY_LENGTH: Final = 300
ERROR_TEXT_LENGTH: Final = 2_000
TRACEBACK_LENGTH: Final = 20_000
"""In characters, as the other two. They bound what people read; the pickle is never cut."""

_PROTOCOL: Final = 5
"""The highest of every Python that this package runs on, so that each can read the other's files."""

_ARGUMENTS_SHOWN: Final = 6

_LAYERS: Final = 20
"""How many decorators are looked behind."""

_AS_STORED: Final = ("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """What goes into the store for a call.

    Attributes:
        pickled: function, arguments and keyword arguments; ``None`` if that cannot be had.
        not_replayable_because: why not; empty if there is a pickle.
        error_type, error_text, traceback, summary, fingerprint: as in ``QuarantinedCall``.
    """

    pickled: bytes | None = field(repr=False)
    not_replayable_because: str
    error_type: str
    error_text: str
    traceback: str
    summary: str
    fingerprint: str


def written(call: Call, largest_pickle: int) -> WrittenCall:
    """Take a call down: pickle, texts, fingerprint.

    Args:
        call: the call.
        largest_pickle: in bytes; the pickle of a larger call is not cut but left out.

    Raises:
        KeyboardInterrupt: it came while code of the user's ran. All else that raises is told.
    """
    pickled: bytes | None = None
    because = ""
    try:
        written_to = io.BytesIO()
        _Pickler(written_to, _PROTOCOL).dump((call.fn, call.args, dict(call.kwargs)))
        pickled = written_to.getvalue()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        because = f"it cannot be pickled: {told(error)}"
    if pickled is not None and len(pickled) > largest_pickle:
        because = f"its pickle has {len(pickled)} bytes, and the store takes {largest_pickle}"
        pickled = None
    error_type = "" if call.error is None else _type_of(call.error)
    return WrittenCall(
        pickled=pickled,
        not_replayable_because=because,
        error_type=error_type,
        error_text="" if call.error is None else bounded(_text_of(call.error), ERROR_TEXT_LENGTH),
        traceback="" if call.error is None else _traceback_of(call.error),
        summary=_summary_of(call),
        fingerprint=_fingerprint_of(call.operation, pickled or error_type.encode(*_AS_STORED)),
    )


class _Pickler(pickle.Pickler):
    """Also takes a function whose name leads to a decorated one: as what that one wraps."""

    def reducer_override(self, obj: Any, /) -> Any:
        """See ``pickle.Pickler``."""
        if type(obj) is FunctionType:
            outer: Any = sys.modules.get(obj.__module__)
            for name in obj.__qualname__.split("."):
                outer = getattr(outer, name, None)
            for _ in range(_LAYERS):
                inner = getattr(outer, "__wrapped__", None)
                if inner is None or outer is obj:
                    break
                if inner is obj:
                    return getattr, (outer, "__wrapped__")
                outer = inner
        return NotImplemented


def told(error: BaseException) -> str:
    """An exception in one short line, whatever its ``__str__`` does."""
    text = " ".join(_text_of(error).split())
    name = type(error).__qualname__
    return bounded(f"{name}: {text}" if text else name, SUMMARY_LENGTH)


def bounded(text: str, length: int) -> str:
    """The text, its end left out if it is longer; storable, which not every ``str`` is."""
    if len(text) > length:
        text = f"{text[: length - 1]}…"
    return _storable(text)


def _storable(text: str) -> str:
    # Undecodable bytes of file names live in strings as lone surrogates, which have no UTF-8.
    return text.encode(*_AS_STORED).decode()


def _type_of(error: BaseException) -> str:
    cls = type(error)
    return bounded(f"{cls.__module__}.{cls.__qualname__}", SUMMARY_LENGTH)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as another:
        return f"(its text raised {type(another).__qualname__})"


def _traceback_of(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except KeyboardInterrupt:
        raise
    except BaseException as another:
        return f"(the traceback cannot be shown: {type(another).__qualname__})"
    if len(text) > TRACEBACK_LENGTH:  # what happened last is at the end
        text = f"…{text[-TRACEBACK_LENGTH + 1 :]}"
    return _storable(text)


class _Summary(Repr):
    """Bounded ``repr``; also of long bytes, which the standard library's class writes out first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 60
        self.maxlevel = 3

    def repr_bytes(self, given: bytes | bytearray, _level: int) -> str:
        """Show the beginning and the length."""
        if len(given) <= self.maxstring:
            return repr(given)
        return f"{bytes(given[:20])!r}… ({len(given)} bytes)"

    repr_bytearray = repr_bytes


_REPR: Final = _Summary()


def _shown(given: object) -> str:
    try:
        return _REPR.repr(given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(given).__qualname__}, its repr raised {type(error).__qualname__}>"


def _summary_of(call: Call) -> str:
    arguments = [_shown(given) for given in call.args[:_ARGUMENTS_SHOWN]]
    names = list(call.kwargs)[: _ARGUMENTS_SHOWN - len(arguments)]
    arguments += [f"{name}={_shown(call.kwargs[name])}" for name in names]
    if len(call.args) + len(call.kwargs) > len(arguments):
        arguments.append("…")
    return bounded(f"{joined(name_of(call.fn))}({', '.join(arguments)})", SUMMARY_LENGTH)


def _fingerprint_of(operation: str, what: bytes) -> str:
    named = operation.encode(*_AS_STORED)
    return hashlib.sha256(named + b"\0" + what).hexdigest()[:32]
