"""``observe.listeners``: events as lines of a log."""

from __future__ import annotations

import logging

import pytest

from tokengate_executor import (
    CircuitState,
    InvalidOptionError,
    LoggingListener,
    RetryPolicy,
    TokenEvent,
    TokenGateExecutor,
)


def fail() -> None:
    """Raise."""
    raise ValueError("secret")


def test_lines_and_levels(caplog: pytest.LogCaptureFixture) -> None:
    """What happens all the time at one level, trouble at another; the event itself for formatters."""
    caplog.set_level(logging.DEBUG)
    retry = RetryPolicy(attempts=2, on=ValueError, delay=0)
    with TokenGateExecutor(1, listeners=[LoggingListener()], retry=retry) as executor:
        good = executor.options(operation="good").submit(pow, 2, 2)
        good.result()
        bad = executor.options(operation="bad", weight="heavy").submit(fail)
        bad.exception()
        executor.guard_house.open("bad")
    lines = [record for record in caplog.records if record.name == "tokengate_executor.events"]
    assert [record.levelno for record in lines if "good" in record.getMessage()] == [
        *[logging.DEBUG] * 3
    ]
    trouble = [record.getMessage() for record in lines if record.levelno == logging.WARNING]
    assert [line.split(" ")[0] for line in trouble] == [
        "TokenRetrying",
        "TokenSettled",
        "CircuitChanged",
    ]
    assert trouble[1].startswith(
        f"TokenSettled bad ({bad.id}): weight=heavy state=FAILED error=ValueError lane="
    )
    assert "before=CLOSED after=OPEN" in trouble[2]
    assert "secret" not in caplog.text
    events = [vars(record)["tokengate_event"] for record in lines]
    assert [e.token_id for e in events if isinstance(e, TokenEvent)][:3] == [good.id] * 3
    assert events[-1] is not None
    assert CircuitState.OPEN in {getattr(event, "after", None) for event in events}


def test_another_logger_and_levels(caplog: pytest.LogCaptureFixture) -> None:
    """They are used; nothing is made up for a level that is off."""
    caplog.set_level(logging.INFO, logger="mine")
    logger = logging.getLogger("mine")
    quiet = LoggingListener(logger, level=logging.DEBUG)
    loud = LoggingListener(logger, level=logging.INFO, trouble_level=logging.ERROR)
    with TokenGateExecutor(1, listeners=[quiet, loud], log_unread_exceptions=False) as executor:
        executor.submit(pow, 2, 2).result()
        executor.submit(fail).exception()
    levels = [record.levelname for record in caplog.records if record.name == "mine"]
    assert levels.count("WARNING") == levels.count("ERROR") == 1
    assert "DEBUG" not in levels
    assert "INFO" in levels


@pytest.mark.parametrize("argument", ["level", "trouble_level"])
@pytest.mark.parametrize("wrong", ["INFO", None, True, 1.5])
def test_wrong_levels(argument: str, wrong: object) -> None:
    """They are named."""
    with pytest.raises(InvalidOptionError, match=argument):
        LoggingListener(**{argument: wrong})  # type: ignore[arg-type]
