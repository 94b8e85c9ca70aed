"""The other end of a dashboard: is let in over HTTP, then reads snapshots from its WebSocket.

No proxy is used and no redirect is followed: a password and a session are for the server that was named,
and go to no other. For the same reason a password is not sent in clear, but to this machine itself.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator, Iterator
from contextlib import suppress
from http.client import HTTPException
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Final, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit, urlunsplit
from urllib.request import (
    HTTPCookieProcessor,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from tokengate_executor.dashboard.origins import is_loopback
from tokengate_executor.dashboard.patches import JsonObject, apply
from tokengate_executor.terminal_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.sync.client import ClientConnection

__all__ = ["PROTOCOL", "DashboardClient", "RefusedError", "UnreachableError", "dashboard_url"]

PROTOCOL: Final = 1

_TIMEOUT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 0.5
_LONGEST_ANSWER: Final = 64 * 1024
_LONGEST_MESSAGE: Final = 16 * 1024 * 1024
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_BYES: Final = {
    "shutdown": "the dashboard was shut down",
    "expired": "the session has expired",
    "logout": "the session was ended",
}


class UnreachableError(Exception):
    """There is no dashboard, or not for the moment: it may be worth another try."""


class RefusedError(Exception):
    """There is one, and it will not let us in however often we ask."""


def dashboard_url(text: str) -> str:
    """The address of a dashboard as a person types it, with what may be left out, and a slash behind.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        is_right = parts.port != 0 and bool(parts.hostname) and parts.scheme in _SCHEMES
    except ValueError:
        parts, is_right = urlsplit(""), False
    if not is_right or not text.isprintable() or " " in text:
        raise ValueError(f"an address such as http://127.0.0.1:8000/ is needed, {text!r} was given")
    if "@" in parts.netloc:
        raise ValueError("a password does not belong in an address: others can see it there")
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    path = path if path.endswith("/") else f"{path}/"
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, "", ""))


class DashboardClient:
    """A visitor of one dashboard.

    Not for several threads at once, but for ``close``, which ends what another one does.

    Args:
        url: from ``dashboard_url``.
        password: called when the dashboard wants one, and asked for no second time.
    """

    def __init__(self, url: str, password: Callable[[], str]) -> None:
        self._url = url
        self._ask_password = password
        self._password: str | None = None
        self._cookies = CookieJar()
        # What is not added is not done: proxies, redirects, other schemes.
        self._opener = OpenerDirector()
        self._opener.add_handler(HTTPHandler())
        self._opener.add_handler(HTTPSHandler())
        self._opener.add_handler(HTTPErrorProcessor())
        self._opener.add_handler(HTTPDefaultErrorHandler())
        self._opener.add_handler(HTTPCookieProcessor(self._cookies))
        self._connection: ClientConnection | None = None
        self._is_closed = False

    def enter(self) -> None:
        """Ask to be let in, with the password if that is wanted.

        Raises:
            UnreachableError: nobody answers, or not as a dashboard does.
            RefusedError: the password is wrong, or must not be sent.
        """
        session = self._ask("session")
        if session.get("protocol") != PROTOCOL:
            raise RefusedError(
                f"it speaks protocol {printable(repr(session.get('protocol')))}, and this program "
                f"protocol {PROTOCOL}: one of them is too old"
            )
        if session.get("may_read") is True:
            return
        if session.get("has_password") is not True:
            raise RefusedError("it shows nothing from here, and has no password to change that")
        parts = urlsplit(self._url)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise RefusedError("it wants a password, which is not sent in clear: use https")
        if self._password is None:
            self._password = self._ask_password()
        self._ask("login", {"password": self._password}, csrf=str(session.get("csrf", "")))

    def snapshots(self) -> Generator[JsonObject, None, None]:
        """Connect, and yield a whole snapshot for each message, until ``close``.

        Raises:
            UnreachableError: there is no connection (any more).
            RefusedError: what it sends is of another protocol.
        """
        headers = {"Cookie": cookie} if (cookie := self._cookie()) else {}
        try:
            with connect(
                urljoin(self._url, "live").replace("http", "ws", 1),
                additional_headers=headers,
                proxy=None,
                open_timeout=_TIMEOUT_SECONDS,
                close_timeout=_CLOSE_SECONDS,
                max_size=_LONGEST_MESSAGE,
            ) as connection:
                self._connection = connection
                try:
                    yield from self._read(connection)
                finally:
                    self._connection = None
                    connection.close()
        except InvalidStatus as error:
            status = error.response.status_code
            raise UnreachableError(f"it answered {status} where its live view should be") from error
        except ConnectionClosed as error:
            if not self._is_closed:
                raise UnreachableError("the connection was lost") from error
        except (OSError, WebSocketException, ValueError) as error:
            if not self._is_closed:
                raise UnreachableError(_why(error)) from error

    def close(self) -> None:
        """End ``snapshots``, now or when it begins; for any thread."""
        self._is_closed = True
        connection = self._connection
        if connection is not None:
            connection.close()

    def _read(self, connection: ClientConnection) -> Iterator[JsonObject]:
        snapshot: JsonObject | None = None
        if self._is_closed:
            return
        for message in _messages(connection):
            kind, data = _parsed(message)
            if kind == "snapshot":
                snapshot = data
                if snapshot.get("protocol") != PROTOCOL:
                    raise RefusedError(f"its snapshots are not of protocol {PROTOCOL}")
            elif kind == "change" and snapshot is not None:
                snapshot = apply(snapshot, data)
            elif kind == "bye":
                raise UnreachableError(_BYES.get(str(data.get("reason")), "it said goodbye"))
            else:
                continue  # a later version may have more to say
            assert snapshot is not None
            yield snapshot
        if not self._is_closed:
            raise UnreachableError("it closed the connection")

    def _ask(self, path: str, body: JsonObject | None = None, csrf: str = "") -> JsonObject:
        url = urljoin(self._url, path)
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers |= {"Content-Type": "application/json", "X-CSRF-Token": csrf}
        try:
            request = Request(url, data, headers)
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return _object(answer.read(_LONGEST_ANSWER + 1))
        except HTTPError as error:
            with error:
                raise _as_told(error, is_login=body is not None) from error
        except (OSError, HTTPException, ValueError) as error:
            raise UnreachableError(_why(error)) from error

    def _cookie(self) -> str | None:
        request = Request(urljoin(self._url, "live"))
        self._cookies.add_cookie_header(request)
        return request.get_header("Cookie")


