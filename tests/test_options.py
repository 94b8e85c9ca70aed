"""What may be said about a call, who says it, and under which name it is counted."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from functools import lru_cache, partial, wraps
from typing import Any, get_type_hints

import pytest

from tokengate_executor import InvalidOptionError, TaskOptions, UnknownOptionError
from tokengate_executor.options import (
    OptionNames,
    attach,
    attached,
    attachments,
    is_duration,
    joined,
    name_of,
)

HEAVY = TaskOptions(weight="heavy")
HERE = __name__


def plain(*_: object, **__: object) -> None:
    """Do nothing."""


class Shop:
    """Has callables of every kind."""

    def pay(self) -> None:
        """Be a method."""

    @classmethod
    def found(cls) -> None:
        """Be a class method."""

    @staticmethod
    def ring() -> None:
        """Be a static method."""

    def __call__(self) -> None:
        """Be called."""


class Mute:
    """Fails whoever asks it for an attribute that it has not, as lazy proxies may."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"asked for {name}")

    def __call__(self) -> None:
        """Be called."""


# -- the options ----------------------------------------------------------------------------------


def test_nothing_is_said_by_default() -> None:
    """Each option is `None` until somebody says it."""
    assert {getattr(TaskOptions(), field.name) for field in fields(TaskOptions)} == {None}


def test_type_checkers_know_the_same_names() -> None:
    """`OptionNames` and `TaskOptions` have the same options of the same types."""
    said, kept = get_type_hints(OptionNames), get_type_hints(TaskOptions)
    assert said == {field.name: kept[field.name] for field in fields(TaskOptions)}


def test_of_takes_them_by_name() -> None:
    """What is not named stays unsaid."""
    options = TaskOptions.of({"weight": "light", "key": 7, "limits": ("db",)})
    assert options == TaskOptions(weight="light", key=7, limits=("db",))
    assert TaskOptions.of({}) == TaskOptions()


def test_of_refuses_a_name_that_is_none() -> None:
    """A misspelt option is an error that knows the names that exist."""
    with pytest.raises(UnknownOptionError, match="unknown option 'wieght'") as caught:
        TaskOptions.of({"wieght": "light"})
    assert caught.value.option == "wieght"
    assert caught.value.known == tuple(field.name for field in fields(TaskOptions))


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ({"weight": "huge"}, "one of 'heavy', 'medium', 'light' or None"),
        ({"weight": ""}, "one of 'heavy', 'medium', 'light' or None"),
        ({"operation": ""}, "a non-empty string or None"),
        ({"operation": 5}, "a non-empty string or None"),
        ({"priority": "1"}, "an int or None"),
        ({"priority": False}, "an int or None"),
        ({"key": set()}, "hashable"),
        ({"tenant": bytearray()}, "hashable"),
        ({"key": 1, "sticky": "core"}, "'lane' or None"),
        ({"sticky": "lane"}, "None where there is no key"),
        ({"limits": ["db"]}, "a tuple of names of limits or None"),
        ({"limits": ("db", "")}, "a tuple of names of limits or None"),
        ({"limits": ("db", 3)}, "a tuple of names of limits or None"),
        ({"storage": "tape"}, "one of 'slow', 'moderate', 'fast', 'insane' or None"),
        ({"storage": 3}, "one of 'slow', 'moderate', 'fast', 'insane' or None"),
        ({"queue_timeout": -0.1}, "seconds, at least 0, or None"),
        ({"queue_timeout": True}, "seconds, at least 0, or None"),
    ],
)
def test_wrong_values(said: dict[str, Any], allowed: str) -> None:
    """The error has the option's name, the value and what is allowed."""
    with pytest.raises(InvalidOptionError) as caught:
        TaskOptions(**said)
    name, given = list(said.items())[-1]
    assert (caught.value.option, caught.value.given) == (name, given)
    assert caught.value.allowed == allowed


@pytest.mark.parametrize("weight", ["heavy", "medium", "light", None])
@pytest.mark.parametrize("storage", ["slow", "Moderate", "FAST", "insane", None])
def test_right_values(weight: Any, storage: str | None) -> None:
    """All weights and storage tiers are taken, tiers in any letter case."""
    options = TaskOptions(weight=weight, storage=storage, key=(), sticky="lane", queue_timeout=0)
    assert (options.weight, options.storage) == (weight, storage)


def test_they_are_values() -> None:
    """Equal options are equal and hash alike, and nobody can change them afterwards."""
    assert TaskOptions(weight="heavy") == HEAVY
    assert len({HEAVY, TaskOptions(weight="heavy"), TaskOptions()}) == 2
    with pytest.raises(FrozenInstanceError):
        HEAVY.weight = "light"  # type: ignore[misc]


def test_over() -> None:
    """What is said here wins, also 0 and an empty tuple; the rest is the other's."""
    other = TaskOptions(weight="light", operation="other", priority=3, limits=("db",), key="k")
    over = TaskOptions(weight="heavy", priority=0, limits=()).over(other)
    assert over == TaskOptions(weight="heavy", operation="other", priority=0, limits=(), key="k")
    assert TaskOptions().over(other) == other
    assert other.over(TaskOptions()) == other


