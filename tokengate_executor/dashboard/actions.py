"""What can be done to an executor from outside: a table of actions, their arguments, and what they say.

``ACTIONS`` is all there is. Arguments come from a stranger's JSON: each is checked by its type and its
range before anything is done, and what is wrong is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokengate_executor.dashboard.refusals import (
    BAD_REQUEST,
    CONFLICT,
    GONE,
    NOT_FOUND,
    Refusal,
    refusal_of,
)
from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.policies.limits import RateLimit

if TYPE_CHECKING:
    from tokengate_executor.dashboard.launcher import Launcher
    from tokengate_executor.dashboard.patches import JsonObject
    from tokengate_executor.executor import TokenGateExecutor

__all__ = ["ACTIONS", "Action", "Desk"]

LONGEST_TEXT: Final = 1000
MOST_WORKERS: Final = 10_000
MOST_PERMITS: Final = 1_000_000_000
MOST_SECONDS: Final = 1e9
MOST_LAUNCHES: Final = 1000


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an action.

    Attributes:
        allowed: what it must be, in words.
        is_right: whether a value is that.
        is_needed: whether it must be there.
    """

    allowed: str
    is_right: Callable[[Any], bool]
    is_needed: bool = True


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        return False
    # JSON can spell halves of characters, which nothing else can take.
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _text(*, is_needed: bool = True) -> Argument:
    return Argument(f"a text of 1 to {LONGEST_TEXT} characters", _is_text, is_needed)


def _whole(most: int, *, is_needed: bool = True) -> Argument:
    return Argument(
        f"a whole number from 1 to {most}",
        lambda value: type(value) is int and 1 <= value <= most,
        is_needed,
    )


