"""``@gated``: options said at a function, which is otherwise what it was."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any

import pytest

from tokengate_executor import (
    InvalidOptionError,
    Token,
    TokenGateExecutor,
    UnknownOptionError,
    gated,
)


@pytest.fixture
def one() -> Iterator[TokenGateExecutor]:
    """Return an executor with a single worker."""
    with TokenGateExecutor(1) as executor:
        yield executor


@gated(weight="heavy", operation="add")
def add(first: int, second: int = 1) -> int:
    """Add two numbers."""
    return first + second


class Shop:
    """Has gated callables of every kind."""

    @gated(weight="medium", operation="pay")
    def pay(self) -> str:
        """Be a method."""
        return "paid"

    @classmethod
    @gated(weight="medium", operation="found")
    def found(cls) -> str:
        """Be a class method."""
        return cls.__name__

    @staticmethod
    @gated(weight="medium", operation="ring")
    def ring() -> str:
        """Be a static method."""
        return "ring"


@gated(weight="light", operation="bark")
class Dog:
    """A gated class: submitted, it is made; its objects, submitted, are called."""

    def __call__(self) -> str:
        """Be called."""
        return "woof"


def facts(token: Token[Any]) -> tuple[object, object]:
    """Return what a token says of the options."""
    return token.weight, token.operation


def test_the_function_is_what_it_was() -> None:
    """The same function is returned, with its name, text and signature, and runs when called."""

    def plain(number: int, *, sign: int = -1) -> int:
        """Tell the number's negative."""
        return sign * number

    decorated = gated(weight="light")(plain)
    assert decorated is plain
    assert decorated(3) == -3
    assert (add.__name__, add.__doc__, add(1, second=5)) == ("add", "Add two numbers.", 6)
    assert list(inspect.signature(add).parameters) == ["first", "second"]


def test_options_hold_wherever_it_is_submitted(one: TokenGateExecutor) -> None:
    """By `submit`, through a view, by `map`, by a task, by `run_in_executor`; keywords pass through."""

    async def main() -> int:
        return await asyncio.get_running_loop().run_in_executor(one, add, 5)

    tokens = [one.submit(add, 1), one.options().submit(add, 2, second=2), one.task(add)(3)]
    assert [token.result(30) for token in tokens] == [2, 4, 4]
    assert [facts(token) for token in tokens] == [("heavy", "add")] * 3
    assert list(one.map(add, [4])) == [5]
    assert asyncio.run(main()) == 6
    assert [(record.weight, record.operation) for record in one.history()] == [("heavy", "add")] * 5


def test_a_views_options_win(one: TokenGateExecutor) -> None:
    """What is said at the call goes before what is said at the function, option by option."""
    view = one.options(weight="light")
    assert facts(view.submit(add, 1)) == ("light", "add")
    assert facts(view.options(operation="sum").submit(add, 1)) == ("light", "sum")
    assert facts(one.submit(add, 1)) == ("heavy", "add")


def test_it_is_all_the_same_to_other_executors() -> None:
    """The standard library's executor runs it as any function."""
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(add, 1).result(30) == 2


@pytest.mark.parametrize(
    ("fn", "name", "result"),
    [
        (Shop().pay, "pay", "paid"),
        (partial(Shop.pay, Shop()), "pay", "paid"),
        (Shop.found, "found", "Shop"),
        (Shop().ring, "ring", "ring"),
    ],
    ids=["method", "partial", "class method", "static method"],
)
def test_methods(one: TokenGateExecutor, fn: Callable[[], str], name: str, result: str) -> None:
    """Methods of every kind carry the options of their function."""
    token = one.submit(fn)
    assert (facts(token), token.result(30)) == (("medium", name), result)


def test_classes_and_their_objects(one: TokenGateExecutor) -> None:
    """A class carries them for its making and for the calls of its objects."""
    made = one.submit(Dog)
    dog = made.result(30)
    assert facts(made) == ("light", "bark")
    called = one.submit(dog)
    assert (facts(called), called.result(30)) == (("light", "bark"), "woof")


def test_wrappers_carry_them_on(one: TokenGateExecutor) -> None:
    """A function that wraps a gated one by `functools.wraps` is gated alike, or has its own say."""

    @wraps(add)
    def logged(first: int) -> int:
        return add(first)

    @gated(weight="light")
    @wraps(add)
    def lighter(first: int) -> int:
        return add(first)

    assert facts(one.submit(logged, 1)) == ("heavy", "add")
    assert one.submit(lighter, 1).weight == "light"
    assert one.submit(add, 1).weight == "heavy"


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"wieght": "heavy"}, UnknownOptionError, "unknown option 'wieght'"),
        (
            {"weight": "huge"},
            InvalidOptionError,
            "weight must be one of 'heavy', 'medium', 'light'",
        ),
        ({"sticky": "lane"}, InvalidOptionError, "sticky must be None where there is no key"),
    ],
)
def test_wrong_options(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    """They are an error where they are said, before there is a function."""
    with pytest.raises(kind, match=text):
        gated(**options)


@pytest.mark.parametrize("fixed", [len, "".join, Shop().pay])
def test_what_takes_no_attributes(fixed: Callable[..., object]) -> None:
    """Builtins and bound methods are refused, with what to do instead."""
    with pytest.raises(TypeError, match=r"takes no attributes; wrap it in a function, or say the"):
        gated(weight="heavy")(fixed)


def test_a_limit_that_an_executor_does_not_have() -> None:
    """A function may name a limit; an executor without it refuses the call, and others take it."""

    @gated(limits=("database",))
    def query() -> int:
        return 5

    with TokenGateExecutor(1) as without, TokenGateExecutor(1, limits={"database": 1}) as having:
        with pytest.raises(InvalidOptionError, match="database"):
            without.submit(query)
        assert having.submit(query).result(30) == 5
        assert without.submit(len, "abc").result(30) == 3