def test_over_checks_what_comes_of_both() -> None:
    """Two that are right alone may be right together only: a sticky key has its key elsewhere."""
    sticky = TaskOptions(sticky="lane", key="mine")
    assert TaskOptions(key="other").over(sticky) == TaskOptions(sticky="lane", key="other")


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (TaskOptions(), False),
        (TaskOptions(weight="heavy", operation="named"), False),
        (TaskOptions(priority=0), True),
        (TaskOptions(key="k"), True),
        (TaskOptions(tenant="t"), True),
        (TaskOptions(limits=()), True),
        (TaskOptions(storage="slow"), True),
        (TaskOptions(queue_timeout=0), True),
    ],
)
def test_need_order(options: TaskOptions, *, needed: bool) -> None:
    """A weight and a name need no governor; whatever may keep a call waiting does."""
    assert options.need_order is needed


@pytest.mark.parametrize("given", [0, 0.0, 1, 2.5, 1e9])
def test_durations(given: object) -> None:
    """Finite numbers from 0 on are seconds."""
    assert is_duration(given)


@pytest.mark.parametrize("given", [-1, -1e-9, float("inf"), float("nan"), True, "1", None, 1j])
def test_no_durations(given: object) -> None:
    """Anything else is not, a bool and a NaN included."""
    assert not is_duration(given)


# -- said at a function ---------------------------------------------------------------------------


def fresh() -> Callable[[], None]:
    """Return a function of its own."""

    def function() -> None:
        """Do nothing."""

    return function


def test_attach_returns_the_same_function() -> None:
    """The function is what it was, and its options are known to be in use."""
    function = fresh()
    assert attach(function, HEAVY) is function
    assert attached(function) is HEAVY
    assert HEAVY in attachments


def test_nothing_is_attached_by_default() -> None:
    """Callables of any kind have no options until somebody says some."""
    shop = Shop()
    callables: list[Any] = [fresh(), shop.pay, shop, Shop, len, partial(plain), "".join, None]
    assert [attached(one) for one in callables] == [None] * len(callables)


def test_what_is_made_of_a_function_carries_its_options() -> None:
    """Partials, also of partials, bound methods, and functions that wrap it carry them."""
    function = attach(fresh(), HEAVY)

    class Owner:
        method = function

    @wraps(function)
    def wrapper() -> None:
        function()

    made: list[Any] = [partial(partial(function)), Owner().method, wrapper, lru_cache(function)]
    assert [attached(one) for one in made] == [HEAVY] * 4


def test_objects_carry_those_of_their_own_and_of_their_class() -> None:
    """A callable object may have options, or its class may have them for all."""
    shop = attach(Shop(), HEAVY)

    class Bank(Shop):
        pass

    attach(Bank, TaskOptions(weight="light"))
    assert attached(shop) is HEAVY
    assert attached(Shop()) is None
    assert attached(Bank()) == TaskOptions(weight="light")


@pytest.mark.parametrize("fixed", [len, "".join, Shop().pay, object()])
def test_what_takes_no_attributes_is_refused(fixed: Any) -> None:
    """The error names the callable and says what to do instead."""
    with pytest.raises(
        TypeError, match=r"takes no attributes; wrap it .* executor\.options\("
    ) as e:
        attach(fixed, HEAVY)
    assert repr(fixed) in str(e.value)
    assert e.value.__cause__ is None


def test_proxies_are_not_asked() -> None:
    """An object that answers any question is not asked for options or for its name."""
    assert attached(Mute()) is None
    assert name_of(Mute()) == (HERE, "Mute")


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain, (HERE, "plain")),
        (fresh(), (HERE, "fresh.<locals>.function")),
        (Shop().pay, (HERE, "Shop.pay")),
        (Shop.pay, (HERE, "Shop.pay")),
        (Shop.found, (HERE, "Shop.found")),
        (Shop.ring, (HERE, "Shop.ring")),
        (len, ("builtins", "len")),
        (operator.add, ("_operator", "add")),
        ("".join, (None, "str.join")),
        ("".__len__, ("builtins", "method-wrapper")),
        (str.join, ("builtins", "method_descriptor")),
        (Shop, (HERE, "Shop")),
        (Shop(), (HERE, "Shop")),
        (int, ("builtins", "int")),
        (partial(plain), (HERE, "plain")),
        (partial(partial(Shop().pay)), (HERE, "Shop.pay")),
        (lru_cache(plain), ("functools", "_lru_cache_wrapper")),
    ],
)
def test_name_of(fn: Callable[..., Any], name: tuple[str | None, str]) -> None:
    """Functions and methods go by their own names, partials by their function's, others by class."""
    assert name_of(fn) == name


def test_name_of_a_lambda_says_where_it_is() -> None:
    """It has no name, but a place."""
    module, qualified = name_of(lambda: None)
    assert module == HERE
    assert qualified.endswith("test_name_of_a_lambda_says_where_it_is.<locals>.<lambda>")


def test_joined() -> None:
    """Module and name with a dot between; the name alone where there is no module."""
    assert joined(("shop", "Cart.pay")) == "shop.Cart.pay"
    assert joined((None, "str.join")) == "str.join"
