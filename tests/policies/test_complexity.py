"""The static score of code: what it measures, what it does not, and that versions of Python agree."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import CodeType, MethodType
from typing import Any

import pytest

from tokengate_executor.policies.complexity import (
    LEVELS,
    Complexity,
    ComplexityLevel,
    complexity_of,
    complexity_of_code,
)


def nothing() -> None:
    """Do nothing."""


def documented() -> None:
    """Do nothing, as all functions do that are there for the sake of their documentation only."""


def branching(number: int) -> str:
    """Have branches."""
    if number < 0:
        return "negative"
    if number == 0:
        return "zero"
    return "odd" if number % 2 else "even"


def looping(rows: list[list[int]]) -> int:
    """Have loops."""
    total = 0
    for row in rows:
        for cell in row:
            if cell > 0:
                total += cell
    while total > 100:
        total -= 10
    return total


def handling(path: str) -> str:
    """Have exception handlers."""
    try:
        text = path.strip()
    except ValueError:
        text = ""
    except TypeError:
        text = "?"
    return text.upper()


def comprehending(rows: list[list[int]]) -> dict[int, list[str]]:
    """Have comprehensions."""
    names = [str(len(row)) for row in rows if row]
    return {index: sorted(names) for index in {len(row) for row in rows}}


async def awaiting(source: Any) -> list[Any]:
    """Have every kind of await."""
    found = []
    async with source as items:
        async for item in items:
            found.append(await item)  # noqa: PERF401
    return found


def large(settings: dict[str, Any], lines: list[str]) -> dict[str, Any]:  # noqa: C901
    """Have a lot of everything."""
    result: dict[str, Any] = {}
    for number, line in enumerate(lines):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, found, value = stripped.partition("=")
        if not found:
            raise ValueError(f"line {number}: no equals sign in {line!r}")
        if value.isdigit():
            result[key.lower()] = int(value)
        elif value.lower() in {"yes", "no"}:
            result[key.lower()] = value.lower() == "yes"
        elif value.startswith("[") and value.endswith("]"):
            result[key.lower()] = [part.strip() for part in value[1:-1].split(",")]
        else:
            result[key.lower()] = value
    for name, default in settings.items():
        while name not in result:
            result.setdefault(name, default)
    for name in list(result):
        for other in settings:
            if other.casefold() == name.casefold() and other != name:
                result[other] = result.pop(name)
    return dict(sorted(result.items(), key=lambda pair: (len(pair[0]), pair[0])))


def score(fn: Callable[..., Any]) -> float:
    """The score of a function."""
    return complexity_of(fn).score


def test_levels_are_ordered() -> None:
    """The levels go from trivial to extreme, and unknown is below them all."""
    assert sorted(ComplexityLevel) == list(ComplexityLevel)
    assert ComplexityLevel.UNKNOWN < ComplexityLevel.TRIVIAL < ComplexityLevel.EXTREME
    assert ComplexityLevel.COMPLEX >= ComplexityLevel.MODERATE
    assert [level for _, level in LEVELS] == list(ComplexityLevel)[1:]
    with pytest.raises(TypeError):
        assert ComplexityLevel.SIMPLE < 3


def test_text() -> None:
    """It is printed as its level and its score, or as unknown."""
    assert str(Complexity(44.46, ComplexityLevel.MODERATE)) == "MODERATE (44.5)"
    assert str(complexity_of(len)) == "UNKNOWN"
    assert f"{ComplexityLevel.EXTREME}" == "EXTREME"


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        pytest.param(nothing, 3.2, id="nothing"),
        pytest.param(branching, 22, id="branches"),
        pytest.param(looping, 41, id="loops"),
        pytest.param(handling, 35, id="handlers"),
        pytest.param(comprehending, 62.5, id="comprehensions"),
        pytest.param(awaiting, 48, id="awaits"),
        pytest.param(large, 144, id="a long function"),
    ],
)
def test_versions_of_python_agree(fn: Callable[..., Any], expected: float) -> None:
    """The same source has about the same score, whichever version has compiled it."""
    assert score(fn) == pytest.approx(expected, rel=0.1, abs=3)


@pytest.mark.parametrize(
    ("fn", "level"),
    [
        pytest.param(nothing, ComplexityLevel.TRIVIAL, id="nothing"),
        pytest.param(branching, ComplexityLevel.SIMPLE, id="branches"),
        pytest.param(looping, ComplexityLevel.MODERATE, id="loops"),
        pytest.param(large, ComplexityLevel.EXTREME, id="a long function"),
    ],
)
def test_the_level_is_the_band_of_the_score(fn: Callable[..., Any], level: ComplexityLevel) -> None:
    """What is well inside a band is so in every version."""
    assert complexity_of(fn).level is level


def test_what_makes_it_grow() -> None:
    """Loops, branches, names and nested functions each add to the score."""
    sources = [
        "def fn(a): return a",
        "def fn(a): return a if a else None",
        "def fn(a):\n while a: a = a if a else None",
        "def fn(a):\n while a: a = a.next if a.next else None",
        "def fn(a):\n while a: a = a.next if a.next else (lambda: a.other() + 1)",
    ]
    scores: list[float] = []
    for source in sources:
        names: dict[str, Any] = {}
        exec(source, names)
        scores.append(score(names["fn"]))
    assert scores == sorted(set(scores))


def test_docstrings_do_not_count() -> None:
    """Documenting a function does not make it more complex."""
    assert score(documented) == score(nothing)


def test_a_handler_is_no_loop() -> None:
    """The jump back from an exception handler to the code after it is not taken for a loop."""
    without = handling.__code__
    names: dict[str, Any] = {}
    exec(
        "def fn(path):\n for _ in path:\n  try:\n   text = path.strip()\n"
        "  except ValueError:\n   text = ''\n  except TypeError:\n   text = '?'\n  text.upper()\n",
        names,
    )
    # One loop is 4 points; the rest of what it takes is a handful of instructions.
    assert 3 < score(names["fn"]) - complexity_of_code(without).score < 10


def test_a_loop_that_is_far_is_one() -> None:
    """A loop whose jumps need prefixes is counted once."""
    body = "\n".join(f"  a = b.c{number}" for number in range(400))
    sources = (f"def fn(a, b):\n for a in b:\n{body}", f"def fn(a, b):\n if a:\n{body}")
    with_loop: dict[str, Any] = {}
    with_branch: dict[str, Any] = {}
    exec(sources[0], with_loop)
    exec(sources[1], with_branch)
    # Instructions and names count as a lot in both: 4 points for a loop less 2 for the branch, and 2
    # for a slot more or less in the frame.
    assert score(with_loop["fn"]) - score(with_branch["fn"]) == pytest.approx(4 - 2, abs=2.01)


def test_bound_methods_and_partials_go_by_their_function() -> None:
    """What is around a function does not hide it, in any order."""
    expected = complexity_of(looping)
    assert complexity_of(functools.partial(looping, [])) == expected
    assert complexity_of(MethodType(looping, [])) == expected
    assert complexity_of(functools.partial(MethodType(looping, []))) == expected
    assert complexity_of(MethodType(functools.partial(looping), [])) == expected


asked: list[str] = []
"""The attributes that somebody asked strange objects for."""


class Strange:
    """An object that can be called, and that notes which attributes it is asked for."""

    def __call__(self) -> None:
        """Do nothing."""

    def __getattribute__(self, name: str) -> Any:
        asked.append(name)
        return object.__getattribute__(self, name)


class StrangePartial(functools.partial[Any]):
    """A partial that computes its function."""

    @property
    def func(self) -> Any:
        """The function."""
        asked.append("func")
        return looping


@pytest.mark.parametrize(
    "fn",
    [
        pytest.param(len, id="builtin"),
        pytest.param([].append, id="builtin method"),
        pytest.param(int, id="builtin class"),
        pytest.param(Strange, id="class"),
        pytest.param(Strange(), id="object with __call__"),
        pytest.param(StrangePartial(looping), id="subclass of partial"),
        pytest.param(functools.partial(len), id="partial of a builtin"),
        pytest.param(None, id="nothing"),
    ],
)
def test_what_has_no_code_is_unknown(fn: Any) -> None:
    """Builtins, classes and callable objects are unknown, not an error, and none of their code runs."""
    asked.clear()
    assert complexity_of(fn) == Complexity(0.0, ComplexityLevel.UNKNOWN)
    assert asked == []


def test_a_partial_of_itself_is_unknown() -> None:
    """A ring of partials ends."""
    ring: Any = functools.partial(len)
    ring.__setstate__((ring, (), {}, {}))
    assert complexity_of(ring).level is ComplexityLevel.UNKNOWN


def test_code_made_by_hand() -> None:
    """Constants that cannot be hashed are no error; code that is no code is unknown."""
    unhashable = looping.__code__.replace(co_consts=(*looping.__code__.co_consts, []))
    assert complexity_of_code(unhashable) == complexity_of(looping)
    broken = branching.__code__.replace(co_consts=())
    assert complexity_of_code(broken).level is ComplexityLevel.UNKNOWN
    assert complexity_of_code(None).level is ComplexityLevel.UNKNOWN


def test_it_is_worked_out_once_per_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closures of one definition share the answer, which is kept."""
    from tokengate_executor.policies import complexity

    def make(number: int) -> Callable[[], int]:
        return lambda: number + 20_261

    measured: list[CodeType] = []
    measure = complexity._score

    def noted(code: CodeType) -> float:
        measured.append(code)
        return measure(code)

    monkeypatch.setattr(complexity, "_score", noted)
    assert complexity_of(make(1)) == complexity_of(make(2))
    assert len(measured) == 1


def test_the_score_has_bounds() -> None:
    """However much code there is, the score is finite, at most 200, and has a level."""
    source = "def fn(a, b):\n" + "\n".join(
        f" for a.x{number} in b.y{number}:\n  if a: b({'x' * 300!r}, {number}, {('q' * 50,) * 3})"
        for number in range(300)
    )
    names: dict[str, Any] = {}
    exec(source, names)
    result = complexity_of(names["fn"])
    assert math.isfinite(result.score)
    assert 100 < result.score <= 200
    assert result.level is ComplexityLevel.EXTREME
