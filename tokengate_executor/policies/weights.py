"""Weights, and the affinity policy that says which lanes each weight may use.

A weight is what the caller says about the cost of a call: ``"heavy"``, ``"medium"`` or ``"light"``;
``None`` means unweighted. A lane is the group of workers of one core; lanes are numbered from 1.

The staggered default comes from TokenGate's core affinity policy: medium work never enters lane 1
and light work never enters lanes 1 and 2, so cheap calls cannot queue in front of the heaviest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeGuard, cast

__all__ = ["WEIGHTS", "AffinityPolicy", "Weight", "unknown_weight_message"]

Weight = Literal["heavy", "medium", "light"]

WEIGHTS: tuple[Weight, ...] = ("heavy", "medium", "light")


@dataclass(frozen=True, slots=True, kw_only=True)
class AffinityPolicy:
    """Which lanes each weight may use, in order of preference.

    Args:
        lanes: number of lanes, at least 1.
        heavy: lane numbers for heavy calls, each from 1 to ``lanes``, the preferred lane first.
        medium: the same for medium calls.
        light: the same for light calls.

    Unweighted calls may use every lane and need no entry.

    Raises:
        TypeError: ``lanes`` or a lane number is not an int (a bool is not one), or the lanes of a
            weight are not a tuple.
        ValueError: ``lanes`` is below 1; the lanes of a weight are empty, repeated, or outside
            1 to ``lanes``.
    """

    lanes: int
    heavy: tuple[int, ...]
    medium: tuple[int, ...]
    light: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_number_of_lanes(self.lanes)
        _check_preference("heavy", self.heavy, self.lanes)
        _check_preference("medium", self.medium, self.lanes)
        _check_preference("light", self.light, self.lanes)

    @classmethod
    def staggered(cls, lanes: int) -> AffinityPolicy:
        """Return the default policy: heavy from lane 1, medium from lane 2, light from lane 3.

        A weight whose first lane does not exist uses the lanes of the next heavier weight: with
        2 lanes, medium and light share lane 2; with 1 lane, everything is on lane 1.

        Args:
            lanes: number of lanes, at least 1.

        Raises:
            TypeError: ``lanes`` is not an int.
            ValueError: ``lanes`` is below 1.
        """
        _check_number_of_lanes(lanes)
        heavy = tuple(range(1, lanes + 1))
        medium = heavy[1:] or heavy
        light = heavy[2:] or medium
        return cls(lanes=lanes, heavy=heavy, medium=medium, light=light)

    @classmethod
    def isolated(cls, lanes: int) -> AffinityPolicy:
        """Return a policy that keeps lanes free of heavier calls, so that these cannot hold up lighter.

        Heavy calls never use the last two lanes and medium calls never the last one; with 2 lanes,
        both keep out of lane 2. Light calls prefer the last lane, which is theirs, and medium ones
        the last they may use; when these are busy they borrow from the heavier ones' lanes. So
        however many heavy calls wait, a worker of the last lane is there for light ones only.
        Unweighted calls may still use every lane: give those that may come in floods a weight.

        The idea is resource isolation by bulkheads: a flood fills its own compartment, no other.

        Args:
            lanes: number of lanes, at least 2.

        Raises:
            TypeError: ``lanes`` is not an int.
            ValueError: ``lanes`` is below 2, so there is nothing to keep apart.
        """
        _check_number_of_lanes(lanes)
        if lanes < 2:
            raise ValueError(f"lanes must be at least 2 to keep weights apart, got {lanes}")
        light = tuple(range(lanes, 0, -1))
        medium = light[1:]
        heavy = tuple(range(1, max(1, lanes - 2) + 1))
        return cls(lanes=lanes, heavy=heavy, medium=medium, light=light)

    def lanes_for(self, weight: Weight | None) -> tuple[int, ...]:
        """Return the lanes a call of ``weight`` may use, the preferred lane first.

        Args:
            weight: one of `WEIGHTS`, or None for an unweighted call, which may use every lane.

        Raises:
            ValueError: ``weight`` is anything else.
        """
        match weight:
            case None:
                return tuple(range(1, self.lanes + 1))
            case "heavy":
                return self.heavy
            case "medium":
                return self.medium
            case "light":
                return self.light
            case _:
                raise ValueError(unknown_weight_message(weight))

    def weights_of(self, lane: int) -> tuple[Weight, ...]:
        """Return the weights that may run on ``lane``, heaviest first; possibly none.

        Unweighted calls may run on every lane and are not listed.

        Args:
            lane: a lane number, from 1 to ``lanes``.

        Raises:
            TypeError: ``lane`` is not an int.
            ValueError: ``lane`` is outside 1 to ``lanes``.
        """
        _check_lane("lane", lane, self.lanes)
        return tuple(weight for weight in WEIGHTS if lane in self.lanes_for(weight))

    def __str__(self) -> str:
        lines = [f"Affinity policy for {self.lanes} {'lane' if self.lanes == 1 else 'lanes'}:"]
        for weight in WEIGHTS:
            allowed = self.lanes_for(weight)
            label = f"{weight}:".ljust(len("medium:"))
            lines.append(f"  {label} {list(allowed)} (preferred: {allowed[0]})")
        return "\n".join(lines)


def unknown_weight_message(given: object) -> str:
    """Return the error text for a value that is not a weight: what is allowed, what was given."""
    allowed = ", ".join(repr(weight) for weight in WEIGHTS)
    return f"weight must be one of {allowed} or None, got {given!r}"


def _is_int(given: object) -> TypeGuard[int]:
    return isinstance(given, int) and not isinstance(given, bool)


def _check_number_of_lanes(given: object) -> None:
    if not _is_int(given):
        raise TypeError(f"lanes must be an int of at least 1, got {given!r}")
    if given < 1:
        raise ValueError(f"lanes must be at least 1, got {given}")


def _check_lane(argument: str, given: object, lanes: int) -> None:
    if not _is_int(given):
        raise TypeError(f"{argument} must be an int from 1 to {lanes}, got {given!r}")
    if not 1 <= given <= lanes:
        raise ValueError(f"{argument} must be from 1 to {lanes}, got {given}")


def _check_preference(weight: Weight, given: object, lanes: int) -> None:
    # Strictly a tuple: a list would make the frozen policy changeable and unhashable.
    if not isinstance(given, tuple):
        raise TypeError(
            f"{weight} must be a tuple of lane numbers from 1 to {lanes}, got {given!r}"
        )
    preference = cast("tuple[object, ...]", given)
    if not preference:
        raise ValueError(f"{weight} must name at least one lane from 1 to {lanes}, got ()")
    for lane in preference:
        if not _is_int(lane):
            raise TypeError(
                f"{weight} must hold ints from 1 to {lanes}, got {lane!r} in {preference!r}"
            )
        if not 1 <= lane <= lanes:
            raise ValueError(
                f"{weight} must hold lanes from 1 to {lanes}, got {lane} in {preference!r}"
            )
    if len(set(preference)) < len(preference):
        raise ValueError(f"{weight} must name each lane once, got {preference!r}")
