"""What commands take: numbers within bounds, and passwords from where nobody sees them."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

import pytest

from tokengate_executor.cli_arguments import (
    add_password_file,
    decimal_number,
    missing_extra,
    password_given,
    whole_number,
    why,
)

if TYPE_CHECKING:
    from pathlib import Path


def parsed(*arguments: str) -> argparse.Namespace:
    """Parse the arguments of a command that takes a password."""
    parser = argparse.ArgumentParser()
    add_password_file(parser, "something happens")
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("low", "high", "text", "number"), [(0, None, "0", 0), (1, 3, "3", 3), (-5, 5, "-5", -5)]
)
def test_whole_numbers(low: int, high: int | None, text: str, number: int) -> None:
    """Both bounds are within."""
    assert whole_number(low, high)(text) == number


@pytest.mark.parametrize("text", ["0", "4", "two", "1.5", "", "9" * 5000])
def test_other_whole_numbers(text: str) -> None:
    """The message says what is allowed."""
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 1 to 3 is needed"):
        whole_number(1, 3)(text)


def test_decimal_numbers() -> None:
    """Both bounds are within, and what is no number is not."""
    convert = decimal_number(0.5, 2)
    assert [convert(text) for text in ("0.5", "1e0", "2")] == [0.5, 1.0, 2.0]
    for text in ("0.4", "2.1", "nan", "inf", "", "two"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"a number from 0\.5 to 2 is needed"):
            convert(text)


def test_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has said one; an empty variable says none."""
    monkeypatch.delenv("TOKENGATE_PASSWORD", raising=False)
    assert password_given(parsed()) is None
    monkeypatch.setenv("TOKENGATE_PASSWORD", "")
    assert password_given(parsed()) is None


def test_a_password_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It counts where no file was named."""
    monkeypatch.setenv("TOKENGATE_PASSWORD", "of the environment")
    assert password_given(parsed()) == "of the environment"
    file = tmp_path / "password"
    file.write_text("of the file\n", encoding="utf-8")
    assert password_given(parsed("--password-file", str(file))) == "of the file"


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"a b ", "a b "),
        (b"one\r\ntwo\n", "one"),
        ("ключ\n".encode(), "ключ"),
        (b"x" * 1024, "x" * 1024),
    ],
)
def test_a_password_of_a_file(content: bytes, password: str, tmp_path: Path) -> None:
    """Its first line, without its end; blanks may be part of it."""
    file = tmp_path / "password"
    file.write_bytes(content)
    assert password_given(parsed("--password-file", str(file))) == password


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"x" * 1025, b"\xff\xfe"])
def test_a_file_without_a_password(content: bytes, tmp_path: Path) -> None:
    """The message names the file, and shows nothing of what is in it."""
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="password") as caught:
        password_given(parsed("--password-file", str(file)))
    assert repr(str(file)) in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is an error also if the variable is set: that file was asked for."""
    with pytest.raises(ValueError, match="No such file or directory"):
        password_given(parsed("--password-file", str(tmp_path / "missing")))
    with pytest.raises(ValueError, match="Is a directory"):
        password_given(parsed("--password-file", str(tmp_path)))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no endless device")  # noqa: PTH110
def test_a_file_that_never_ends() -> None:
    """Not more of it is read than a password may have."""
    with pytest.raises(ValueError, match="must be a password of 1 to 1024 bytes"):
        password_given(parsed("--password-file", "/dev/zero"))


def test_a_missing_extra(capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing, and how to get it; an import of our own that fails is a fault of ours."""
    assert missing_extra("top", ModuleNotFoundError(name="websockets")) == 2
    said = capsys.readouterr().err
    assert "tokengate top needs the package websockets" in said
    assert 'python -m pip install "tokengate-executor[dashboard]"' in said
    for error in (ImportError(name="tokengate_executor.top.client"), ImportError()):
        with pytest.raises(ImportError):
            missing_extra("top", error)


def test_why() -> None:
    """What the system says, or the error itself."""
    assert why(OSError(2, "No such file", "name")) == "No such file"
    assert why(OSError("odd")) == "odd"
    assert why(ValueError("wrong")) == "wrong"
