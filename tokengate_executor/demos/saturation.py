"""The saturation demo: more tasks at once than there are workers, so that the later ones wait."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tokengate_executor import TaskOptions

from .made_up import WHAT_IT_IS, Kind, made_up_call
from .outcome import Outcome
from .releases import Release, release_all
from .sheets import duration, facts, number_of, timeline
from .ways import PLAIN_LOOP, THREAD_POOL, compared, token_gate

if TYPE_CHECKING:
    from .stage import Call, Stage
    from .ways import Measured, Shown
    from .work import JsonObject, JsonValue

__all__ = ["SaturationOptions", "run_saturation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationOptions:
    """What the saturation demo is asked to do.

    Attributes:
        tasks: how many come at once.
        seconds: about how long each takes alone.
        work: of which kind it is.
        max_pending: how many may wait in our executor before ``submit`` does; ``None``: any number.
        workers: of the executors.
        seed: decides what is computed.
    """

    tasks: int
    seconds: float
    work: Kind
    max_pending: int | None
    workers: int
    seed: int


def run_saturation(options: SaturationOptions, shown: Shown) -> Outcome:
    """Overfill the workers, in each way."""
    release = Release(0.0, _calls(options))

    def job(stage: Stage) -> list[JsonValue]:
        return release_all(stage, [release])

    ways = (PLAIN_LOOP, THREAD_POOL, token_gate(max_pending=options.max_pending))
    runs = compared(job, options.workers, options.tasks, shown, ways, slow=options.seconds > 1)
    ours = runs[-1]

    def body(columns: int) -> list[str]:
        return [
            f"{ours.way}:",
            *facts(_figures(ours)),
            "",
            f"Task by task, over {duration(ours.seconds)} (· waits, █ runs):",
            *timeline(
                [
                    (f"task {number:02} {duration(task.latency):>9}", [task])
                    for number, task in enumerate(ours.tasks)
                ],
                ours.seconds,
                columns,
            ),
            "",
            _pushed_back(options),
        ]

    return Outcome(
        demo="saturation",
        title="SERIES SATURATION: more tasks than workers",
        about=f"{number_of(options.tasks, 'task')} of about {options.seconds:g} s each "
        f"({WHAT_IT_IS[options.work]}) come at once. The first occupy the workers, the others wait for "
        "their turn.",
        workers=options.workers,
        options=asdict(options),
        ways=runs,
        body=body,
        details={run.way: _resolutions(run) for run in runs},
    )


def _calls(options: SaturationOptions) -> tuple[Call, ...]:
    source = random.Random(options.seed)
    return tuple(
        made_up_call(
            options.work,
            source.randrange(2**32),
            1000 * options.seconds,
            TaskOptions(operation="saturation.series_long", weight="heavy"),
        )
        for _ in range(options.tasks)
    )


def _submitting(run: Measured) -> float:
    """How long it took until the last call had been taken."""
    return max(task.accepted for task in run.tasks)


def _figures(run: Measured) -> dict[str, str]:
    resolved = run.latency()
    return {
        "Submitting all took": duration(_submitting(run)),
        "Earliest resolution": duration(resolved.shortest),
        "Latest resolution": duration(resolved.longest),
        "Spread of resolution times": duration(resolved.longest - resolved.shortest),
        "Mean task": duration(run.task_seconds().mean),
        "Wall time": duration(run.seconds),
    }


def _resolutions(run: Measured) -> JsonObject:
    resolved = run.latency()
    return {
        "submitting_seconds": _submitting(run),
        "earliest_resolution_seconds": resolved.shortest,
        "latest_resolution_seconds": resolved.longest,
        "spread_seconds": resolved.longest - resolved.shortest,
    }


def _pushed_back(options: SaturationOptions) -> str:
    if options.max_pending is None:
        return "Nothing pushed back: all were accepted at once. Try --max-pending 4."
    return f"At most {options.max_pending} might wait: submit itself waited for room for more."
