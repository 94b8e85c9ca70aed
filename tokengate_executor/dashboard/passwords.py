"""The password of a dashboard: kept as a hash, compared in constant time.

The hash is scrypt (RFC 7914) with parameters that cost a guesser 32 MiB and some tenths of a second. Its
text says them, so that a later version may choose others and still read what this one wrote.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from tokengate_executor.errors import InvalidOptionError

__all__ = ["Password", "hash_password"]

_SCHEME: Final = "scrypt$"
_WRITTEN: Final = re.compile(
    r"scrypt\$(\d{1,9})\$(\d{1,3})\$(\d{1,3})\$([\w-]{22,88})\$([\w-]{43})"
)

_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_MOST_MEMORY_BYTES: Final = 256 * 1024 * 1024
_MOST_PASSES: Final = 16


class Cost(NamedTuple):
    """What one hash costs: ``n`` and ``r`` the memory and time, ``p`` only time."""

    n: int = 2**15
    r: int = 8
    p: int = 3


USUAL_COST: Final = Cost()


@dataclass(frozen=True, slots=True)
class Password:
    """A password that is known only by its hash.

    Attributes:
        cost: with which it was hashed.
        salt: of this one alone.
        key: what the hash came to.
    """

    cost: Cost
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, given: object) -> Self:
        """Read what ``password=`` means: a password, or what ``hash_password`` made of one.

        Raises:
            InvalidOptionError: it is empty, no string, or a hash that was cut off. What was given is not
                shown.
        """
        allowed = "a non-empty string, or what hash_password returned"
        if not isinstance(given, str):
            raise InvalidOptionError("password", type(given), allowed)
        if not given:
            raise InvalidOptionError("password", given, allowed)
        if given.startswith(_SCHEME):
            return cls._read(given)
        return cls.made_of(given)

    @classmethod
    def made_of(cls, password: str, cost: Cost = USUAL_COST) -> Self:
        """Hash a password with a new salt."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(cost, salt, _key_of(password, cost, salt))

    @classmethod
    def _read(cls, written: str) -> Self:
        found = _WRITTEN.fullmatch(written)
        if found is not None:
            cost = Cost(*map(int, found.group(1, 2, 3)))
            salt, key = (_bytes_of(part) for part in found.group(4, 5))
            if _is_bearable(cost) and len(key) == _KEY_BYTES:
                return cls(cost, salt, key)
        raise InvalidOptionError("password", f"{_SCHEME}...", "a whole hash of hash_password")

    def is_right(self, tried: str) -> bool:
        """Whether that is it. As slow as its cost says: not for an event loop's thread."""
        return hmac.compare_digest(_key_of(tried, self.cost, self.salt), self.key)

    def __str__(self) -> str:
        n, r, p = self.cost
        return f"{_SCHEME}{n}${r}${p}${_text_of(self.salt)}${_text_of(self.key)}"


def hash_password(password: str) -> str:
    """Hash a password for ``password=``, so that it need not stand in a program or its configuration.

    Raises:
        InvalidOptionError: it is empty, no string, or a hash already.
    """
    made = Password.of(password)
    if password.startswith(_SCHEME):
        raise InvalidOptionError("password", f"{_SCHEME}...", "a password, not a hash of one")
    return str(made)


def _is_bearable(cost: Cost) -> bool:
    n, r, p = cost
    is_power_of_two = n > 1 and n & (n - 1) == 0
    return (
        is_power_of_two
        and 1 <= p <= _MOST_PASSES
        and r >= 1
        and _memory(cost) <= _MOST_MEMORY_BYTES
    )


def _memory(cost: Cost) -> int:
    return 128 * cost.r * (cost.n + cost.p + 2)


def _key_of(password: str, cost: Cost, salt: bytes) -> bytes:
    # JSON can spell strings that are no text; they are as good as any other wrong password.
    secret = password.encode("utf-8", "surrogatepass")
    n, r, p = cost
    return hashlib.scrypt(
        secret, salt=salt, n=n, r=r, p=p, maxmem=2 * _memory(cost), dklen=_KEY_BYTES
    )


def _text_of(given: bytes) -> str:
    return base64.urlsafe_b64encode(given).decode("ascii").rstrip("=")


def _bytes_of(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
