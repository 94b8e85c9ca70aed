"""How large a call is, by its arguments, and whether that is unusual for its operation.

The idea is TokenGate's spike detector: before it runs, a call that is 50 % over its operation's usual is
for review, one that is 200 % over is for quarantine. The original judged the bytecode of the function,
which is the same in every call of it, so nothing ever spiked. Here the arguments are judged, or what the
user's ``cost=`` says of them.

The usual is an interquartile mean: the mean of the middle half of the last costs. Up to a quarter of
them may be as wild as they like at either end and do not move it out of the range of the others (Huber,
*Robust Statistics*, on trimmed means), and it makes more of few samples than the median does.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, Final, Literal, cast

from tokengate_executor.errors import InvalidOptionError

__all__ = ["CALL_COST", "CostHistory", "Finding", "SpikePolicy", "Verdict", "estimate"]

CALL_COST: Final = 16.0
"""The cost of a call without arguments: against it, a few items more or less are nothing."""

LARGEST_COST: Final = 1e100
"""No cost is larger: sums and products of a few such are still floats."""

_LOOKED_INTO: Final = 64
"""How many arguments of a call are looked at."""

_SAMPLED: Final = 16
"""How many items of an argument are looked at, for the size of all."""

_TOLERANCE: Final = 1e-9
"""Floats make 0.3 a little less than 200 % over 0.1."""


class Finding(Enum):
    """What is to be done with a call."""

    NORMAL = "normal"
    REVIEW = "review"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikePolicy:
    """When a call is too large for its operation, and what becomes of it.

    Args:
        review_at: by how much of the usual its cost is over it, for the call to be reviewed: 0.5 is
            50 % over. At least 0.
        quarantine_at: the same for it to be held or refused, at least ``review_at``.
        min_samples: how many costs of the operation must be known before any is judged.
        samples: how many of the last ones are remembered, at least ``min_samples``.
        action: ``"hold"``: the call is held until a person approves or rejects it. ``"refuse"``: it is
            refused at once.
        cost: called with a call's arguments, returns its cost: a number of at least 0, in any unit.
            ``None``: `estimate`.

    Raises:
        InvalidOptionError: an argument is out of its range or of the wrong type.
    """

    review_at: float = 0.5
    quarantine_at: float = 2.0
    min_samples: int = 5
    samples: int = 64
    action: Literal["hold", "refuse"] = "hold"
    cost: Callable[..., float] | None = None

    def __post_init__(self) -> None:
        if not (_is_number(self.review_at) and self.review_at >= 0):
            raise InvalidOptionError("review_at", self.review_at, "a finite number of at least 0")
        if not (_is_number(self.quarantine_at) and self.quarantine_at >= self.review_at):
            raise InvalidOptionError(
                "quarantine_at",
                self.quarantine_at,
                f"a finite number of at least review_at ({self.review_at:g})",
            )
        if not _is_count(self.min_samples):
            raise InvalidOptionError("min_samples", self.min_samples, "an int of at least 1")
        if not (_is_count(self.samples) and self.samples >= self.min_samples):
            raise InvalidOptionError(
                "samples", self.samples, f"an int of at least min_samples ({self.min_samples})"
            )
        if self.action not in ("hold", "refuse"):
            raise InvalidOptionError("action", self.action, "'hold' or 'refuse'")
        if self.cost is not None and not callable(self.cost):
            raise InvalidOptionError("cost", self.cost, "a callable or None")

    def cost_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
        """Return the cost of a call with these arguments: what ``cost`` says, else `estimate`.

        Raises:
            InvalidOptionError: ``cost`` returned something else than a number of at least 0.
            BaseException: whatever ``cost`` raises.
        """
        if self.cost is None:
            return estimate(args, kwargs)
        said = cast("object", self.cost(*args, **kwargs))
        if not isinstance(said, int | float) or isinstance(said, bool) or not said >= 0:
            raise InvalidOptionError("cost", said, "a function that returns a number of at least 0")
        return float(min(said, LARGEST_COST))

    def __str__(self) -> str:
        deed = "held" if self.action == "hold" else "refused"
        return (
            f"Spikes: {self.review_at * 100:.4g} % over the usual is reviewed, "
            f"{self.quarantine_at * 100:.4g} % over is {deed}; "
            f"the usual is that of the last {self.samples} calls, and known from {self.min_samples} on"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a call's cost is, beside the usual.

    Attributes:
        finding: what is to be done with the call.
        over: by how much of the usual the cost is over it: 2.0 is 200 % over; negative below it. 0 if
            the usual is not known.
        cost: the call's cost.
        usual: the robust mean of the operation's costs; ``None`` if too few are known.
    """

    finding: Finding
    over: float
    cost: float
    usual: float | None

    def __str__(self) -> str:
        if self.usual is None:
            return f"{self.finding.value}: cost {self.cost:.6g}, too few samples to judge"
        side = "over" if self.over >= 0 else "under"
        return (
            f"{self.finding.value}: cost {self.cost:.6g} is {abs(self.over) * 100:.4g} % {side} "
            f"the usual {self.usual:.6g}"
        )