def _messages(connection: ClientConnection) -> Iterator[str | bytes]:
    """All messages; whoever has not sent the first one after some seconds will send none."""
    yield connection.recv(_TIMEOUT_SECONDS)
    yield from connection


def _as_told(error: HTTPError, *, is_login: bool) -> UnreachableError | RefusedError:
    """What an answer means that is no success."""
    if is_login and error.code == 429:
        after = printable(error.headers.get("Retry-After") or "")
        return UnreachableError(
            f"the password was tried too often: try again in {after or 'some'} s"
        )
    if is_login and error.code == 403:
        with suppress(OSError, HTTPException, ValueError):
            message = _object(error.read(_LONGEST_ANSWER + 1)).get("message")
            if isinstance(message, str) and message:
                return RefusedError(printable(message))
        return RefusedError("the password is wrong")
    if 300 <= error.code < 400:
        where = printable(error.headers.get("Location") or "elsewhere")
        return UnreachableError(f"it redirects to {where}: name that address, if you trust it")
    reason = printable(str(error.reason))
    return UnreachableError(f"it answered {error.code} {reason}: is that a dashboard's address?")


def _parsed(message: str | bytes) -> tuple[str, JsonObject]:
    """Type and data of a message; a bye is its own data."""
    said = _object(message)
    data = said.get("data", said)
    kind = said.get("type")
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise ValueError("it sent what is no message of a dashboard")
    return kind, cast("JsonObject", data)


def _object(raw: str | bytes) -> JsonObject:
    """A JSON object from outside.

    Raises:
        ValueError: it is something else.
    """
    try:
        parsed: object = json.loads(raw)
    except (ValueError, RecursionError):  # one that is nested without end is none either
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError("it sent what is no JSON object: is that a dashboard's address?")
    return cast("JsonObject", parsed)


def _why(error: Exception) -> str:
    """An error in words, without what is put around it."""
    reason: object = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        hint = "the environment variable SSL_CERT_FILE names certificates to trust"
        return f"its certificate is not trusted: {printable(reason.verify_message)}; {hint}"
    if isinstance(reason, OSError) and reason.strerror:
        return printable(reason.strerror)
    return printable(str(reason)) or type(reason).__name__
