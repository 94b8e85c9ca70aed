"""The demos beside corpus, as commands: what arguments they take, and how these get to them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from tokengate_executor.cli_arguments import decimal_number, whole_number
from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.terminal_text import complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from .outcome import Outcome
    from .ways import Shown

__all__ = ["COMMANDS", "Command", "fill_command"]

_WRONG_USE: Final = 2

_WORK: Final = ("python", "hash", "wait")
_MOST_TASKS: Final = 100_000
_MOST_WORKERS: Final = 256


class Command(NamedTuple):
    """A demo beside corpus.

    Attributes:
        help: what it does.
        more: what else is to be known of it.
        fill: gives its parser the arguments that others do not have, or have with other defaults.
        workers: how many, by default.
        run: from the arguments to what it came to.
    """

    help: str
    more: str
    fill: Callable[[argparse.ArgumentParser], None]
    workers: int
    run: Callable[[argparse.Namespace, Shown], Outcome]


def fill_command(parser: argparse.ArgumentParser, command: Command) -> None:
    """Give the parser of a demo its arguments; it sets ``run``, a function to the exit status."""
    parser.description = f"{command.help[0].upper()}{command.help[1:]}. {command.more}"
    command.fill(parser)
    _add_common(parser, command.workers)
    parser.set_defaults(run=_shown(command.run))


def _add_common(parser: argparse.ArgumentParser, workers: int) -> None:
    parser.epilog = (
        "exit status: 0 if all ways came to the same, 1 if they did not or a task failed, 2 if the "
        "plot cannot be written, 130 after Ctrl-C"
    )
    _add_count(parser, "--workers", workers, _MOST_WORKERS, "workers of each executor")
    parser.add_argument(
        "--seed",
        metavar="N",
        type=whole_number(0),
        default=1,
        help="what is computed; the same for the same seed (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="write the report as one JSON object, and nothing else"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="write throughput and latency over time there, as an SVG, over an earlier one",
    )
    parser.add_argument("--no-progress", action="store_true", help="show no progress")


def _add_count(
    parser: argparse.ArgumentParser, name: str, default: int, most: int, help_: str
) -> None:
    parser.add_argument(
        name,
        metavar="N",
        type=whole_number(1, most),
        default=default,
        help=f"{help_}, 1 to {most} (default: %(default)s)",
    )


def _add_number(
    parser: argparse.ArgumentParser,
    name: str,
    default: float,
    bounds: tuple[float, float],
    help_: str,
) -> None:
    least, most = bounds
    parser.add_argument(
        name,
        metavar="N",
        type=decimal_number(least, most),
        default=default,
        help=f"{help_}, {least:g} to {most:g} (default: %(default)g)",
    )


def _add_work(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument(
        "--work", choices=_WORK, default="hash", help=f"{help_} (default: %(default)s)"
    )


def _shown(
    run: Callable[[argparse.Namespace, Shown], Outcome],
) -> Callable[[argparse.Namespace], int]:
    def run_it(arguments: argparse.Namespace) -> int:
        # Only when it is run: the other commands do without.
        from .showing import Showing, run_and_show  # noqa: PLC0415

        showing = Showing(
            as_json=arguments.json,
            plot=arguments.plot,
            show_progress=not arguments.no_progress,
        )
        try:
            return run_and_show(
                lambda shown: run(arguments, shown), showing, sys.stdout, sys.stderr
            )
        except InvalidOptionError as error:
            complain(error)
            return _WRONG_USE

    return run_it


def _fill_burst(parser: argparse.ArgumentParser) -> None:
    _add_count(parser, "--tasks", 8, 256, "tasks that come together")
    _add_number(
        parser, "--milliseconds", 8, (0.01, 10_000), "about how long each takes, in milliseconds"
    )
    _add_count(parser, "--rounds", 3, 1000, "bursts of each kind of work, in each way")
    _add_work(parser, "the kind of work that is shown task by task")


def _burst(arguments: argparse.Namespace, shown: Shown) -> Outcome:
    from .burst import BurstOptions, run_burst  # noqa: PLC0415

    options = BurstOptions(
        tasks=arguments.tasks,
        milliseconds=arguments.milliseconds,
        work=arguments.work,
        rounds=arguments.rounds,
        workers=arguments.workers,
        seed=arguments.seed,
    )
    return run_burst(options, shown)


def _fill_window(parser: argparse.ArgumentParser) -> None:
    _add_number(parser, "--seconds", 4, (0.01, 3600), "for how many seconds releases come")
    _add_number(parser, "--rate", 40, (0.1, 1000), "releases per second")
    _add_count(parser, "--tasks", 8, 256, "tasks in each release")


def _window(arguments: argparse.Namespace, shown: Shown) -> Outcome:
    from .window import WindowOptions, run_window  # noqa: PLC0415

    options = WindowOptions(
        seconds=arguments.seconds,
        rate=arguments.rate,
        tasks=arguments.tasks,
        workers=arguments.workers,
        seed=arguments.seed,
    )
    return run_window(options, shown)


def _fill_saturation(parser: argparse.ArgumentParser) -> None:
    _add_count(parser, "--tasks", 20, 1000, "tasks that come at once")
    _add_number(parser, "--seconds", 0.2, (0.0001, 60), "about how many seconds each takes")
    _add_work(parser, "the kind of work")
    parser.add_argument(
        "--max-pending",
        metavar="N",
        type=whole_number(1, _MOST_TASKS),
        help="how many may wait in TokenGateExecutor before submit does (default: any number)",
    )


def _saturation(arguments: argparse.Namespace, shown: Shown) -> Outcome:
    from .saturation import SaturationOptions, run_saturation  # noqa: PLC0415

    options = SaturationOptions(
        tasks=arguments.tasks,
        seconds=arguments.seconds,
        work=arguments.work,
        max_pending=arguments.max_pending,
        workers=arguments.workers,
        seed=arguments.seed,
    )
    return run_saturation(options, shown)


def _fill_chains(parser: argparse.ArgumentParser) -> None:
    _add_count(parser, "--tasks", 4, 256, "chains")
    _add_count(parser, "--steps", 8, 1000, "steps of each")
    _add_number(
        parser, "--milliseconds", 15, (0.01, 10_000), "about how long a step takes, in milliseconds"
    )


def _chains(arguments: argparse.Namespace, shown: Shown) -> Outcome:
    from .chains import ChainsOptions, run_chains  # noqa: PLC0415

    options = ChainsOptions(
        tasks=arguments.tasks,
        steps=arguments.steps,
        milliseconds=arguments.milliseconds,
        workers=arguments.workers,
        seed=arguments.seed,
    )
    return run_chains(options, shown)


def _fill_nested(parser: argparse.ArgumentParser) -> None:
    _add_count(parser, "--depth", 6, 20, "how often tasks fork, from the root to a leaf")
    _add_count(parser, "--width", 2, 100, "into how many tasks each forks")
    _add_number(
        parser, "--milliseconds", 4, (0.01, 10_000), "about how long a leaf takes, in milliseconds"
    )
    _add_number(
        parser, "--timeout", 1, (0.01, 600), "seconds that ThreadPoolExecutor has with N threads"
    )


def _nested(arguments: argparse.Namespace, shown: Shown) -> Outcome:
    from .nested import NestedOptions, run_nested  # noqa: PLC0415

    options = NestedOptions(
        depth=arguments.depth,
        width=arguments.width,
        milliseconds=arguments.milliseconds,
        timeout=arguments.timeout,
        workers=arguments.workers,
        seed=arguments.seed,
    )
    return run_nested(options, shown)


def _fill_mixed(parser: argparse.ArgumentParser) -> None:
    _add_count(parser, "--tasks", 1500, _MOST_TASKS, "operations in all")
    _add_number(parser, "--seconds", 5, (0, 3600), "over how many seconds the waves come")


def _mixed(arguments: argparse.Namespace, shown: Shown) -> Outcome:
    from .mixed import MixedOptions, run_mixed  # noqa: PLC0415

    options = MixedOptions(
        tasks=arguments.tasks,
        seconds=arguments.seconds,
        workers=arguments.workers,
        seed=arguments.seed,
    )
    return run_mixed(options, shown)


COMMANDS: Final[Mapping[str, Command]] = {
    "burst": Command(
        "tasks that are released together at a barrier",
        "Done with three kinds of work: Python code, hashing outside of the interpreter lock, waiting.",
        _fill_burst,
        8,
        _burst,
    ),
    "window": Command(
        "releases of mixed tasks, at a steady pace, for some seconds",
        "A way that cannot keep up falls behind.",
        _fill_window,
        8,
        _window,
    ),
    "saturation": Command(
        "more tasks at once than there are workers",
        "The first occupy the workers, the others wait: see the spread of the resolution times.",
        _fill_saturation,
        4,
        _saturation,
    ),
    "chains": Command(
        "chains that begin together, with the steps of each in their order",
        "TokenGateExecutor keeps the order by a key for each chain.",
        _fill_chains,
        4,
        _chains,
    ),
    "nested": Command(
        "fork and join, deeper than there are workers",
        "ThreadPoolExecutor deadlocks there, which is tried, with a timeout.",
        _fill_nested,
        2,
        _nested,
    ),
    "mixed": Command(
        "operations that compute or write files, in waves that come faster at the end",
        "They have weights and storage tiers. The files lie in a temporary directory that is removed.",
        _fill_mixed,
        8,
        _mixed,
    ),
}
"""Name → what it is."""