def _seconds() -> Argument:
    def is_right(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and 0 < value <= MOST_SECONDS

    return Argument(
        f"a number of seconds above 0, at most {MOST_SECONDS:g}", is_right, is_needed=False
    )


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done.

    Attributes:
        arguments: by name.
        run: does it with checked arguments; returns what has happened, in words.
    """

    arguments: Mapping[str, Argument]
    run: Callable[[_Task], str]

    def check(self, name: str, given: Mapping[str, Any]) -> None:
        """See whether the arguments are right.

        Raises:
            Refusal: one is unknown, missing or wrong.
        """
        takes = f"{name} takes {', '.join(self.arguments) or 'no arguments'}"
        for argument in given:
            if argument not in self.arguments:
                raise Refusal(BAD_REQUEST, f"unknown argument {_quoted(argument)}: {takes}")
        for argument, wanted in self.arguments.items():
            if argument not in given:
                if wanted.is_needed:
                    raise Refusal(BAD_REQUEST, f"{argument} is missing: {takes}")
            elif not wanted.is_right(given[argument]):
                raise Refusal(BAD_REQUEST, f"{argument} must be {wanted.allowed}")


@dataclass(frozen=True, slots=True)
class _Task:
    """What one run of an action has at hand."""

    executor: TokenGateExecutor
    launcher: Launcher
    given: JsonObject

    @property
    def operation(self) -> str | None:
        """The operation that is meant; ``None``: all."""
        return self.given.get("operation")


class Desk:
    """Takes orders for one executor, which it does not hold.

    Args:
        executor: a weak reference to it.
        launcher: what may be launched.
        show_texts: whether clients may see what the errors of calls say.
    """

    def __init__(
        self,
        executor: Callable[[], TokenGateExecutor | None],
        launcher: Launcher,
        *,
        show_texts: bool,
    ) -> None:
        self._executor = executor
        self._launcher = launcher
        self._show_texts = show_texts

    def perform(self, name: str, given: JsonObject) -> str:
        """Do it; returns what has happened. May block: not for an event loop's thread.

        Raises:
            Refusal: there is no such action or thing, an argument is wrong, or the executor is in no
                state for it. Whatever else is raised was not to be expected.
        """
        action = ACTIONS.get(name)
        if action is None:
            raise Refusal(NOT_FOUND, f"there is no action {_quoted(name)}")
        action.check(name, given)
        executor = self._executor()
        if executor is None:
            raise Refusal(GONE, "the executor is gone")
        try:
            return action.run(_Task(executor, self._launcher, given))
        except Refusal:
            raise
        except Exception as error:
            refusal = refusal_of(error, show_texts=self._show_texts)
            if refusal is None:
                raise
            raise refusal from error


# -- steering ---------------------------------------------------------------------------------------


def _pause(task: _Task) -> str:
    task.executor.pause(task.operation)
    return f"{task.operation or 'everything'} is paused"


def _resume(task: _Task) -> str:
    task.executor.resume(task.operation)
    return f"{task.operation or 'everything'} goes on"


def _drain(task: _Task) -> str:
    left = len(task.executor.drain(timeout=0).left)
    return f"no more calls are accepted; {_counted(left, 'call')} left to finish"


def _purge(task: _Task) -> str:
    return f"{_counted(task.executor.purge(task.operation), 'waiting call')} cancelled"


def _kill(task: _Task) -> str:
    token_id: str | None = task.given.get("token_id")
    if (token_id is None) == (task.operation is None):
        raise Refusal(BAD_REQUEST, "kill takes token_id or operation, one of them")
    killed = task.executor.kill(token_id, operation=task.operation)
    if token_id is not None and not killed:
        raise Refusal(
            NOT_FOUND, f"no token {_quoted(token_id)} waits, or runs and was not killed yet"
        )
    return f"{_counted(killed, 'token')} killed; those that run end where their calls heed it"


def _resize(task: _Task) -> str:
    wanted: int = task.given["max_workers"]
    task.executor.resize(wanted)
    return f"at most {_counted(wanted, 'call')} at a time from now on"


def _set_limit(task: _Task) -> str:
    name, limit = task.given["name"], task.given["limit"]
    per, burst = task.given.get("per"), task.given.get("burst")
    if burst is not None and per is None:
        raise Refusal(
            BAD_REQUEST, "burst needs per, too: together they are a limit of starts in a time"
        )
    try:
        task.executor.set_limit(name, limit if per is None else RateLimit(limit, per, burst))
    except InvalidOptionError as error:
        # It is named "limit" if there is no such one, and after the limit if it is of the other kind.
        raise Refusal(NOT_FOUND if error.option == "limit" else BAD_REQUEST, str(error)) from error
    return f"{name}: {limit} at once" if per is None else f"{name}: {limit} in {per:g} s"


# -- circuits ---------------------------------------------------------------------------------------


def _open_circuit(task: _Task) -> str:
    operation, seconds = task.given["operation"], task.given.get("seconds")
    task.executor.guard_house.open(operation, seconds)
    how_long = "until it is closed by hand" if seconds is None else f"for {seconds:g} s"
    return f"{operation} is blocked {how_long}"


def _close_circuit(task: _Task) -> str:
    task.executor.guard_house.close(task.given["operation"])
    return f"{task.given['operation']} is let in again"


def _reset_circuit(task: _Task) -> str:
    task.executor.guard_house.reset(task.given["operation"])
    return f"{task.given['operation']} is let in again, and what was is forgotten"


# -- the quarantine, launches -----------------------------------------------------------------------


def _approve(task: _Task) -> str:
    task.executor.quarantine.approve(task.given["id"])
    return f"{task.given['id']} is approved"


def _reject(task: _Task) -> str:
    task.executor.quarantine.reject(task.given["id"])
    return f"{task.given['id']} is rejected"


def _replay(task: _Task) -> str:
    task.executor.quarantine.replay(task.given["id"])
    return f"{task.given['id']} runs again"


def _launch(task: _Task) -> str:
    name, times = task.given["name"], task.given.get("times", 1)
    if name not in task.launcher:
        raise Refusal(NOT_FOUND, f"there is nothing named {_quoted(name)} to launch")
    launched = task.launcher.launch(task.executor, name, times)
    if launched.was_full:
        raise Refusal(
            CONFLICT,
            f"{launched.times} of {_counted(times, 'call')} of {name} launched: too many calls wait "
            "already (max_pending)",
        )
    return f"{_counted(launched.times, 'call')} of {name} launched"


_OPERATION: Final = {"operation": _text()}
_ANY_OPERATION: Final = {"operation": _text(is_needed=False)}
_ID: Final = {"id": _text()}

ACTIONS: Final[Mapping[str, Action]] = {
    "pause": Action(_ANY_OPERATION, _pause),
    "resume": Action(_ANY_OPERATION, _resume),
    "drain": Action({}, _drain),
    "purge": Action(_ANY_OPERATION, _purge),
    "kill": Action({"token_id": _text(is_needed=False), **_ANY_OPERATION}, _kill),
    "open_circuit": Action({**_OPERATION, "seconds": _seconds()}, _open_circuit),
    "close_circuit": Action(_OPERATION, _close_circuit),
    "reset_circuit": Action(_OPERATION, _reset_circuit),
    "set_limit": Action(
        {
            "name": _text(),
            "limit": _whole(MOST_PERMITS),
            "per": _seconds(),
            "burst": _whole(MOST_PERMITS, is_needed=False),
        },
        _set_limit,
    ),
    "resize": Action({"max_workers": _whole(MOST_WORKERS)}, _resize),
    "quarantine_approve": Action(_ID, _approve),
    "quarantine_reject": Action(_ID, _reject),
    "quarantine_replay": Action(_ID, _replay),
    "launch": Action({"name": _text(), "times": _whole(MOST_LAUNCHES, is_needed=False)}, _launch),
}
"""Name → what it does."""


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:97]}...")