class CostHistory:
    """The last costs of one operation.

    Whoever shares it holds a lock. Only costs of calls that ran belong in it, or were approved: those of
    refused and rejected ones would make the next of their kind look usual.

    Args:
        samples: how many are remembered, at least 1.

    Raises:
        InvalidOptionError: ``samples`` is not an int of at least 1.
    """

    __slots__ = ("_costs", "_usual")

    def __init__(self, samples: int = 64) -> None:
        if not _is_count(samples):
            raise InvalidOptionError("samples", samples, "an int of at least 1")
        self._costs: deque[float] = deque(maxlen=samples)
        self._usual: float | None = None  # of these costs; None: not worked out since the last one

    def __len__(self) -> int:
        return len(self._costs)

    def add(self, cost: float) -> None:
        """Remember a cost: a number of at least 0, as `SpikePolicy.cost_of` returns it."""
        self._costs.append(cost)
        self._usual = None

    def usual(self) -> float | None:
        """Return the mean of the middle half of the costs; ``None`` if there are none."""
        if self._usual is None and self._costs:
            trimmed = len(self._costs) // 4
            middle = sorted(self._costs)[trimmed : len(self._costs) - trimmed]
            mean = math.fsum(middle) / len(middle)
            # Rounded, the mean of equal numbers can lie beside them.
            self._usual = min(max(mean, middle[0]), middle[-1])
        return self._usual

    def judge(self, cost: float, policy: SpikePolicy) -> Verdict:
        """Compare a call's cost with the usual; the history stays as it is.

        If the usual is 0 there are no percentages of it. A cost is then as far over it as it would be
        over nothing by the measure of `CALL_COST`: 8 is 50 % over, 32 is 200 % over.
        """
        usual = self.usual()
        if usual is None or len(self._costs) < policy.min_samples:
            return Verdict(Finding.NORMAL, 0.0, cost, None)
        # A quotient of the smallest and the largest floats would not be finite.
        over = min((cost - usual) / (usual or CALL_COST), LARGEST_COST)
        if over > 0 and over >= policy.quarantine_at - _TOLERANCE:
            finding = Finding.QUARANTINE
        elif over > 0 and over >= policy.review_at - _TOLERANCE:
            finding = Finding.REVIEW
        else:
            finding = Finding.NORMAL
        return Verdict(finding, over, cost, usual)


