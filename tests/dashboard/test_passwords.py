"""Passwords: what is accepted as one, as a hash of one, and what is right."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokengate_executor.dashboard.passwords import USUAL_COST, Cost, Password, hash_password
from tokengate_executor.errors import InvalidOptionError

CHEAP = Cost(2, 1, 1)


def test_a_plain_password_is_hashed_at_once() -> None:
    """What is kept does not show it, in no way that one would look at it."""
    password = Password.of("open sesame")
    assert password.cost == USUAL_COST
    assert "sesame" not in repr(password)
    assert "sesame" not in str(password)
    assert b"sesame" not in password.key + password.salt


@pytest.mark.parametrize("tried", ["", "open", "open sesame ", "Open sesame", "\0", "\ud800", "é"])
def test_only_the_password_is_right(tried: str) -> None:
    """Nothing near it, and nothing odd either, is; and none of it raises."""
    password = Password.made_of("open sesame", CHEAP)
    assert password.is_right("open sesame")
    assert not password.is_right(tried)


def test_a_hash_can_be_given_instead() -> None:
    """What hash_password returns is as good as the password, and tells nothing of it."""
    written = hash_password("open sesame")
    assert written.startswith("scrypt$32768$8$3$")
    password = Password.of(written)
    assert str(password) == written
    assert password.is_right("open sesame")
    assert not password.is_right(written), "knowing the hash is not knowing the password"


def test_the_hash_is_scrypt() -> None:
    """As anybody else would compute it, with the salt and the numbers that it says."""
    _, n, r, p, salt, key = str(Password.made_of("open sesame", Cost(16, 2, 3))).split("$")
    assert (n, r, p) == ("16", "2", "3")
    salt_bytes, key_bytes = (base64.urlsafe_b64decode(part + "==") for part in (salt, key))
    computed = hashlib.scrypt(b"open sesame", salt=salt_bytes, n=16, r=2, p=3, dklen=32)
    assert computed == key_bytes
    assert len(salt_bytes) == 16


def test_equal_passwords_have_different_hashes() -> None:
    """Each has a salt of its own."""
    assert str(Password.made_of("a", CHEAP)) != str(Password.made_of("a", CHEAP))


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1).filter(lambda text: not text.startswith("scrypt$")))
def test_any_text_can_be_a_password(text: str) -> None:
    """It is right after it was written and read, whatever is in it."""
    assert Password.of(str(Password.made_of(text, CHEAP))).is_right(text)


@pytest.mark.parametrize("given", [None, b"open sesame", 7, ""])
def test_what_is_no_password(given: Any) -> None:
    """Nothing, bytes, a number, an empty text are refused."""
    with pytest.raises(InvalidOptionError, match="password must be a non-empty string"):
        Password.of(given)


WHOLE = str(Password.made_of("a", CHEAP))


@pytest.mark.parametrize(
    "given",
    [
        WHOLE[:-1],
        WHOLE + "A",
        WHOLE.replace("scrypt$2$", "scrypt$3$"),
        WHOLE.replace("scrypt$2$", "scrypt$1$"),
        WHOLE.replace("scrypt$2$1$", "scrypt$2$0$"),
        WHOLE.replace("scrypt$2$1$1$", "scrypt$2$1$99$"),
        WHOLE.replace("scrypt$2$", "scrypt$536870912$"),
        "scrypt$",
        WHOLE + "\n",
    ],
)
def test_a_damaged_hash_is_refused(given: str) -> None:
    """It is not taken for a password, nor for work without end; and it is not shown."""
    with pytest.raises(InvalidOptionError, match="a whole hash of hash_password") as caught:
        Password.of(given)
    assert WHOLE[20:40] not in str(caught.value)


def test_a_hash_is_not_hashed_again() -> None:
    """That would lock everybody out."""
    with pytest.raises(InvalidOptionError, match="not a hash of one"):
        hash_password(WHOLE)
