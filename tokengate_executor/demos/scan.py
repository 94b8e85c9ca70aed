"""Which files a tree holds, in an order that does not depend on the file system."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .text import ErrorDescription, describe_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Signature: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One entry of the tree that is not a directory.

    Attributes:
        relative_path: path below the root, with ``/`` between its parts on every system.
        path: the path to open.
        signature: what the file system said about it during the scan; ``None`` if it said nothing.
    """

    relative_path: str
    path: str
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files found, sorted by relative path, and the directories that could not be listed."""

    root: str
    files: tuple[CorpusFile, ...]
    unreadable_directories: tuple[tuple[str, ErrorDescription], ...]


def scan_tree(
    root: str,
    *,
    limit: int | None = None,
    left_out_directories: Collection[str] = (),
    left_out_file: str | None = None,
) -> Corpus:
    """List the files below ``root``.

    Symbolic links to directories are listed as files and never followed, so a loop of links ends.

    Args:
        root: the directory to begin with.
        limit: how many files to list at most; ``None`` lists all.
        left_out_directories: names of directories that are not entered, wherever they are.
        left_out_file: real path of one file to leave out, or ``None``.

    Raises:
        OSError: ``root`` is missing, is not a directory or cannot be listed. Directories further
            down that cannot be listed are returned instead.
    """
    unreadable: list[tuple[str, ErrorDescription]] = []
    found = _walk(root, _listed(root), left_out_directories, unreadable)
    kept = (file for file in found if not _is_same_file(file.path, left_out_file))
    # islice takes no number beyond what an index can be.
    files = tuple(islice(kept, None if limit is None else min(limit, sys.maxsize)))
    return Corpus(root, files, tuple(unreadable))


def signature_of(path: str) -> Signature | None:
    """Return numbers that differ once the file at ``path`` was changed or replaced, or ``None``."""
    try:
        facts = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (
        facts.st_mode,
        facts.st_dev,
        facts.st_ino,
        facts.st_size,
        facts.st_mtime_ns,
        facts.st_ctime_ns,
    )


def _walk(
    root: str,
    first: list[tuple[str, bool]],
    left_out_directories: Collection[str],
    unreadable: list[tuple[str, ErrorDescription]],
) -> Iterator[CorpusFile]:
    # Entries still to visit, the next one last. A stack of our own, as a tree may be deeper than
    # the interpreter's stack.
    to_visit = first[::-1]
    while to_visit:
        relative_path, is_directory = to_visit.pop()
        path = str(Path(root, relative_path))
        if not is_directory:
            yield CorpusFile(relative_path, path, signature_of(path))
            continue
        if Path(path).name in left_out_directories:
            continue
        try:
            below = _listed(path)
        except OSError as error:
            unreadable.append((relative_path, describe_error(error)))
            continue
        to_visit.extend((f"{relative_path}/{name}", kind) for name, kind in reversed(below))


def _listed(path: str) -> list[tuple[str, bool]]:
    """Return the names in a directory, each with whether it is a directory to enter, sorted.

    A directory sorts as if its name ended with ``/``: the walk then meets all files in the order
    of their relative paths, and a limit takes the same ones every time.
    """
    with os.scandir(path) as entries:
        listed = [(entry.name, _is_directory(entry)) for entry in entries]
    return sorted(listed, key=lambda item: item[0] + "/" if item[1] else item[0])


def _is_same_file(path: str, left_out: str | None) -> bool:
    # The names are compared first because the real path costs a question for each of its parts.
    return (
        left_out is not None
        and Path(path).name == Path(left_out).name
        and os.path.realpath(path) == left_out
    )


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
