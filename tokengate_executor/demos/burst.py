"""The burst demo: tasks that are released together at a barrier.

As many threads as there are tasks wait at a barrier, and each then submits one, so that all come within
a fraction of a millisecond. The burst is done with each kind of made-up work, and of each way the burst
of median wall time counts.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from tokengate_executor import TaskOptions

from .figures import aligned
from .made_up import KINDS, WHAT_IT_IS, Kind, made_up_call
from .measures import concurrency_ratio
from .outcome import Outcome
from .releases import outcome_of
from .sheets import duration, facts, number_of, task_figures, timeline
from .ways import WAYS, measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from .progress import Progress
    from .stage import Call, Stage
    from .ways import Measured, Shown
    from .work import JsonValue

__all__ = ["BurstOptions", "run_burst"]

_SHORTLY: Final[Mapping[Kind, str]] = {
    "python": "Python code",
    "hash": "C, without GIL",
    "wait": "no CPU",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstOptions:
    """What the burst demo is asked to do.

    Attributes:
        tasks: how many come together.
        milliseconds: about how long each takes alone.
        work: of which kind the tasks are that are shown one by one.
        rounds: how many bursts of each kind, in each way.
        workers: of the executors.
        seed: decides what is computed, and how much each task's length differs.
    """

    tasks: int
    milliseconds: float
    work: Kind
    rounds: int
    workers: int
    seed: int


def run_burst(options: BurstOptions, shown: Shown) -> Outcome:
    """Do the bursts, each kind of work in each way."""
    bursts = len(KINDS) * options.rounds * len(WAYS)
    with shown("bursts", bursts * options.tasks) as progress:
        found = {str(kind): _bursts(_calls(kind, options), options, progress) for kind in KINDS}
    ways = found.pop(options.work)
    ours = ways[-1]
    submitted = [task.submitted for task in ours.tasks]
    spread = max(submitted) - min(submitted)
    label = WHAT_IT_IS[options.work]

    def body(columns: int) -> list[str]:
        names = {f"task {number:02}": task for number, task in enumerate(ours.tasks)}
        return [
            f"{ours.way}:",
            *facts({"Submit spread (barrier jitter)": duration(spread), **task_figures(ours)}),
            "",
            f"Task by task, over {duration(ours.seconds)} (· waits, █ runs):",
            *timeline(
                [(f"{name} {duration(task.seconds):>9}", [task]) for name, task in names.items()],
                ours.seconds,
                columns,
            ),
            "",
            "The same burst with each kind of work: speed-up (concurrency ratio)",
            *_kinds_table({str(options.work): ways, **found}),
        ]

    return Outcome(
        demo="burst",
        title=f"CONCURRENCY BURST: {options.work} x{options.tasks}, released together at a barrier",
        about=f"{number_of(options.tasks, 'task')} of about {options.milliseconds:g} ms each ({label}) "
        f"come at once. Of {number_of(options.rounds, 'burst')}, that of median wall time is shown.",
        workers=options.workers,
        options=asdict(options),
        ways=ways,
        body=body,
        details={"submit_spread_seconds": spread},
        others=found,
    )


def _calls(kind: Kind, options: BurstOptions) -> list[Call]:
    source = random.Random(options.seed)
    # Some per cent longer or shorter: equal tasks that take turns would end at the same moment.
    return [
        made_up_call(
            kind,
            source.randrange(2**32),
            round(options.milliseconds * source.uniform(0.95, 1.05), 3),
            TaskOptions(operation=f"burst.{kind}"),
        )
        for _ in range(options.tasks)
    ]


def _bursts(
    calls: Sequence[Call], options: BurstOptions, progress: Progress
) -> tuple[Measured, ...]:
    """Return for each way the burst of median wall time, with the results of all of them."""

    def job(stage: Stage) -> list[JsonValue]:
        return _release_together(stage, calls)

    # Way after way in each round, so that what else the machine does meets all of them.
    rounds = [
        [measured(way, options.workers, job, progress) for way in WAYS]
        for _ in range(options.rounds)
    ]
    return tuple(_median(runs) for runs in zip(*rounds, strict=True))


def _median(runs: Sequence[Measured]) -> Measured:
    by_time = sorted(runs, key=lambda run: run.seconds)
    return replace(by_time[len(runs) // 2], results=[run.results for run in runs])


def _release_together(stage: Stage, calls: Sequence[Call]) -> list[JsonValue]:
    if stage.runs_in_place:
        return [outcome_of(stage, stage.submit(call, due=0.0)) for call in calls]
    barrier = threading.Barrier(len(calls), action=stage.begin)

    def submit(call: Call) -> Future[JsonValue]:
        barrier.wait()
        return stage.submit(call, due=0.0)

    with ThreadPoolExecutor(len(calls)) as callers:
        try:
            submitting = [callers.submit(submit, call) for call in calls]
            futures = [stage.result_of(one) for one in submitting]
        except BaseException:
            barrier.abort()  # those that wait there would wait for ever
            raise
    # In the order of the calls, and not in that in which the threads came through.
    numbers = {id(call): number for number, call in enumerate(calls)}
    stage.tasks.sort(key=lambda task: numbers[id(task.call)])
    return [outcome_of(stage, future) for future in futures]


def _kinds_table(found: Mapping[str, Sequence[Measured]]) -> list[str]:
    ways = found[KINDS[0]]
    rows = [("", *(run.way for run in ways))]
    for kind in KINDS:
        loop = found[kind][0]
        rows.append(
            (
                f"{kind} ({_SHORTLY[kind]})",
                *(
                    f"{loop.seconds / run.seconds:.2f} "
                    f"({concurrency_ratio(run.spans, run.seconds):.2f})"
                    for run in found[kind]
                ),
            )
        )
    return [f"  {line}" for line in aligned(rows)]
