"""Made-up work of three kinds, in known amounts: the same arguments do the same on any machine.

* ``python`` computes in Python, and holds the interpreter lock (on builds that have one);
* ``hash`` computes outside of that lock, as compression, hashing and numerical libraries do;
* ``wait`` waits for something that is not there, and computes nothing.

A task that ran for a fixed time instead would always seem to be done in parallel: of tasks that take
turns, each would end on time, with less done.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Literal, get_args

from tokengate_executor import TaskOptions

from .stage import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .stage import Stage

__all__ = ["KINDS", "WHAT_IT_IS", "Kind", "made_up_call"]

Kind = Literal["python", "hash", "wait"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

WHAT_IT_IS: Final[Mapping[Kind, str]] = {
    "python": "Python code, which holds the interpreter lock",
    "hash": "hashing, outside of the interpreter lock",
    "wait": "waiting, which needs no CPU",
}

# As on a server of 2024 with instructions for SHA-256; without them hashing takes a few times as long.
_STEPS_PER_MILLISECOND: Final = 11_000
_ROUNDS_PER_MILLISECOND: Final = 4_300

_MULTIPLIER: Final = 69069
_MASK: Final = 0xFFFFFFFF


def compute(stage: Stage, seed: int, milliseconds: float) -> str:
    """Hold the interpreter lock for about so long: a generator of random numbers, step by step."""
    value = seed
    for steps in _portions(milliseconds, _STEPS_PER_MILLISECOND):
        stage.check()
        for _ in range(steps):
            value = (value * _MULTIPLIER + 1) & _MASK
    return f"{value:08x}"


def digest(stage: Stage, seed: int, milliseconds: float) -> str:
    """Hash for about so long, outside of the interpreter lock."""
    value = b"%d" % seed
    for rounds in _portions(milliseconds, _ROUNDS_PER_MILLISECOND):
        stage.check()
        value = hashlib.pbkdf2_hmac("sha256", value, b"tokengate", rounds)
    return value.hex()[:16]


def pause(stage: Stage, seed: int, milliseconds: float) -> str:
    """Wait for so long."""
    stage.wait(milliseconds / 1000)
    return f"waited {milliseconds:g} ms, {seed}"


_FUNCTIONS: Final[Mapping[Kind, Callable[[Stage, int, float], str]]] = {
    "python": compute,
    "hash": digest,
    "wait": pause,
}


def made_up_call(kind: Kind, seed: int, milliseconds: float, options: TaskOptions) -> Call:
    """Return a call that takes about so long where nothing else runs."""
    return Call(_FUNCTIONS[kind], (seed, milliseconds), options)


def _portions(milliseconds: float, per_millisecond: int) -> list[int]:
    """Share the amount out in portions of two milliseconds, so that a task can be stopped soon."""
    amount = max(round(milliseconds * per_millisecond), 1)
    portion = 2 * per_millisecond
    whole, rest = divmod(amount, portion)
    return [portion] * whole + ([rest] if rest else [])
