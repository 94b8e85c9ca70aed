"""The mixed demo, with few tasks in a tenth of a second."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor.demos import mixed
from tokengate_executor.demos.mixed import MixedOptions, run_mixed
from tokengate_executor.demos.progress import Progress

if TYPE_CHECKING:
    from tokengate_executor.demos.outcome import Outcome


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let temporary directories lie where they can be counted."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def small(**said: Any) -> Outcome:
    """Run it."""
    options = MixedOptions(tasks=30, seconds=0.1, workers=4, seed=1)
    return run_mixed(replace(options, **said), lambda label, total: Progress(None, label, total))


def test_all_ways_agree(directory: Path) -> None:
    """In what was returned and in what the files hold; and no file is left."""
    outcome = small()
    assert outcome.agrees
    assert outcome.failed == 0
    for run in outcome.ways:
        assert isinstance(run.results, dict)
        assert len(run.results["returned"]) == 30  # type: ignore[arg-type]
        assert len(run.results["files"]) > 5  # type: ignore[arg-type]
        assert len(run.tasks) == 30
    assert list(directory.iterdir()) == []


def test_the_seed_decides() -> None:
    """Which operations come, with which arguments."""
    digests = [small(seed=seed).ways[0].digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_waves() -> None:
    """Fifteen tasks each, the last one what is left; they come closer together at the end."""
    outcome = small(tasks=148)
    assert outcome.details["waves"] == 10
    dues = sorted({task.due for task in outcome.ways[0].tasks})
    assert len(dues) == 10
    assert dues[0] == 0.0
    assert dues[1] - dues[0] > 3 * (dues[-1] - dues[-2])
    assert max(dues) < 0.1


@pytest.mark.parametrize("tasks", [1, 14, 16])
def test_few_tasks(tasks: int) -> None:
    """One wave is no special case; nor is no time at all."""
    assert small(tasks=tasks, seconds=0.0).agrees


def test_the_report() -> None:
    """Latency, operations with bars, lanes."""
    outcome = small()
    lines = outcome.lines(80)
    assert lines[0] == "MIXED ORCHESTRATOR: 30 tasks in 2 waves"
    text = "\n".join(lines)
    assert "Resolved:     30 (100.0 %)" in text
    for words in ("Latency p50:", "Latency p95:", "Latency max:", "Operations dispatched:"):
        assert words in text
    table = [line for line in lines if line.startswith("  append_log_slow")]
    assert "slow" in table[0]
    assert table[0].endswith("█")
    assert max(map(len, lines)) <= 80
    operations = outcome.details["operations"]
    assert isinstance(operations, dict)
    for found in operations.values():
        assert sum(one["tasks"] for one in found.values()) == 30  # type: ignore[union-attr]


def test_an_interruption_leaves_no_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is removed when nobody writes there any more."""

    def interrupt(*_arguments: Any) -> None:
        assert list(directory.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(mixed, "release_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small()
    assert list(directory.iterdir()) == []
