"""Who may read a dashboard and who may control it: attempts at the password, sessions, CSRF tokens.

Guarantees
    * A session begins only with the right password, under an id that nobody could know before, and ends
      after a time without requests, after a time in any case, by logout, or when too many others have
      begun since.
    * A CSRF token is right for one (pre-)session id only.
    * Memory does not grow with the number of requests, addresses or sessions.

Assumes
    * Calls do not overlap: they all come from one event loop. Nothing here waits or reads a clock of
      its own.

A pre-session is what a visitor without a session has: an id in the cookie that the server does not keep,
so that anybody may ask for one. It only makes a CSRF token possible before there is a session.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from tokengate_executor.policies.limits import RateLimit

__all__ = ["Access", "Attempts", "Ending", "Session", "Visitor"]

Ending = Literal["expired", "logout"]

EACH_ADDRESS: Final = RateLimit(1, per=30.0, burst=5)
ALL_ADDRESSES: Final = RateLimit(1, per=2.0, burst=50)
"""How often the password may be tried: from one address; and from all together, which bounds what
somebody can do who has very many."""

MOST_ADDRESSES: Final = 1024
IDLE_SECONDS: Final = 3600.0
LONGEST_SECONDS: Final = 12 * 3600.0
MOST_SESSIONS: Final = 64

_ID: Final = re.compile(r"[\w-]{43}", re.ASCII)
_ID_BYTES: Final = 32


class Attempts:
    """Counts attempts at the password; whoever makes too many has to wait.

    Args:
        clock: in seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Bucket(ALL_ADDRESSES, clock())
        # The least recently used first.
        self._each: OrderedDict[str, _Bucket] = OrderedDict()

    def try_from(self, address: str) -> float:
        """Count one attempt; returns 0, or for how many seconds none may be made from this address."""
        now, network = self._clock(), _network_of(address)
        bucket = self._each.pop(network, None) or _Bucket(EACH_ADDRESS, now)
        self._each[network] = bucket
        if len(self._each) > MOST_ADDRESSES:
            self._each.popitem(last=False)
        # One address that goes on and on takes nothing from the others.
        wait = bucket.seconds_until_free(now) or self._all.seconds_until_free(now)
        if not wait:
            bucket.take()
            self._all.take()
        return wait

    def succeeded(self, address: str) -> None:
        """The password was right: the attempts before it are forgotten."""
        self._each.pop(_network_of(address), None)


class _Bucket:
    """A rate limit at work."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._limit, self._level, self._filled_at = limit, float(limit.capacity), now

    def seconds_until_free(self, now: float) -> float:
        self._level = self._limit.level_after(self._level, max(0.0, now - self._filled_at))
        self._filled_at = now
        return self._limit.seconds_until_one(self._level)

    def take(self) -> None:
        self._level -= 1


def _network_of(address: str) -> str:
    """The address, or the network that one customer gets where addresses are plenty."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped is not None:
        return str(found)
    return str(ipaddress.ip_network((int(found), 64), strict=False))


@dataclass(slots=True, eq=False)
class Session:
    """A visitor who knew the password.

    Attributes:
        began_at: when, on the clock of ``Access``.
        seen_at: when the last request of it came.
        ended: why it has ended; ``None``: it has not.
    """

    began_at: float
    seen_at: float
    ended: Ending | None = None


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request.

    Attributes:
        id: of the session or pre-session; ``None``: neither.
        session: ``None``: none.
        may_read: whether to see anything.
        may_control: whether to change anything.
    """

    id: str | None
    session: Session | None
    may_read: bool
    may_control: bool


class Access:
    """The sessions of one dashboard, and what each visitor may do.

    Args:
        has_password: whether there is one; if not, nobody may control.
        public_read: whether everybody may read.
        clock: in seconds, monotonic.
    """

    def __init__(
        self, *, has_password: bool, public_read: bool, clock: Callable[[], float]
    ) -> None:
        self.has_password: Final = has_password
        self._public_read = public_read
        self._clock = clock
        self._secret = secrets.token_bytes(_ID_BYTES)
        # By the hash of the id, the least recently seen first: looking one up tells nothing of the ids.
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def visitor(self, ids: Iterable[str]) -> Visitor:
        """Who shows one of these ids, which the client sent. Counts as a request of the session."""
        known = [given for given in ids if _ID.fullmatch(given)]
        for given in known:
            session = self._seen(given)
            if session is not None:
                return Visitor(given, session, may_read=True, may_control=True)
        first = known[0] if known else None
        return Visitor(first, None, may_read=self._public_read, may_control=False)

    def new_id(self) -> str:
        """An id for a pre-session."""
        return secrets.token_urlsafe(_ID_BYTES)

    def begin(self) -> str:
        """The password was right: begin a session; returns its id."""
        now, made = self._clock(), self.new_id()
        self._end_old(now)
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.popitem(last=False)[1].ended = "expired"
        self._sessions[_digest(made)] = Session(now, now)
        return made

    def end(self, session: Session) -> None:
        """Log out."""
        for key, known in self._sessions.items():
            if known is session:
                del self._sessions[key]
                session.ended = "logout"
                return

    def ending(self, session: Session | None) -> Ending | None:
        """Why a session has ended, if it has.

        That this is asked does not count as a request: a page that is open asks on its own for ever.
        """
        if session is None:
            return None
        if session.ended is None and _is_over(session, self._clock()):
            session.ended = "expired"
        return session.ended

    def csrf_of(self, identifier: str) -> str:
        """The token that every POST of this (pre-)session has to bring along."""
        return hmac.new(self._secret, identifier.encode("ascii"), hashlib.sha256).hexdigest()

    def is_csrf_right(self, visitor: Visitor, given: str | None) -> bool:
        """Whether that is the visitor's token."""
        if visitor.id is None or given is None:
            return False
        right = self.csrf_of(visitor.id).encode("ascii")
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), right)

    def _seen(self, given: str) -> Session | None:
        now, key = self._clock(), _digest(given)
        self._end_old(now)
        session = self._sessions.get(key)
        if session is not None:
            session.seen_at = now
            self._sessions.move_to_end(key)
        return session

    def _end_old(self, now: float) -> None:
        for key, session in list(self._sessions.items()):
            if _is_over(session, now):
                del self._sessions[key]
                session.ended = "expired"


def _is_over(session: Session, now: float) -> bool:
    return now - session.seen_at >= IDLE_SECONDS or now - session.began_at >= LONGEST_SECONDS


def _digest(identifier: str) -> bytes:
    return hashlib.sha256(identifier.encode("ascii")).digest()
