"""The three kinds of work the corpus demo does for one file.

Each function takes a path and returns a plain mapping that depends on nothing but the file's bytes
and the interpreter; each opens the file anew, so that no file's content outlives its call. Every
read has a cap, so that a file without end cannot hold a worker for ever.

Only regular files are opened: opening a FIFO waits for its other end, and opening a device may
have effects.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import io
import keyword
import lzma
import os
import stat
import sys
import threading
import tokenize
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from .text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

JsonValue: TypeAlias = "str | int | float | bool | JsonObject | list[JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]
Weight: TypeAlias = Literal["heavy", "medium", "light"]

HASHED_BYTES_AT_MOST: Final = 256 * 1024 * 1024
"""Light work hashes at most this much of a file, in bytes."""

PARSED_BYTES_AT_MOST: Final = 1024 * 1024
"""Medium work leaves a larger file alone, in bytes: a part of a program does not parse."""

COMPRESSED_BYTES_AT_MOST: Final = 64 * 1024
"""Heavy work compresses at most this much of a file, in bytes.

This and the preset keep both runs over the standard library together under a minute on two cores.
"""

COMPRESSION_PRESET: Final = 6
"""The LZMA preset; its dictionary is cut to ``COMPRESSED_BYTES_AT_MOST``, as none larger helps.

With the preset's own dictionary of 8 MiB each worker would take close to 100 MB.
"""

FREQUENT_NAMES: Final = 5
"""How many of a file's most frequent names medium work reports."""

NOT_PYTHON: Final = "not a .py file"
"""The reason in place of medium work for every other file; no task is submitted for it."""

# CPython 3.11 counts the depth of the syntax tree that is being built for all threads together, and
# says SystemError when another thread begins a tree in between, which it can whenever a finaliser
# runs (python/cpython#106905 is a near relative). Since 3.12 the collector does not run in there.
# A lock costs nothing: parsing holds the interpreter lock anyway.
_one_syntax_tree_at_a_time: Final[AbstractContextManager[object]] = (
    threading.Lock() if sys.version_info < (3, 12) else nullcontext()
)

_CHUNK_BYTES: Final = 256 * 1024

_FILE_KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISDIR, "a symbolic link to a directory is not followed"),
    (stat.S_ISFIFO, "a FIFO is not read"),
    (stat.S_ISSOCK, "a socket is not read"),
    (stat.S_ISCHR, "a character device is not read"),
    (stat.S_ISBLK, "a block device is not read"),
)


class NotARegularFileError(Exception):
    """The path leads to a FIFO, a socket, a device or a directory, which the demo never opens."""


class Work(NamedTuple):
    """One kind of work: its weight, its function, and whether it suits a path."""

    weight: Weight
    function: Callable[[str], JsonObject]
    suits: Callable[[str], bool]


def light_work(path: str) -> JsonObject:
    """Return the size of the file and the SHA-256 of its first ``HASHED_BYTES_AT_MOST`` bytes.

    Raises:
        OSError: the file cannot be read.
        NotARegularFileError: the path leads to something other than a regular file.
    """
    digest = hashlib.sha256()
    hashed_bytes = 0
    for chunk in _chunks(path, HASHED_BYTES_AT_MOST):
        digest.update(chunk)
        hashed_bytes += len(chunk)
    size = hashed_bytes if hashed_bytes < HASHED_BYTES_AT_MOST else Path(path).stat().st_size
    return {"size": size, "sha256": digest.hexdigest(), "hashed_bytes": hashed_bytes}


def medium_work(path: str) -> JsonObject:
    """Return counts of the syntax tree, the tokens and the names of a Python file.

    Raises:
        OSError: the file cannot be read.
        NotARegularFileError: the path leads to something other than a regular file.
        SyntaxError: the file does not parse, or is not in the encoding it claims.
        ValueError, RecursionError, MemoryError, tokenize.TokenError: the parser or the tokeniser
            gave up on the file in another way.
    """
    source = b"".join(_chunks(path, PARSED_BYTES_AT_MOST + 1))
    if len(source) > PARSED_BYTES_AT_MOST:
        return {"skipped": f"larger than {PARSED_BYTES_AT_MOST} bytes"}

    nodes = functions = classes = 0
    with _one_syntax_tree_at_a_time:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        nodes += 1
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += 1
        elif isinstance(node, ast.ClassDef):
            classes += 1

    tokens = 0
    names: Counter[str] = Counter()
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        tokens += 1
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            names[token.string] += 1
    by_frequency = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return {
        "syntax_tree_nodes": nodes,
        "functions": functions,
        "classes": classes,
        "tokens": tokens,
        "names": names.total(),
        "distinct_names": len(names),
        "frequent_names": {escaped(name): count for name, count in by_frequency[:FREQUENT_NAMES]},
    }


def heavy_work(path: str) -> JsonObject:
    """Return how far LZMA compresses the first ``COMPRESSED_BYTES_AT_MOST`` bytes of the file.

    Raises:
        OSError: the file cannot be read.
        NotARegularFileError: the path leads to something other than a regular file.
    """
    data = b"".join(_chunks(path, COMPRESSED_BYTES_AT_MOST))
    compressed = lzma.compress(
        data,
        format=lzma.FORMAT_XZ,
        filters=[
            {
                "id": lzma.FILTER_LZMA2,
                "preset": COMPRESSION_PRESET,
                "dict_size": COMPRESSED_BYTES_AT_MOST,
            }
        ],
    )
    return {
        "read_bytes": len(data),
        "compressed_bytes": len(compressed),
        "compressed_sha256": hashlib.sha256(compressed).hexdigest(),
    }


def _every_file(_path: str) -> bool:
    return True


def _is_python(path: str) -> bool:
    return path.endswith(".py")


WORKS: Final[tuple[Work, ...]] = (
    Work("light", light_work, _every_file),
    Work("medium", medium_work, _is_python),
    Work("heavy", heavy_work, _every_file),
)


def settings() -> JsonObject:
    """Return the constants that decide what the work reports, for the report to name them."""
    return {
        "hashed_bytes_at_most": HASHED_BYTES_AT_MOST,
        "parsed_bytes_at_most": PARSED_BYTES_AT_MOST,
        "compressed_bytes_at_most": COMPRESSED_BYTES_AT_MOST,
        "compression": f"xz, LZMA2 preset {COMPRESSION_PRESET}",
        "medium_work": f"only for .py files; the others say {NOT_PYTHON!r}",
    }


def _chunks(path: str, at_most: int) -> Iterator[bytes]:
    """Yield the first ``at_most`` bytes of a regular file, in pieces."""
    _require_regular_file(Path(path).stat().st_mode)
    with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
        # What stood at the path may have been replaced since; what is open cannot be.
        _require_regular_file(os.fstat(file.fileno()).st_mode)
        left = at_most
        while left > 0:
            chunk: bytes | None = file.read(min(left, _CHUNK_BYTES))
            if chunk is None:
                # Some files of /proc claim to be regular and would wait for data.
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk


def _open_without_waiting(path: str, flags: int) -> int:
    # A FIFO put at the path after the check would hold a plain open() until somebody writes.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _require_regular_file(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    for matches, message in _FILE_KINDS:
        if matches(mode):
            raise NotARegularFileError(message)
    raise NotARegularFileError("only regular files are read")
