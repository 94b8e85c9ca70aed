"""The nested demo, with small trees."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tokengate_executor import InvalidOptionError
from tokengate_executor.demos.nested import NestedOptions, run_nested
from tokengate_executor.demos.progress import Progress

if TYPE_CHECKING:
    from tokengate_executor.demos.outcome import Outcome
    from tokengate_executor.demos.ways import Shown

OPTIONS = NestedOptions(depth=3, width=2, milliseconds=0.5, timeout=0.3, workers=2, seed=1)


def silent(label: str, total: int) -> Progress:
    """Return a progress that nobody sees."""
    return Progress(None, label, total)


def small(shown: Shown = silent, **said: Any) -> Outcome:
    """Run it."""
    return run_nested(replace(OPTIONS, **said), shown)


def attempt(outcome: Outcome) -> dict[str, Any]:
    """Return what became of ThreadPoolExecutor with few threads."""
    found = outcome.details["thread_pool_with_few_threads"]
    assert isinstance(found, dict)
    return found


def test_the_tree() -> None:
    """How many fork, how many compute."""
    options = replace(OPTIONS, depth=3, width=4)
    assert (options.forks, options.leaves) == (1 + 4 + 16, 64)


@pytest.mark.parametrize(("depth", "width"), [(12, 2), (20, 100), (2, 200)])
def test_a_tree_that_is_too_large(depth: int, width: int) -> None:
    """Is refused before anything is begun."""
    with pytest.raises(InvalidOptionError, match="depth and width must be such that at most"):
        small(depth=depth, width=width)


def test_all_ways_agree_where_a_pool_deadlocks() -> None:
    """The root is the same; with as many threads as the others ThreadPoolExecutor never gets there."""
    outcome = small(timeout=1.0)
    assert outcome.agrees
    assert outcome.failed == 0
    assert [len(run.tasks) for run in outcome.ways] == [15, 15, 15]
    assert [run.workers for run in outcome.ways] == [1, 2 + 7, 2]
    found = attempt(outcome)
    assert found["is_stuck"] is True
    assert found["is_done"] is False
    assert (found["begun"], found["ended"], found["threads"]) == (2, 0, 2)
    assert found["seconds"] >= 1.0
    text = " ".join(" ".join(outcome.lines(80)).split())
    assert "ThreadPoolExecutor with 2 threads, tried separately, is deadlocked: after" in text
    assert "had begun 2 of 15 tasks and ended 0" in text


def test_a_pool_with_enough_threads_comes_to_its_end() -> None:
    """And the report says so."""
    outcome = small(workers=16, timeout=30.0)
    assert outcome.agrees
    found = attempt(outcome)
    assert (found["is_done"], found["is_stuck"]) == (True, False)
    assert (found["begun"], found["ended"]) == (15, 15)
    assert "came to its end after" in " ".join(outcome.lines(80))


def test_a_pool_that_is_only_slow_is_not_called_deadlocked() -> None:
    """Its leaves compute, and the time is over."""
    outcome = small(depth=1, workers=4, milliseconds=60.0, timeout=0.02)
    found = attempt(outcome)
    assert (found["is_done"], found["is_stuck"]) == (False, False)
    assert "and was given up" in " ".join(" ".join(outcome.lines(80)).split())


def test_a_task_that_waits_is_under_way() -> None:
    """So the concurrency ratio of a plain recursion is far above 1, which the report explains."""
    recursion = small().ways[0]
    assert sum(task.seconds for task in recursion.tasks) > 2 * recursion.seconds
    assert recursion.threads == 1


def test_the_seed_decides() -> None:
    """What the leaves compute."""
    digests = [small(seed=seed, depth=1).ways[0].digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_report() -> None:
    """Each thread has a line."""
    lines = small().lines(80)
    assert lines[0] == "NESTED: fork and join, deeper than the workers"
    text = "\n".join(lines)
    assert "15: 7 fork and wait, 8 compute" in text
    assert "\n  thread 1 " in text
    assert "ThreadPoolExecutor has 9 threads in the table" in " ".join(text.split())
    assert max(map(len, lines)) <= 80


def test_a_long_attempt_is_announced() -> None:
    """As nothing ends there, a bar is all that there is to be seen."""
    stream = io.StringIO()

    def shown(label: str, total: int) -> Progress:
        return Progress(stream, label, total, after=600)

    small(shown, workers=16, timeout=30.0)
    assert stream.getvalue().startswith("  0% ThreadPoolExecutor with 16 threads 0/15\n")


def test_an_interruption_during_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadlocked threads end."""
    from tokengate_executor.demos.stage import Stage

    def interrupt(stage: Stage, *_arguments: Any) -> None:
        while sum(task.started > 0 for task in stage.tasks) < 2:
            stage.wait(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(Stage, "wait_for", interrupt)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        small()
    assert set(threading.enumerate()) <= before
