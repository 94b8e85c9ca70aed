"""The burst demo, with few and short tasks."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor.demos import burst
from tokengate_executor.demos.burst import BurstOptions, run_burst
from tokengate_executor.demos.progress import Progress

if TYPE_CHECKING:
    from tokengate_executor.demos.outcome import Outcome


def silent(label: str, total: int) -> Progress:
    """Return a progress that nobody sees."""
    return Progress(None, label, total)


def small(**said: Any) -> Outcome:
    """Run it."""
    options = BurstOptions(tasks=4, milliseconds=1.0, work="wait", rounds=1, workers=4, seed=1)
    return run_burst(replace(options, **said), silent)


def test_all_ways_agree() -> None:
    """With each kind of work; the tasks are in their order, whoever came through the barrier first."""
    outcome = small()
    assert outcome.agrees
    assert outcome.failed == 0
    assert set(outcome.others) == {"python", "hash"}
    for run in outcome.ways:
        assert len(run.tasks) == 4
        assert [task.due for task in run.tasks] == [0.0] * 4
    first = [task.call for task in outcome.ways[0].tasks]
    for run in outcome.ways[1:]:
        assert [task.call.arguments for task in run.tasks] == [call.arguments for call in first]


def test_the_seed_decides() -> None:
    """Results, and nothing else, are the same for the same seed."""
    digests = [small(seed=seed).ways[0].digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_tasks_come_together() -> None:
    """None is submitted before all callers are at the barrier, which is the moment 0."""
    outcome = small()
    for run in outcome.ways[1:]:
        assert min(task.submitted for task in run.tasks) >= 0.0
    submitted = [task.submitted for task in outcome.ways[-1].tasks]
    assert outcome.details == {"submit_spread_seconds": max(submitted) - min(submitted)}


def test_the_report() -> None:
    """Each task has a line, and each kind of work."""
    lines = small(work="hash").lines(80)
    text = "\n".join(lines)
    assert lines[0] == "CONCURRENCY BURST: hash x4, released together at a barrier"
    assert "Submit spread (barrier jitter):" in text
    for number in range(4):
        assert f"  task {number:02} " in text
    for kind in ("python (", "hash (", "wait ("):
        assert f"  {kind}" in text
    assert max(map(len, lines)) <= 80


def test_of_several_rounds_the_median_is_shown() -> None:
    """And the results of all of them are compared."""
    outcome = small(rounds=3)
    assert all(isinstance(run.results, list) and len(run.results) == 3 for run in outcome.ways)
    stream = io.StringIO()
    options = BurstOptions(tasks=2, milliseconds=0.1, work="wait", rounds=3, workers=2, seed=1)
    run_burst(options, lambda label, total: Progress(stream, label, total))
    assert stream.getvalue().endswith("100% bursts 54/54\n")


def test_a_caller_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for it at the barrier wait no more, and no thread is left."""

    class Refusing(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            if len(self._threads) == 3:
                raise RuntimeError("can't start new thread")
            return super().submit(*arguments, **named)

    monkeypatch.setattr(burst, "ThreadPoolExecutor", Refusing)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        small()
    assert set(threading.enumerate()) <= before