def estimate(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Return the size of a call, cheaply: `CALL_COST`, and what its arguments add to that.

    - A string, ``bytes`` or ``bytearray``: its length.
    - A number: its magnitude, the absolute value; it may say how much to do. ``bool`` and NaN: nothing.
    - A list, tuple, set, frozenset or dict: its number of items, and the sizes of strings and containers
      among them, which are judged by 16 of them at most. Numbers inside are data: each is one item.
    - A range: about its length.
    - Anything else: its ``nbytes``, else its ``len()``, else nothing. If asking raises, or ``nbytes`` is
      no number, it counts as nothing. Asking can run code of the argument's class.

    Only exact built-in types are looked into, and no deeper than containers in containers. At most 64
    positional arguments and 64 others are looked at; the rest are taken to be like them.

    The sizes are added up, so an identifier or a time stamp among the arguments can outweigh the
    others: such operations need a ``cost`` of their own.

    Args:
        args: the positional arguments of the call.
        kwargs: its keyword arguments.

    Returns:
        A finite number from 16 to about 1e100; larger ones are cut off.
    """
    count = len(args) + len(kwargs)
    looked_at = [*_spread(args, _LOOKED_INTO), *islice(kwargs.values(), _LOOKED_INTO)]
    sizes = [_size_of_argument(value) for value in looked_at]
    return min(CALL_COST + _scaled(sizes, count), LARGEST_COST)


def _size_of_argument(value: object) -> float:
    kind = type(value)
    if kind is int:
        return float(min(abs(cast("int", value)), int(LARGEST_COST)))
    if kind is float or kind is complex:
        number = cast("complex", value)
        # Not abs(): that of a complex number can be too large for a float, and raises.
        return _cut(math.hypot(number.real, number.imag))
    return _size(value, 2)


def _size(value: object, depth: int) -> float:
    """The size of something with a length, or of nothing; ``depth`` more containers are looked into."""
    kind = type(value)
    if kind in _PLAIN:
        return 0.0
    if kind is str or kind is bytes or kind is bytearray:
        return float(len(cast("str | bytes | bytearray", value)))
    if kind in _CONTAINERS:
        container = cast("Collection[object]", value)
        length = len(container)
        if not depth:
            return float(length)
        items = _sample(container)
        if kind is dict:
            pairs = cast("list[tuple[object, object]]", items)
            sizes = [_size(key, depth - 1) + _size(value, depth - 1) for key, value in pairs]
        else:
            sizes = [_size(item, depth - 1) for item in items]
        return _cut(length + _scaled(sizes, length))
    if kind is range:
        numbers = cast("range", value)  # its len() raises if it is too large for the machine
        distance, step = abs(numbers.stop - numbers.start), abs(numbers.step)
        return _cut(min(distance // step, int(LARGEST_COST))) if numbers else 0.0
    return _size_of_object(value)


def _size_of_object(value: object) -> float:
    """What an object of any other type says of itself."""
    try:
        # Asked of the type first: some objects make up every attribute, at a cost, when asked.
        if hasattr(type(value), "nbytes"):
            said: object = cast("Any", value).nbytes
            # Exact: subclasses of numbers can compare as they like.
            if type(said) is int or type(said) is float:
                return _cut(said)
        if hasattr(type(value), "__len__"):
            return _cut(len(cast("Collection[object]", value)))
    except Exception:
        # It has no length after all, or not now, or one too large for `len`. Not BaseException: Ctrl-C.
        return 0.0
    return 0.0


def _sample(container: Collection[object]) -> list[object]:
    """Some of the items; those of a sequence from all over it, those of a dict in pairs."""
    match container:
        case list() | tuple():
            return _spread(container, _SAMPLED)
        case dict():
            items: Iterable[object] = cast("dict[object, object]", container).items()
        case _:
            items = container
    try:
        return list(islice(items, _SAMPLED))
    except RuntimeError:
        return []  # another thread changes it; its length is known at least


def _spread(items: list[object] | tuple[object, ...], most: int) -> list[object]:
    return list(items[:: max(1, math.ceil(len(items) / most))])


def _scaled(sizes: list[float], count: int) -> float:
    """The sum for ``count`` things of which some have these sizes."""
    total = math.fsum(sizes)
    return total if len(sizes) == count or not sizes else total / len(sizes) * count


def _cut(size: float) -> float:
    """A size as a float from 0 to the largest cost; NaN and what is below 0 is nothing."""
    return float(min(size, LARGEST_COST)) if size > 0 else 0.0


_PLAIN: Final = frozenset({type(None), bool, int, float, complex})
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset, dict})


def _is_number(given: object) -> bool:
    """Whether it is finite; a bool is no number."""
    if not isinstance(given, int | float) or isinstance(given, bool):
        return False
    return abs(given) <= sys.float_info.max  # an int can be larger than any float


def _is_count(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given >= 1
