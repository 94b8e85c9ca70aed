"""The window demo, for a tenth of a second."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tokengate_executor.demos.progress import Progress
from tokengate_executor.demos.window import WindowOptions, run_window

if TYPE_CHECKING:
    from tokengate_executor.demos.outcome import Outcome


def small(**said: Any) -> Outcome:
    """Run it."""
    options = WindowOptions(seconds=0.1, rate=50.0, tasks=3, workers=4, seed=1)
    return run_window(replace(options, **said), lambda label, total: Progress(None, label, total))


def test_all_ways_agree() -> None:
    """Each has the same tasks, due at the same moments."""
    outcome = small()
    assert outcome.agrees
    assert outcome.failed == 0
    assert outcome.details == {"releases": 5, "last_due_seconds": 0.08}
    for run in outcome.ways:
        assert sorted({task.due for task in run.tasks}) == [0.0, 0.02, 0.04, 0.06, 0.08]
        assert len(run.tasks) == 15
        assert run.seconds >= 0.08
        assert all(task.submitted >= task.due for task in run.tasks)


def test_the_seed_decides() -> None:
    """Which tasks come."""
    digests = [small(seed=seed).ways[0].digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_tasks_have_weights() -> None:
    """Which our executor counts by lane."""
    outcome = small(rate=100.0, tasks=8)
    statistics = outcome.ways[-1].statistics
    assert statistics is not None
    started = [
        sum(lane.started_by_weight[name] for lane in statistics.lanes)
        for name in ("light", "medium", "heavy", "unweighted")
    ]
    assert sum(started) == 80
    assert min(started[:3]) > 0
    assert started[3] == 0


def test_the_report() -> None:
    """Releases, lanes, what ended when; that latency counts at a given pace."""
    lines = small().lines(80)
    text = "\n".join(lines)
    assert lines[0] == "CONCURRENCY WINDOW: sustained mixed releases (0.1 s)"
    assert "5, the last due after 80.00 ms" in text
    assert "Lanes for heavy" in text
    assert "Tasks ended, over " in text
    assert "the latency: its median is" in " ".join(text.split())
    assert max(map(len, lines)) <= 80


def test_at_least_one_release() -> None:
    """However short it is."""
    assert small(seconds=0.001, rate=0.1).details["releases"] == 1
