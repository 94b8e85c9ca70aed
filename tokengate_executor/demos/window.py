"""The window demo: releases of mixed tasks, at a steady pace, for some seconds.

Releases are due whether or not the earlier ones are done, so a way that cannot keep up falls behind,
and its latencies grow.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from tokengate_executor import TaskOptions

from .made_up import Kind, made_up_call
from .outcome import Outcome
from .releases import Release, count_calls, release_all
from .sheets import duration, facts, lanes, number_of, sparklines, task_figures
from .ways import compared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokengate_executor.policies.weights import Weight

    from .stage import Call, Stage
    from .ways import Shown
    from .work import JsonValue

__all__ = ["WindowOptions", "run_window"]

_MIX: Final[Mapping[Kind, tuple[int, Weight, tuple[float, float]]]] = {
    "python": (4, "light", (0.2, 1.0)),
    "hash": (2, "heavy", (1.0, 4.0)),
    "wait": (2, "medium", (5.0, 40.0)),
}
"""Kind → its share, its weight, and from how many milliseconds to how many it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOptions:
    """What the window demo is asked to do.

    Attributes:
        seconds: for how long releases are due.
        rate: how many of them in a second.
        tasks: in each.
        workers: of the executors.
        seed: decides which tasks come.
    """

    seconds: float
    rate: float
    tasks: int
    workers: int
    seed: int


def run_window(options: WindowOptions, shown: Shown) -> Outcome:
    """Release the tasks at their pace, in each way."""
    releases = _releases(options)
    tasks = count_calls(releases)

    def job(stage: Stage) -> list[JsonValue]:
        return release_all(stage, releases)

    ways = compared(job, options.workers, tasks, shown)
    ours = ways[-1]
    last_due = releases[-1].at

    def body(columns: int) -> list[str]:
        return [
            f"{ours.way}:",
            *facts(
                {
                    "Releases": f"{len(releases)}, the last due after {duration(last_due)}",
                    "Tasks": f"{tasks}, that is {tasks / ours.seconds:.0f} per second",
                    **task_figures(ours),
                }
            ),
            "",
            *lanes(ours),
            "",
            *sparklines(ways, columns),
        ]

    return Outcome(
        demo="window",
        title=f"CONCURRENCY WINDOW: sustained mixed releases ({options.seconds:g} s)",
        about=f"A release of {number_of(options.tasks, 'task')} is due {options.rate:g} times a second, "
        f"whether or not the earlier ones are done: {_mix_in_words()}.",
        workers=options.workers,
        options=asdict(options),
        ways=ways,
        body=body,
        paced=last_due,
        details={"releases": len(releases), "last_due_seconds": last_due},
    )


def _releases(options: WindowOptions) -> list[Release]:
    source = random.Random(options.seed)
    number = max(round(options.seconds * options.rate), 1)
    return [
        Release(index / options.rate, tuple(_call(source) for _ in range(options.tasks)))
        for index in range(number)
    ]


def _call(source: random.Random) -> Call:
    (kind,) = source.choices(tuple(_MIX), [share for share, _weight, _range in _MIX.values()])
    _share, weight, (shortest, longest) = _MIX[kind]
    return made_up_call(
        kind,
        source.randrange(2**32),
        round(source.uniform(shortest, longest), 3),
        TaskOptions(operation=f"window.{kind}", weight=weight),
    )


def _mix_in_words() -> str:
    whole = sum(share for share, _weight, _range in _MIX.values())
    return ", ".join(
        f"{100 * share // whole} % {kind} ({weight}, {shortest:g} to {longest:g} ms)"
        for kind, (share, weight, (shortest, longest)) in _MIX.items()
    )
