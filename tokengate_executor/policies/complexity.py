"""How much code a function has: a static score from its bytecode, and a level from the score.

The idea, the weights and the bounds of the levels are TokenGate's code inspector's: six measures, each
cut off at the amount that counts as a lot, weighted, and scaled so that most functions score 0 to 100.
It is a measure of text, not of time: ``while True: pass`` is trivial.

The original takes its measures from raw bytecode, whose length changes with every version of Python
although the source does not. Here each measure is taken of what the versions have in common (its 500
bytes are about 100 of the instructions counted here):

========================  ======  =========  ============================================================
measure                   weight  a lot is   what is counted
========================  ======  =========  ============================================================
instructions              0.30    100        those that come from the source: no caches, prefixes, jumps,
                                             moves on the stack; a fused one as those it fuses
stack                     0.20    20         slots of the deepest frame
constants                 0.15    10,000     characters, bytes and items of constants that are loaded;
                                             docstrings are not
names                     0.15    15         distinct globals, attributes and imported modules
loops                     0.10    5          heads of ``for`` loops and targets of jumps back
branches                  0.10    10         conditional jumps
========================  ======  =========  ============================================================

Functions, lambdas and comprehensions inside count as part of the code that has them: from Python 3.12 on
comprehensions are compiled into it anyhow (PEP 709).
"""

from __future__ import annotations

import dis
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial, total_ordering
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, cast

__all__ = ["Complexity", "ComplexityLevel", "code_of", "complexity_of", "complexity_of_code"]


@total_ordering
class ComplexityLevel(Enum):
    """A band of scores; they are ordered, ``UNKNOWN`` below all others."""

    UNKNOWN = 0
    TRIVIAL = 1
    SIMPLE = 2
    MODERATE = 3
    COMPLEX = 4
    EXTREME = 5

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, ComplexityLevel):
            return NotImplemented
        return bool(self.value < other.value)

    def __str__(self) -> str:
        return self.name


LEVELS: Final[tuple[tuple[float, ComplexityLevel], ...]] = (
    (10.0, ComplexityLevel.TRIVIAL),
    (30.0, ComplexityLevel.SIMPLE),
    (60.0, ComplexityLevel.MODERATE),
    (100.0, ComplexityLevel.COMPLEX),
    (math.inf, ComplexityLevel.EXTREME),
)
"""Below which score a level ends."""

_SCALE: Final = 200.0
"""The score of code that has a lot of everything."""

_BOOKKEEPING: Final = frozenset(
    {
        "CACHE",
        "CLEANUP_THROW",
        "COPY",
        "COPY_FREE_VARS",
        "END_FOR",
        "END_SEND",
        "EXTENDED_ARG",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
        "JUMP_FORWARD",
        "KW_NAMES",
        "MAKE_CELL",
        "NOP",
        "NOT_TAKEN",
        "POP_ITER",
        "POP_TOP",
        "PRECALL",
        "PUSH_EXC_INFO",
        "PUSH_NULL",
        "RERAISE",
        "RESUME",
        "RETURN_GENERATOR",
        "SWAP",
        "TO_BOOL",
    }
)
"""Instructions that some version of Python needs and another does not, for the same source."""

_FUSED: Final = ("LOAD_FAST_", "STORE_FAST_")
_FUSES_TWO: Final = ("_LOAD_FAST", "_STORE_FAST", "_LOAD_FAST_BORROW")

