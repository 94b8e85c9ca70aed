"""Refusals: what clients are told of what the executor's verbs raise."""

from __future__ import annotations

from concurrent.futures.thread import BrokenThreadPool

import pytest

from tokengate_executor.dashboard.refusals import refusal_of
from tokengate_executor.errors import (
    DeadlockError,
    GateFullError,
    InvalidOptionError,
    NotReplayableError,
    QuarantineStateError,
    UnknownQuarantineIdError,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownQuarantineIdError("ab"), 404),
        (InvalidOptionError("max_workers", 0, "an int of at least 1"), 400),
        (GateFullError(1, 1, None), 409),
        (QuarantineStateError("ab", "rejected", "replayed"), 409),
        (NotReplayableError("ab", "no such module"), 409),
        (DeadlockError("a ring"), 409),
        (BrokenThreadPool("an initializer failed"), 409),
        (RuntimeError("cannot schedule new futures after shutdown"), 409),
    ],
)
def test_what_is_to_be_expected(error: Exception, status: int) -> None:
    """Our own exceptions and those of closed executors, with their texts."""
    refusal = refusal_of(error, show_texts=True)
    assert refusal is not None
    assert (refusal.status, refusal.message) == (status, str(error))


def test_what_unpickling_raised_is_not_for_all() -> None:
    """It may quote the arguments."""
    refusal = refusal_of(NotReplayableError("ab", "ValueError: p4ssw0rd"), show_texts=False)
    assert refusal is not None
    assert refusal.message == "quarantined call ab cannot be replayed here"


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), OSError("x"), RecursionError("x"), NotImplementedError("x"), KeyError(1)],
)
def test_accidents(error: Exception) -> None:
    """Have no refusal: what they say is for the log."""
    assert refusal_of(error, show_texts=True) is None
