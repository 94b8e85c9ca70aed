"""The nested demo: fork and join, deeper than there are workers.

A task forks tasks and waits for them, and each of these does the same, down to leaves that compute. The
tasks that wait hold their threads: a pool with fewer threads than that never gets to the leaves.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tokengate_executor import InvalidOptionError, TaskOptions

from .made_up import made_up_call
from .outcome import Outcome
from .sheets import duration, facts, number_of, paragraph, task_figures, timeline
from .stage import Call, Stage
from .ways import PLAIN_LOOP, THREAD_POOL, compared, token_gate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from .stage import Task
    from .ways import Measured, Shown
    from .work import JsonValue

__all__ = ["NestedOptions", "run_nested"]

_MOST_TASKS: Final = 20_000
_MOST_FORKS: Final = 1_000
"""ThreadPoolExecutor needs a thread for each task that waits, and a machine has only so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedOptions:
    """What the nested demo is asked to do.

    Attributes:
        depth: how often tasks fork, from the root to a leaf.
        width: into how many tasks each forks.
        milliseconds: about how long a leaf takes.
        timeout: for how many seconds ThreadPoolExecutor is given as many threads as the others.
        workers: of the executors.
        seed: decides what the leaves compute.

    Raises:
        InvalidOptionError: the tree would have too many tasks.
    """

    depth: int
    width: int
    milliseconds: float
    timeout: float
    workers: int
    seed: int

    def __post_init__(self) -> None:
        if self.forks > _MOST_FORKS or self.forks + self.leaves > _MOST_TASKS:
            allowed = (
                f"such that at most {_MOST_TASKS} tasks are there, and {_MOST_FORKS} that fork"
            )
            raise InvalidOptionError("depth and width", (self.depth, self.width), allowed)

    @property
    def leaves(self) -> int:
        """How many tasks compute."""
        return int(self.width**self.depth)

    @property
    def forks(self) -> int:
        """How many tasks fork and wait."""
        return sum(self.width**level for level in range(self.depth))


