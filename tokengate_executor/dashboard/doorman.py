"""Whose a request is, and whether one of our pages sent it: ``access`` and ``origins``, from HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from tokengate_executor.dashboard.origins import is_loopback, is_origin_ours, name_of_host
from tokengate_executor.dashboard.refusals import FORBIDDEN, Refusal

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response

    from tokengate_executor.dashboard.access import Access, Visitor

__all__ = ["COOKIE", "Doorman", "address_of"]

COOKIE: Final = "tokengate_session"
CSRF_HEADER: Final = "x-csrf-token"
_MOST_COOKIES: Final = 8


class Doorman:
    """Stands between the requests and what they want.

    Args:
        access: who may do what.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def visitor(self, connection: HTTPConnection) -> Visitor:
        """Who sends a request."""
        # Of one name several may come: those of other paths, and of other ports of this host.
        ids = [
            value.strip().strip('"')
            for header in connection.headers.getlist("cookie")
            for name, _, value in (part.partition("=") for part in header.split(";"))
            if name.strip() == COOKIE
        ]
        return self._access.visitor(ids[:_MOST_COOKIES])

    def reader(self, connection: HTTPConnection) -> Visitor:
        """Who wants to see something.

        Raises:
            Refusal: the visitor may not.
        """
        visitor = self.visitor(connection)
        if not visitor.may_read:
            raise Refusal(FORBIDDEN, "log in first")
        return visitor

    def watcher(self, connection: HTTPConnection) -> Visitor:
        """Who wants to see it live: a page of ours, or a client that is no browser.

        Raises:
            Refusal: the visitor may not, or is somebody else's page.
        """
        self._check_origin(connection)
        return self.reader(connection)

    def controller(self, connection: HTTPConnection) -> Visitor:
        """Who wants what only those who are logged in may have.

        Raises:
            Refusal: the visitor may not.
        """
        visitor = self.visitor(connection)
        if not visitor.may_control:
            has_password = self._access.has_password
            advice = "log in first" if has_password else "without a password nothing is controlled"
            raise Refusal(FORBIDDEN, advice)
        return visitor

    def sender(self, request: Request) -> Visitor:
        """Who sends a POST, from a page of ours.

        Raises:
            Refusal: it is somebody else's page, or brings no proof that it is ours.
        """
        self._check_origin(request)
        visitor = self.visitor(request)
        tokens = request.headers.getlist(CSRF_HEADER)
        if visitor.id is None:
            raise Refusal(
                FORBIDDEN,
                "no session cookie came along: get ./session first; over plain http browsers keep it "
                "only from this machine, so use https",
            )
        if len(tokens) != 1 or not self._access.is_csrf_right(visitor, tokens[0]):
            raise Refusal(
                FORBIDDEN, "the X-CSRF-Token is not that of this session: load the page anew"
            )
        return visitor

    def _check_origin(self, connection: HTTPConnection) -> None:
        origins = connection.headers.getlist("origin")
        host = connection.headers.get("host", "")
        for origin in origins:
            if not is_origin_ours(origin, connection.scope["scheme"], host):
                raise Refusal(FORBIDDEN, "this comes from a page of another origin")

    def give_cookie(self, connection: HTTPConnection, response: Response, identifier: str) -> None:
        """Have the visitor come back under that id."""
        response.set_cookie(
            COOKIE,
            identifier,
            path=_path_of(connection),
            secure=not _is_plain_loopback(connection),
            httponly=True,
            samesite="strict",
        )

    def take_cookie(self, connection: HTTPConnection, response: Response) -> None:
        """Have the visitor forget its id."""
        response.delete_cookie(
            COOKIE,
            path=_path_of(connection),
            secure=not _is_plain_loopback(connection),
            httponly=True,
            samesite="strict",
        )


def address_of(connection: HTTPConnection) -> str:
    """From where a request comes, for limits and logs."""
    return "unknown" if connection.client is None else connection.client.host


def _path_of(connection: HTTPConnection) -> str:
    # As the browser spells it, and without what would end the attribute: it may be a part of the URL.
    root_path: str = connection.scope.get("root_path", "")
    return quote(root_path) or "/"


def _is_plain_loopback(connection: HTTPConnection) -> bool:
    is_plain = connection.scope["scheme"] in {"http", "ws"}
    return is_plain and is_loopback(name_of_host(connection.headers.get("host", "")))
