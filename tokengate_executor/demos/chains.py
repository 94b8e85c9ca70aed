"""The chains demo: chains begin together, and the steps of each run in their order.

With a ``key`` for each chain all steps can be submitted as they come. ``ThreadPoolExecutor`` has no such
thing: there a chain is one task that does its steps in turn, for which all of them must be known.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tokengate_executor import TaskOptions

from .made_up import KINDS, made_up_call
from .outcome import Outcome
from .releases import outcome_of
from .sheets import duration, facts, number_of, task_figures, timeline
from .stage import Call
from .ways import compared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .stage import Stage, Task
    from .ways import Measured, Shown
    from .work import JsonValue

__all__ = ["ChainsOptions", "run_chains"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainsOptions:
    """What the chains demo is asked to do.

    Attributes:
        tasks: how many chains there are.
        steps: of each.
        milliseconds: about how long a step takes on average.
        workers: of the executors.
        seed: decides what the steps are.
    """

    tasks: int
    steps: int
    milliseconds: float
    workers: int
    seed: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain: which, and what it does."""

    chain: int
    number: int
    work: Call


def run_chains(options: ChainsOptions, shown: Shown) -> Outcome:
    """Run the chains, in each way."""
    chains = _chains(options)

    def job(stage: Stage) -> list[JsonValue]:
        return _run_all(stage, chains)

    ways = compared(job, options.workers, options.tasks * options.steps, shown)
    ours = ways[-1]
    late = {run.way: steps_out_of_order(run) for run in ways}

    def body(columns: int) -> list[str]:
        return [
            f"{ours.way}:",
            *facts(task_figures(ours)),
            "",
            "What the chains came to (each step hashes what the one before it left):",
            *facts({f"Chain {n + 1}": f"{state}" for n, state in enumerate(_states(ours))}),
            "",
            f"Chain by chain, over {duration(ours.seconds)} (· waits, a digit is the step that runs):",
            *timeline(
                [(f"chain {n + 1}", tasks) for n, tasks in enumerate(_by_chain(ours.tasks))],
                ours.seconds,
                columns,
                mark=lambda task: str(_step_of(task).number % 10),
            ),
            "",
            f"Steps that began before the one before them had ended: {late[ours.way]}",
        ]

    return Outcome(
        demo="chains",
        title="PARALLEL CHAINS: concurrent entry, ordered steps within each chain",
        about=f"{number_of(options.tasks, 'chain')} of {number_of(options.steps, 'step')}, of about "
        f"{options.milliseconds:g} ms each. To TokenGateExecutor all steps are submitted at once, with "
        "a key for each chain. ThreadPoolExecutor has no keys: there each chain is one task that does "
        "its steps in turn.",
        workers=options.workers,
        options=asdict(options),
        ways=ways,
        body=body,
        details={"steps_out_of_order": {**late}, "chains": _states(ours)},
    )


def steps_out_of_order(run: Measured) -> int:
    """Return how many steps began before the one before them in their chain had ended."""
    return sum(
        later.started < earlier.ended
        for chain in _by_chain(run.tasks)
        for earlier, later in pairwise(chain)
    )


def _chains(options: ChainsOptions) -> list[list[Call]]:
    source = random.Random(options.seed)
    return [
        [_step(chain, number, options, source) for number in range(options.steps)]
        for chain in range(options.tasks)
    ]


def _step(chain: int, number: int, options: ChainsOptions, source: random.Random) -> Call:
    kind = source.choice(KINDS)
    milliseconds = round(options.milliseconds * source.uniform(0.3, 1.7), 3)
    said = TaskOptions(operation=f"chains.{kind}", key=("chain", chain))
    work = made_up_call(kind, source.randrange(2**32), milliseconds, said)
    return Call(_take_step, (Step(chain, number, work),), said)


def _run_all(stage: Stage, chains: Sequence[Sequence[Call]]) -> list[JsonValue]:
    states: dict[int, str] = {}
    bound = [
        [Call(call.function, (*call.arguments, states), call.options) for call in chain]
        for chain in chains
    ]
    if stage.keeps_keys_in_order:
        # The first steps of all, then the second ones: they come in between one another.
        steps = [stage.submit(call) for calls in zip(*bound, strict=True) for call in calls]
        for step in steps:
            outcome_of(stage, step)
    else:
        whole = [stage.submit_plain(_run_chain, stage, chain) for chain in bound]
        for one in whole:
            stage.result_of(one)
    _set_turns(stage.tasks)
    return [states.get(chain) for chain in range(len(chains))]


def _run_chain(stage: Stage, chain: Sequence[Call]) -> None:
    for call in chain:
        stage.run_here(call)


def _take_step(stage: Stage, step: Step, states: dict[int, str]) -> str:
    """Do the step's work, and go on from what the step before has left.

    The state is read before the work and written after it: a step that did not wait for the one before
    would go on from an old state, and what the chain comes to would be another.
    """
    before = states.get(step.chain, "")
    found = step.work.function(stage, *step.work.arguments)
    after = hashlib.sha256(f"{before} {step.number} {found}".encode()).hexdigest()[:16]
    states[step.chain] = after
    return after


def _step_of(task: Task) -> Step:
    step = task.call.arguments[0]
    assert isinstance(step, Step)
    return step


def _by_chain(tasks: Iterable[Task]) -> list[list[Task]]:
    """Return the tasks of each chain, in the order of their steps."""
    chains: dict[int, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: (_step_of(task).chain, _step_of(task).number)):
        chains.setdefault(_step_of(task).chain, []).append(task)
    return [*chains.values()]


def _set_turns(tasks: Iterable[Task]) -> None:
    """A step is due when the one before it has ended, whenever it was submitted."""
    for chain in _by_chain(tasks):
        chain[0].due = 0.0
        for earlier, later in pairwise(chain):
            later.due = earlier.ended


def _states(run: Measured) -> list[JsonValue]:
    assert isinstance(run.results, list)
    return run.results