_LAYERS: Final = 16
"""How many partials and bound methods may be around a function. A partial can even hold itself."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """How much code a callable has.

    Attributes:
        score: from 0 to 200, rounded to two digits; 0 if the level is ``UNKNOWN``.
        level: the band in which the score lies.
    """

    score: float
    level: ComplexityLevel

    def __str__(self) -> str:
        if self.level is ComplexityLevel.UNKNOWN:
            return "UNKNOWN"
        return f"{self.level} ({self.score:.1f})"


_UNKNOWN: Final = Complexity(0.0, ComplexityLevel.UNKNOWN)


def complexity_of(fn: Callable[..., Any]) -> Complexity:
    """Return how much code a callable has; ``UNKNOWN`` if it has none in Python, or hides it.

    A bound method or a partial goes by its function. Builtins, classes, and objects with a ``__call__``
    are unknown; so are instances of subclasses of `functools.partial`, which may compute their ``func``.
    A decorated function goes by the function that the decorator made. No code of the user's is run.

    Args:
        fn: any object; what cannot be called is unknown too.
    """
    return complexity_of_code(code_of(fn))


def code_of(fn: object) -> CodeType | None:
    """Return the code object by which `complexity_of` goes, or ``None`` if there is none."""
    for _ in range(_LAYERS):
        if type(fn) is FunctionType:
            return fn.__code__
        fn = _wrapped_by(fn)
    return None


def _wrapped_by(fn: object) -> object:
    """What a bound method or a partial calls; ``None`` for anything else."""
    # By exact type: attributes of anything else, even its class, may be computed by its owner.
    if type(fn) is MethodType:
        return fn.__func__
    if type(fn) is partial:
        return cast("partial[object]", fn).func
    return None


def complexity_of_code(code: CodeType | None) -> Complexity:
    """Return how much code a code object is; ``UNKNOWN`` for ``None``.

    The answer is kept for the 1,024 code objects that were last asked for; not for one made by hand with
    constants that cannot be hashed. One that is no valid bytecode is unknown.
    """
    if code is None:
        return _UNKNOWN
    try:
        hash(code)
    except Exception:
        return _measured(code)
    return _kept(code)


def _measured(code: CodeType) -> Complexity:
    try:
        score = _score(code)
    except Exception:
        # Code objects can be made by hand, and then name constants or lines that do not exist.
        return _UNKNOWN
    return Complexity(score, next(level for bound, level in LEVELS if score < bound))


_kept = lru_cache(maxsize=1024)(_measured)


def _score(outermost: CodeType) -> float:
    instructions = stack = constants = loops = branches = 0
    names: set[str] = set()
    pending = [outermost]
    while pending:
        code = pending.pop()
        pending += [const for const in code.co_consts if type(const) is CodeType]
        names.update(code.co_names)
        stack = max(stack, code.co_stacksize)
        shape = _Shape(code)
        instructions += shape.instructions
        constants += shape.constants
        loops += len(shape.loops)
        branches += shape.branches
    parts = (
        (0.30, instructions, 100),
        (0.20, stack, 20),
        (0.15, constants, 10_000),
        (0.15, len(names), 15),
        (0.10, loops, 5),
        (0.10, branches, 10),
    )
    return round(_SCALE * sum(weight * min(has / lot, 1.0) for weight, has, lot in parts), 2)


class _Shape:
    """What is counted in one code object, without those inside."""

    def __init__(self, code: CodeType) -> None:
        self.instructions = 0
        self.branches = 0
        self.loops: set[int] = set()
        loaded: dict[int | None, object] = {}
        lines: dict[int, int | None] = {}
        start: int | None = None  # where the instruction begins, its prefixes included
        previous = ""
        for instruction in dis.get_instructions(code):
            name, offset = instruction.opname, instruction.offset
            line = instruction.positions.lineno if instruction.positions else None
            lines[offset] = line
            if start is None:
                start = offset
            if name == "EXTENDED_ARG":
                continue
            if name not in _BOOKKEEPING:
                self.instructions += 2 if _is_fused(name) else 1
            if instruction.opcode in dis.hasconst:
                loaded[instruction.arg] = instruction.argval
            if name == "FOR_ITER":
                self.loops.add(start)
            elif name.startswith(("POP_JUMP", "JUMP_IF")):
                self.branches += 1
            # Jumps back that are no loops are those of an `await`, which run without interruption or
            # clean up; and that of an exception handler, which lies behind the code that follows its
            # statement, and jumps back to that: its line is before that code's.
            if (
                "JUMP" in name
                and "NO_INTERRUPT" not in name
                and previous != "CLEANUP_THROW"
                and instruction.argval < offset
            ):
                head = lines[instruction.argval]
                if line is None or head is None or head <= line:
                    self.loops.add(instruction.argval)
            start, previous = None, name
        self.constants = sum(_footprint(const) for const in loaded.values())


def _is_fused(name: str) -> bool:
    """Whether an instruction does what two do in other versions."""
    return name == "RETURN_CONST" or (name.startswith(_FUSED) and name.endswith(_FUSES_TWO))


def _footprint(const: object) -> int:
    """Characters, bytes and items. Numbers count nothing: Python 3.14 has most in the instruction."""
    if isinstance(const, str | bytes):
        return len(const)
    if isinstance(const, tuple | frozenset):
        items = cast("tuple[object, ...] | frozenset[object]", const)
        return 8 * len(items) + sum(len(item) for item in items if isinstance(item, str | bytes))
    return 0