@dataclass(frozen=True, slots=True)
class Tree:
    """What all tasks of a run share.

    Attributes:
        options: how the tree grows.
        waiting: the tasks that wait for those that they forked, and what they wait for.
    """

    options: NestedOptions
    waiting: dict[tuple[int, int], Sequence[Future[JsonValue]]] = field(
        default_factory=dict[tuple[int, int], "Sequence[Future[JsonValue]]"]
    )

    def call(self, level: int, number: int) -> Call:
        """Return the call of one task: how deep it is, and which of its level."""
        said = TaskOptions(operation="nested.fork" if level < self.options.depth else "nested.leaf")
        return Call(_grow, (self, level, number), said)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of ThreadPoolExecutor with as many threads as the others have.

    Attributes:
        seconds: until it had ended, or was given up.
        begun, ended: tasks that had, by then.
        is_done: whether all was done.
        is_stuck: whether every thread waited for tasks that none was left to run.
    """

    seconds: float
    begun: int
    ended: int
    is_done: bool
    is_stuck: bool


def run_nested(options: NestedOptions, shown: Shown) -> Outcome:
    """Fork and join, in each way; and let ThreadPoolExecutor try with too few threads."""
    tasks = options.leaves + options.forks
    attempt = _attempt(options, shown)
    ways = (PLAIN_LOOP, replace(THREAD_POOL, more_workers=options.forks), token_gate())

    def job(stage: Stage) -> JsonValue:
        return stage.result_of(stage.submit(Tree(options).call(0, 0)))

    runs = compared(job, options.workers, tasks, shown, ways)
    ours = runs[-1]

    def body(columns: int) -> list[str]:
        return [
            f"{ours.way}, {number_of(options.workers, 'worker')}:",
            *facts(
                {
                    "Tasks": f"{tasks}: {options.forks} fork and wait, {options.leaves} compute",
                    **task_figures(ours),
                    "Root of the hash tree": str(ours.results)[:32],
                }
            ),
            "",
            f"Thread by thread, over {duration(ours.seconds)} (how deep the task is that has it):",
            *_threads(ours, columns),
            "",
            *paragraph(_in_words(attempt, options), columns),
        ]

    return Outcome(
        demo="nested",
        title="NESTED: fork and join, deeper than the workers",
        about=f"A task forks {options.width}, waits for them and hashes what they came to; so do "
        f"these, {options.depth} levels down to leaves of about {options.milliseconds:g} ms. The plain "
        "loop is a plain recursion here. ThreadPoolExecutor has "
        f"{number_of(options.workers + options.forks, 'thread')} in the table, as it needs one for each "
        "task that waits. A task that waits counts as under way, so even the recursion has a "
        "concurrency ratio far above 1.",
        workers=options.workers,
        options=asdict(options),
        ways=runs,
        body=body,
        details={"thread_pool_with_few_threads": {**asdict(attempt), "threads": options.workers}},
    )


def _grow(stage: Stage, tree: Tree, level: int, number: int) -> str:
    """Fork, wait and join; or compute, at the leaves."""
    options = tree.options
    if level == options.depth:
        said = TaskOptions()
        leaf = made_up_call("hash", options.seed * 1_000_003 + number, options.milliseconds, said)
        return str(leaf.function(stage, *leaf.arguments))
    below = [
        stage.submit(tree.call(level + 1, number * options.width + index))
        for index in range(options.width)
    ]
    tree.waiting[level, number] = below
    try:
        parts = [str(one.result()) for one in below]
    finally:
        del tree.waiting[level, number]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _attempt(options: NestedOptions, shown: Shown) -> Attempt:
    """Let ThreadPoolExecutor try with as many threads as the others have workers."""
    tree = Tree(options)
    executor = ThreadPoolExecutor(options.workers)
    with shown(_few_threads(options), options.leaves + options.forks) as progress:
        if options.timeout > 1:
            progress.show()
        stage = Stage(executor, progress)
        try:
            root = stage.submit(tree.call(0, 0))
            stage.wait_for(root, options.timeout)
            begun = sum(task.started > 0 for task in stage.tasks)
            ended = sum(task.ended > 0 for task in stage.tasks)
            waiting = [*tree.waiting.values()]
            return Attempt(
                seconds=stage.now(),
                begun=begun,
                ended=ended,
                is_done=root.done(),
                # Each thread has a task that waits for one that has not ended: none can go on.
                is_stuck=begun - ended == options.workers == len(waiting)
                and all(not all(one.done() for one in below) for below in waiting),
            )
        finally:
            # Those that wait wake up when what they wait for is cancelled.
            stage.stop()
            executor.shutdown(cancel_futures=True)


def _few_threads(options: NestedOptions) -> str:
    return f"ThreadPoolExecutor with {number_of(options.workers, 'thread')}"


def _in_words(attempt: Attempt, options: NestedOptions) -> str:
    tasks = options.leaves + options.forks
    who = _few_threads(options)
    if attempt.is_done:
        return f"{who}, tried separately, came to its end after {duration(attempt.seconds)}."
    if attempt.is_stuck:
        return (
            f"{who}, tried separately, is deadlocked: after {duration(attempt.seconds)} it had begun "
            f"{attempt.begun} of {tasks} tasks and ended {attempt.ended}, and each of its threads "
            "waited for tasks that no thread was left to run. It was given up."
        )
    return (
        f"{who}, tried separately, had ended {attempt.ended} of {tasks} tasks after "
        f"{duration(attempt.seconds)}, and was given up."
    )


def _threads(run: Measured, columns: int) -> list[str]:
    """Return a line for each thread that ran tasks, the first to begin above."""
    by_thread: dict[int, list[Task]] = {}
    for task in sorted(run.tasks, key=lambda task: task.started):
        by_thread.setdefault(task.thread, []).append(task)
    rows = [(f"thread {number + 1}", tasks) for number, tasks in enumerate(by_thread.values())]
    return timeline(_without_due(rows), run.seconds, columns, mark=_level)


def _without_due(
    rows: Sequence[tuple[str, Sequence[Task]]],
) -> list[tuple[str, list[Task]]]:
    # While it waited a task was on no thread.
    return [(name, [replace(task, due=task.started) for task in tasks]) for name, tasks in rows]


def _level(task: Task) -> str:
    return str(task.call.arguments[1] % 10)
