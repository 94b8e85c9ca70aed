"""What a person is told; the streams are checked by the corpus demo's own tests."""

from __future__ import annotations

import io
from dataclasses import replace

from tokengate_executor import LaneStatistics
from tokengate_executor.demos.figures import lanes_table, write_notes
from tokengate_executor.demos.report import Comparison
from tokengate_executor.demos.scan import Corpus, CorpusFile


def test_the_table_has_a_line_for_each_lane() -> None:
    """Figures stand under their names; a lane that did nothing divides nothing by zero."""
    busy = LaneStatistics(
        number=1,
        cpus=(0, 1, 2, 8),
        workers=3,
        depth=0,
        executing=0,
        completed=9,
        failed=1,
        killed=0,
        stolen=2,
        started_by_weight={"heavy": 5, "medium": 3, "light": 2, "unweighted": 0},
        busy_seconds=1.5,
        waited_seconds=0.02,
    )
    idle = replace(
        busy, number=2, cpus=(), completed=0, failed=0, started_by_weight={}, waited_seconds=0.0
    )
    head, first, second = lanes_table([busy, idle])
    assert head.split()[:6] == ["lane", "cpus", "workers", "light", "medium", "heavy"]
    assert first.split() == ["1", "0-2,8", "3", "2", "3", "5", "9", "1", "2", "1.50", "2.00"]
    assert second.split()[:2] == ["2", "-"]
    assert len(head) == len(first) == len(second)


def test_columns_can_be_left_out() -> None:
    """The others stay in their order."""
    left_out = ("cpus", "failed", "heavy")
    (head,) = lanes_table([], left_out=left_out)
    (whole,) = lanes_table([])
    assert head.split() == [name for name in whole.split() if name not in left_out]


def test_notes_list_a_few_paths_on_one_line_each() -> None:
    """Many paths are cut short, and a line end within a name does not make a line."""
    files = tuple(CorpusFile(f"{number}\n", "", None) for number in range(9))
    errors = io.StringIO()
    corpus = Corpus("root", files, (("closed", {"type": "PermissionError", "message": ""}),))
    write_notes(errors, corpus, Comparison(tuple(range(9)), ()))
    lines = errors.getvalue().splitlines()
    assert lines[:2] == ["note: directories that could not be listed (1):", "  closed"]
    assert lines[2].startswith("note: files changed or removed")
    assert lines[2].endswith("(9):")
    assert lines[3] == "  0\\n"
    assert lines[-1] == "  and 4 more, see the report"


def test_without_anything_to_note_nothing_is_written() -> None:
    """Agreement is silent."""
    errors = io.StringIO()
    write_notes(errors, Corpus("root", (), ()), Comparison((), ()))
    assert errors.getvalue() == ""
