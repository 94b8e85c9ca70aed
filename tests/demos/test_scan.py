"""Listing a tree.

The tests may run as root, whom no permission stops: a directory that cannot be listed is shown by
a patched ``scandir``.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tokengate_executor.demos.scan import scan_tree, signature_of


def make_tree(root: Path, *names: str) -> None:
    """Make an empty file for each name below ``root``."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative_paths(root: Path, **options: Any) -> list[str]:
    """Return the relative paths that a scan finds."""
    return [file.relative_path for file in scan_tree(str(root), **options).files]


def test_files_come_sorted_by_relative_path(tmp_path: Path) -> None:
    """Directories are entered where their paths sort, so the order is that of the whole paths."""
    names = ["a-b", "a.py", "a/z/y", "a/b", "a0", "b", "Z/1"]
    make_tree(tmp_path, *names)
    assert relative_paths(tmp_path) == sorted(names)


def test_a_limit_takes_the_first_files(tmp_path: Path) -> None:
    """The same files are taken every time."""
    make_tree(tmp_path, "c", "a/1", "a/2", "b")
    assert relative_paths(tmp_path, limit=3) == ["a/1", "a/2", "b"]
    assert relative_paths(tmp_path, limit=10**30) == ["a/1", "a/2", "b", "c"]


def test_left_out_directories_and_the_left_out_file_are_not_listed(tmp_path: Path) -> None:
    """Names of directories count anywhere in the tree, the file counts by its real path."""
    make_tree(tmp_path, "keep/report", "keep/cache/x", "cache/y", "report", "file")
    assert relative_paths(
        tmp_path,
        left_out_directories={"cache", "file"},
        left_out_file=os.path.realpath(tmp_path / "report"),
    ) == ["file", "keep/report"]


def test_links_to_directories_are_listed_and_not_followed(tmp_path: Path) -> None:
    """A loop of links ends the scan no later than a tree without one."""
    make_tree(tmp_path, "sub/file")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to("self")
    assert relative_paths(tmp_path) == ["self", "sub/file", "sub/loop"]


def test_a_deep_tree_is_no_matter(tmp_path: Path) -> None:
    """A tree deeper than the interpreter's stack is walked to its end."""
    directories = [str(tmp_path) + "/d" * depth for depth in range(1, 1501)]
    for directory in directories:
        Path(directory).mkdir()
    try:
        corpus = scan_tree(str(tmp_path))
    finally:
        # Removed here, level by level: what removes test directories recurses.
        for directory in reversed(directories):
            Path(directory).rmdir()
    assert corpus.files == ()
    assert corpus.unreadable_directories == ()


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_root_that_is_no_directory_raises(tmp_path: Path, name: str) -> None:
    """The root is what the user named, so its fault is an error and no row."""
    make_tree(tmp_path, "file")
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the parameter
        scan_tree(str(tmp_path / name))


def test_directories_that_cannot_be_listed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the tree is listed all the same."""
    make_tree(tmp_path, "closed/x", "open/y")
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if path.endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    corpus = scan_tree(str(tmp_path))
    assert [file.relative_path for file in corpus.files] == ["open/y"]
    assert corpus.unreadable_directories == (
        ("closed", {"type": "PermissionError", "message": "Permission denied"}),
    )


def test_a_signature_changes_with_the_file(tmp_path: Path) -> None:
    """Other content and removal are both seen."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    before = signature_of(str(path))
    path.write_bytes(b"22")
    after = signature_of(str(path))
    path.unlink()
    assert len({before, after, signature_of(str(path))}) == 3
    assert signature_of(str(path)) is None
