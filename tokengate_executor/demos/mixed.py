"""The mixed demo, or the orchestrator: operations of all kinds, in waves that come faster at the end.

They compute or write files, have weights and storage tiers, and the files that they write are compared,
too. The files lie in a temporary directory that is removed.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Final

from .measures import Spread
from .operations import OPERATIONS, content_of
from .outcome import Outcome
from .releases import Release, release_all
from .sheets import bars, duration, facts, lanes, sparklines
from .stage import Call
from .ways import compared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .stage import Stage
    from .ways import Measured, Shown
    from .work import JsonObject, JsonValue

__all__ = ["MixedOptions", "run_mixed"]

_WAVE: Final = 15
"""So many tasks come together."""

_LAST_SHARE: Final = 0.4
_LAST_TIME: Final = 1 / 6
"""So large a share of the tasks comes in so small a share of the time, at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedOptions:
    """What the mixed demo is asked to do.

    Attributes:
        tasks: how many in all.
        seconds: over which the waves are spread.
        workers: of the executors.
        seed: decides which operations come, with what arguments.
    """

    tasks: int
    seconds: float
    workers: int
    seed: int


def run_mixed(options: MixedOptions, shown: Shown) -> Outcome:
    """Orchestrate the operations, in each way."""
    plan = _plan(options)
    with TemporaryDirectory(prefix="tokengate-demo-") as root:
        directories: list[str] = []

        def job(stage: Stage) -> list[JsonValue]:
            directories.append(mkdtemp(dir=root))
            stage.begin()
            return release_all(stage, _within(directories[-1], plan))

        # The threads of a run have ended when it has: nobody writes any more when this is left.
        runs = compared(job, options.workers, options.tasks, shown)
        ways = [
            replace(run, results={"returned": run.results, "files": content_of(directory)})
            for run, directory in zip(runs, directories, strict=True)
        ]
    ours = ways[-1]

    def body(columns: int) -> list[str]:
        return [
            f"{ours.way}:",
            *facts(_figures(ours, len(plan))),
            "",
            "Operations dispatched:",
            *_operations_table(ours, columns),
            "",
            *lanes(ours),
            "",
            *sparklines(ways, columns),
        ]

    return Outcome(
        demo="mixed",
        title=f"MIXED ORCHESTRATOR: {options.tasks} tasks in {len(plan)} waves",
        about=f"Operations that compute or write files come in waves of {_WAVE} over "
        f"{options.seconds:g} s, {_pace():.1f} times as many at the end as before. They have weights "
        "and storage tiers, which TokenGateExecutor heeds. What the files hold in the end is "
        "compared, too.",
        workers=options.workers,
        options=asdict(options),
        ways=ways,
        body=body,
        paced=plan[-1].at,
        details={
            "waves": len(plan),
            "operations": {run.way: _by_operation_as_json(run) for run in ways},
        },
    )


def _plan(options: MixedOptions) -> list[Release]:
    """Return the waves; their calls lack the directory."""
    source = random.Random(options.seed)
    names = tuple(OPERATIONS)
    calls: list[Call] = []
    for number in range(options.tasks):
        name = source.choice(names)
        operation = OPERATIONS[name]
        arguments = operation.arguments(source, number)
        calls.append(Call(operation.function, arguments, operation.options(name)))
    waves = [tuple(calls[begin : begin + _WAVE]) for begin in range(0, len(calls), _WAVE)]
    moments = _moments(len(waves))
    return [Release(options.seconds * at, wave) for at, wave in zip(moments, waves, strict=True)]


def _moments(waves: int) -> list[float]:
    """Return when each wave comes: from 0 to below 1, closer together at the end."""
    last = round(waves * _LAST_SHARE)
    first = waves - last
    begin = 1 - _LAST_TIME if last else 1.0
    return [
        *(begin * number / first for number in range(first)),
        *(begin + _LAST_TIME * number / last for number in range(last)),
    ]


def _within(directory: str, plan: Sequence[Release]) -> list[Release]:
    return [
        Release(
            release.at,
            tuple(
                Call(call.function, (directory, *call.arguments), call.options)
                for call in release.calls
            ),
        )
        for release in plan
    ]


def _figures(run: Measured, waves: int) -> dict[str, str]:
    latency = run.latency()
    tasks = len(run.tasks)
    resolved = tasks - run.failed
    return {
        "Wall time": duration(run.seconds),
        "Waves": str(waves),
        "Submitted": str(tasks),
        "Resolved": f"{resolved} ({100 * resolved / tasks:.1f} %)",
        "Failed": str(run.failed),
        "Latency p50": duration(latency.p50),
        "Latency p95": duration(latency.p95),
        "Latency max": duration(latency.longest),
    }


def _pace() -> float:
    """Return how much faster the tasks come at the end."""
    return (_LAST_SHARE / _LAST_TIME) / ((1 - _LAST_SHARE) / (1 - _LAST_TIME))


def _by_operation(run: Measured) -> dict[str, list[float]]:
    """Return the task times of each operation, those of the most frequent ones first."""
    times: dict[str, list[float]] = {}
    for task in run.tasks:
        times.setdefault(task.call.operation, []).append(task.seconds)
    return dict(sorted(times.items(), key=lambda item: (-len(item[1]), item[0])))


def _operations_table(run: Measured, columns: int) -> list[str]:
    times = _by_operation(run)
    rows = [
        (
            name,
            OPERATIONS[name].weight,
            OPERATIONS[name].storage or "-",
            duration(Spread.of(took).mean),
            str(len(took)),
        )
        for name, took in times.items()
    ]
    head = ("operation", "weight", "storage", "mean time", "tasks")
    return bars([head, *rows], [len(took) for took in times.values()], columns)


def _by_operation_as_json(run: Measured) -> JsonObject:
    return {
        name: {"tasks": len(took), "seconds": {**asdict(Spread.of(took))}}
        for name, took in _by_operation(run).items()
    }
