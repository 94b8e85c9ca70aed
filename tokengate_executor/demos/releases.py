"""Calls that are due at given moments, whether or not earlier ones have ended.

A caller who waits for an answer before the next question goes slower when the answers do, and never
learns how long others would have waited. Here the moments are fixed beforehand, and a task that is
begun late has been waiting since it was due.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .stage import StoppedError
from .text import describe_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from .stage import Call, Stage
    from .work import JsonValue

__all__ = ["Release", "count_calls", "outcome_of", "release_all"]


@dataclass(frozen=True, slots=True)
class Release:
    """Calls that are due together, so many seconds after the beginning."""

    at: float
    calls: tuple[Call, ...]


def count_calls(releases: Sequence[Release]) -> int:
    """Return how many calls there are in all."""
    return sum(len(release.calls) for release in releases)


def release_all(stage: Stage, releases: Sequence[Release]) -> list[JsonValue]:
    """Make each call when it is due, or as soon after as the way allows.

    Returns:
        what each came to, in the order of the calls.
    """
    outcomes: list[JsonValue] = []
    in_flight: deque[Future[JsonValue]] = deque()
    for release in releases:
        stage.wait_until(release.at)
        for call in release.calls:
            in_flight.append(stage.submit(call, due=release.at))
        while in_flight and in_flight[0].done():
            outcomes.append(outcome_of(stage, in_flight.popleft()))
    while in_flight:
        outcomes.append(outcome_of(stage, in_flight.popleft()))
    return outcomes


def outcome_of(stage: Stage, future: Future[JsonValue]) -> JsonValue:
    """Wait for a call, and return its result or what is wrong.

    Raises:
        StoppedError: the run has been interrupted.
    """
    try:
        return stage.result_of(future)
    except StoppedError:
        raise
    except Exception as error:  # every way to fail is an outcome, to be compared with the others'
        return {"error": {**describe_error(error)}}
