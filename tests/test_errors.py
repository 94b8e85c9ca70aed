"""The exception tree: what each is caught as, what it says, what it carries, and how it travels."""

from __future__ import annotations

import copy
import pickle
import re
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FuturesTimeoutError
from typing import Any

import pytest

import tokengate_executor
from tokengate_executor import errors
from tokengate_executor.errors import (
    CoordinatorNotRunningError,
    DeadlockError,
    ForkedError,
    GateFullError,
    InvalidOptionError,
    NotReplayableError,
    OperationBlockedError,
    QuarantineFileError,
    QuarantineFullError,
    QuarantineStateError,
    TokenGateError,
    TokenKilledError,
    TokenQuarantinedError,
    TokenTimeoutError,
    UnguardableError,
    UnknownOptionError,
    UnknownQuarantineIdError,
)

CASES: list[tuple[TokenGateError, str, dict[str, Any]]] = [
    (
        UnknownOptionError("wieght", ("weight", "key")),
        "unknown option 'wieght': the options are weight, key",
        {"option": "wieght", "known": ("weight", "key")},
    ),
    (
        InvalidOptionError("lanes", "two", "an int of at least 1"),
        "lanes must be an int of at least 1, not 'two'",
        {"option": "lanes", "given": "two", "allowed": "an int of at least 1"},
    ),
    (
        GateFullError(5, 4, None),
        "5 of at most 4 calls wait (max_pending)",
        {"pending": 5, "bound": 4, "lane": None, "advice": ""},
    ),
    (
        GateFullError(4, 4, 2, "try later"),
        "4 of at most 4 calls wait for lane 2 (max_pending): try later",
        {"pending": 4, "bound": 4, "lane": 2, "advice": "try later"},
    ),
    (
        TokenTimeoutError("shop.pay", 0.25),
        "shop.pay did not start within 0.25 s (queue_timeout)",
        {"operation": "shop.pay", "queue_timeout": 0.25},
    ),
    (
        TokenTimeoutError("shop.pay", timeout=2.0),
        "shop.pay ran for longer than 2 s (timeout)",
        {"operation": "shop.pay", "queue_timeout": None, "timeout": 2.0},
    ),
    (
        TokenQuarantinedError("shop.pay", "it was rejected", "a1"),
        "shop.pay was not run: it was rejected (quarantine id a1)",
        {"operation": "shop.pay", "because": "it was rejected", "quarantine_id": "a1"},
    ),
    (
        OperationBlockedError("shop.pay", 0.95, 20, 12.3),
        "shop.pay is blocked, 95 % of 20 calls failed: it may be tried again in 12.3 s",
        {"operation": "shop.pay", "failure_rate": 0.95, "calls": 20, "retry_after": 12.3},
    ),
    (TokenKilledError("shop.pay"), "shop.pay was killed", {"operation": "shop.pay"}),
    (DeadlockError("every worker would wait"), "every worker would wait", {}),
    (ForkedError("it runs in the parent"), "it runs in the parent", {}),
    (
        QuarantineFileError("q.db", "it is damaged"),
        "quarantine q.db: it is damaged",
        {"path": "q.db", "problem": "it is damaged"},
    ),
    (
        QuarantineFullError("q.db", 4, 4),
        "quarantine q.db is full: 4 calls of at most 4 (max_entries): purge what is decided",
        {"path": "q.db", "entries": 4, "max_entries": 4},
    ),
    (
        QuarantineStateError("ab12", "rejected", "replayed"),
        "quarantined call ab12 is rejected and cannot become replayed",
        {"id": "ab12", "status": "rejected", "wanted": "replayed"},
    ),
    (
        NotReplayableError("ab12", "it was kept by process 7"),
        "quarantined call ab12 cannot be replayed here: it was kept by process 7",
        {"id": "ab12", "because": "it was kept by process 7"},
    ),
    (
        CoordinatorNotRunningError(None, False),
        "no coordinator is running: call start() of an OperationsCoordinator first",
        {"operation": None, "was_stopped": False},
    ),
    (
        CoordinatorNotRunningError("shop.pay", True),
        "shop.pay was not submitted: the coordinator was stopped: call its start() again first",
        {"operation": "shop.pay", "was_stopped": True},
    ),
    (
        UnguardableError("shop.pay", "it is not callable"),
        "shop.pay cannot be guarded: it is not callable",
        {"name": "shop.pay", "because": "it is not callable"},
    ),
    (UnknownQuarantineIdError("ab12"), "no quarantined call has the id 'ab12'", {"id": "ab12"}),
]

TREE = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, TokenGateError) and kind is not TokenGateError
]

each_error = pytest.mark.parametrize(
    ("error", "text", "facts"), CASES, ids=lambda case: type(case).__name__
)


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (UnknownOptionError, TypeError),
        (InvalidOptionError, ValueError),
        (GateFullError, RuntimeError),
        (TokenTimeoutError, TimeoutError),
        (TokenTimeoutError, FuturesTimeoutError),
        (TokenKilledError, CancelledError),
        (TokenQuarantinedError, RuntimeError),
        (OperationBlockedError, RuntimeError),
        (DeadlockError, RuntimeError),
        (ForkedError, RuntimeError),
        (QuarantineFileError, RuntimeError),
        (QuarantineFullError, RuntimeError),
        (QuarantineStateError, RuntimeError),
        (NotReplayableError, RuntimeError),
        (CoordinatorNotRunningError, RuntimeError),
        (UnguardableError, TypeError),
        (UnknownQuarantineIdError, KeyError),
    ],
)
def test_each_is_caught_as_ours_and_as_the_builtin_one(
    kind: type[Exception], also: type[Exception]
) -> None:
    """Code that knows only Python's own exceptions catches ours by them."""
    assert issubclass(kind, TokenGateError)
    assert issubclass(kind, also)
    assert not issubclass(also, TokenGateError)


def test_the_docstring_shows_the_whole_tree() -> None:
    """The tree at the head of the module has each class with its second base, and no other."""
    told = dict(re.findall(r"[├└]── (\w+) +\((\w+)\)", errors.__doc__ or ""))
    assert told == {kind.__name__: kind.__bases__[1].__name__ for kind in TREE}
    assert {type(error) for error, _, _ in CASES} == set(TREE), "each has a case here"


def test_all_of_them_can_be_had_from_the_package() -> None:
    """Whoever catches one imports it from `tokengate_executor`."""
    assert {name for name in errors.__all__ if not hasattr(tokengate_executor, name)} == set()
    assert set(errors.__all__) <= set(tokengate_executor.__all__)


@each_error
def test_text_and_facts(error: TokenGateError, text: str, facts: dict[str, Any]) -> None:
    """The message is one lower-case line, and its facts are attributes."""
    assert str(error) == text
    assert {name: getattr(error, name) for name in facts} == facts
    assert "\n" not in text
    assert text[0] == text[0].lower()


@each_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_and_back(
    error: TokenGateError, text: str, facts: dict[str, Any], protocol: int
) -> None:
    """It crosses a process border whole: type, text, arguments, attributes."""
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is type(error)
    assert str(back) == text
    assert back.args == error.args
    assert {name: getattr(back, name) for name in facts} == facts


@each_error
def test_copied(error: TokenGateError, text: str, facts: dict[str, Any]) -> None:
    """A copy says and carries the same."""
    twin = copy.copy(error)
    assert twin is not error
    assert (type(twin), str(twin)) == (type(error), text)
    assert {name: getattr(twin, name) for name in facts} == facts
