"""The chains demo, with short steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tokengate_executor.demos.chains import ChainsOptions, run_chains, steps_out_of_order
from tokengate_executor.demos.progress import Progress

if TYPE_CHECKING:
    from tokengate_executor.demos.outcome import Outcome

WAYS = ("plain loop", "ThreadPoolExecutor", "TokenGateExecutor")


def small(**said: Any) -> Outcome:
    """Run it."""
    options = ChainsOptions(tasks=3, steps=5, milliseconds=1.0, workers=3, seed=1)
    return run_chains(replace(options, **said), lambda label, total: Progress(None, label, total))


def test_all_ways_agree() -> None:
    """Each chain comes to the same, so each step went on from the one before it."""
    outcome = small()
    assert outcome.agrees
    assert outcome.failed == 0
    assert outcome.details["steps_out_of_order"] == dict.fromkeys(WAYS, 0)
    chains = outcome.details["chains"]
    assert isinstance(chains, list)
    assert len({str(state) for state in chains}) == 3
    assert [len(run.tasks) for run in outcome.ways] == [15, 15, 15]


def test_many_workers_change_nothing() -> None:
    """Steps of one chain never run together, however many could."""
    many = small(tasks=2, steps=30, milliseconds=0.2, workers=16)
    assert many.agrees
    assert many.details["steps_out_of_order"] == dict.fromkeys(WAYS, 0)


def test_a_step_that_is_too_early_is_found() -> None:
    """Ending the one before it later makes it so."""
    run = small().ways[0]
    assert steps_out_of_order(run) == 0
    first = run.tasks[0]
    late = replace(first, ended=run.seconds + 1)
    assert steps_out_of_order(replace(run, tasks=[late, *run.tasks[1:]])) == 1


def test_a_step_is_due_when_the_one_before_it_has_ended() -> None:
    """In every way, whenever it was submitted; the first steps are due at once."""
    for run in small().ways:
        dues = sorted(task.due for task in run.tasks)
        assert dues[:3] == [0.0, 0.0, 0.0]
        assert min(dues[3:]) > 0
        assert all(task.latency >= task.seconds for task in run.tasks)


def test_the_seed_decides() -> None:
    """What the chains come to."""
    digests = [small(seed=seed).ways[0].digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_report() -> None:
    """What each chain came to, and its steps in their order."""
    outcome = small(steps=3, milliseconds=4.0)
    lines = outcome.lines(80)
    assert lines[0].startswith("PARALLEL CHAINS: ")
    text = "\n".join(lines)
    assert f"  Chain 3:  {outcome.details['chains'][2]}" in text  # type: ignore[index,call-overload]
    drawn = [line for line in lines if line.startswith("  chain ")]
    assert len(drawn) == 3
    for line in drawn:
        steps = [sign for sign in line.split("  ", 2)[2] if sign.isdigit()]
        assert steps == sorted(steps)
    assert "had ended: 0" in text
    assert max(map(len, lines)) <= 80
