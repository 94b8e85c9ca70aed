"""The doorman: cookies, origins and tokens, as they come by HTTP."""

from __future__ import annotations

import time
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tokengate_executor.dashboard.access import Access
from tokengate_executor.dashboard.doorman import Doorman, address_of
from tokengate_executor.dashboard.refusals import Refusal


@pytest.fixture
def access() -> Access:
    """With a password."""
    return Access(has_password=True, public_read=False, clock=time.monotonic)


def request(*headers: tuple[str, str], **said: Any) -> Request:
    """A POST, by default from this machine."""
    has_host = any(name == "host" for name, _ in headers)
    every = [*headers] if has_host else [("host", "localhost:8000"), *headers]
    return Request(
        {
            "type": "http",
            "method": "POST",
            "path": "/login",
            "scheme": "http",
            "client": ("127.0.0.1", 5),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in every],
            **said,
        }
    )


def cookie(*ids: str) -> tuple[str, str]:
    """One header with so many of our cookies, between others."""
    ours = "; ".join(f"tokengate_session={one}" for one in ids)
    return "cookie", f'a=b; {ours}; tokengate_session_x="1"; c'


def refused(do: Any, *given: Any) -> str:
    """The message of a 403."""
    with pytest.raises(Refusal) as caught:
        do(*given)
    assert caught.value.status == 403
    return caught.value.message


def test_whose_a_cookie_is(access: Access) -> None:
    """The session is found among others of the name, in any header, in quotes; not beyond the eighth."""
    doorman, session = Doorman(access), access.begin()
    assert doorman.visitor(request(cookie(session))).may_control
    assert doorman.visitor(request(cookie("x", access.new_id(), f'"{session}"'))).may_control
    assert doorman.visitor(request(cookie("x"), cookie(session))).may_control
    assert not doorman.visitor(request(cookie(*["x"] * 8, session))).may_control
    assert not doorman.visitor(request()).may_control
    assert not doorman.visitor(request(("cookie", f"other={session}"))).may_control
    assert not doorman.visitor(request(("cookie", ";;=;\xff=\xff; tokengate_session"))).may_read


def test_readers_and_controllers(access: Access) -> None:
    """Who may, and what the others are told."""
    doorman, session = Doorman(access), access.begin()
    assert doorman.reader(request(cookie(session))).may_read
    assert doorman.controller(request(cookie(session))).may_control
    assert refused(doorman.reader, request()) == "log in first"
    assert refused(doorman.controller, request()) == "log in first"
    open_access = Access(has_password=False, public_read=True, clock=time.monotonic)
    open_doorman = Doorman(open_access)
    assert open_doorman.reader(request()).may_read
    message = refused(open_doorman.controller, request())
    assert message == "without a password nothing is controlled"


def test_senders(access: Access) -> None:
    """Bring the token of their own id, once; it does not matter whether they say where they are from."""
    doorman, session, early = Doorman(access), access.begin(), access.new_id()
    for identifier in (session, early):
        token = ("x-csrf-token", access.csrf_of(identifier))
        assert doorman.sender(request(cookie(identifier), token)).id == identifier
        origin = ("origin", "http://localhost:8000")
        assert doorman.sender(request(cookie(identifier), token, origin)).id == identifier
        assert "not that of this session" in refused(doorman.sender, request(cookie(identifier)))
        twice = request(cookie(identifier), token, token)
        assert "not that of this session" in refused(doorman.sender, twice)
    other = ("x-csrf-token", access.csrf_of(early))
    assert "not that of this session" in refused(doorman.sender, request(cookie(session), other))
    assert "no session cookie came along" in refused(doorman.sender, request(other))
    odd = ("x-csrf-token", "\xff")
    assert "not that of this session" in refused(doorman.sender, request(cookie(session), odd))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost:8000", ""])
def test_pages_of_others(access: Access, origin: str) -> None:
    """Send nothing and watch nothing, whatever they know."""
    doorman, session = Doorman(access), access.begin()
    theirs = request(cookie(session), ("x-csrf-token", access.csrf_of(session)), ("origin", origin))
    assert "another origin" in refused(doorman.sender, theirs)
    assert "another origin" in refused(doorman.watcher, theirs)
    both = request(cookie(session), ("origin", "http://localhost:8000"), ("origin", origin))
    assert "another origin" in refused(doorman.watcher, both)
    assert doorman.watcher(request(cookie(session))).may_read


@pytest.mark.parametrize(
    ("scheme", "host", "is_secure"),
    [
        ("http", "localhost:8000", False),
        ("http", "127.0.0.1", False),
        ("http", "[::1]:80", False),
        ("https", "localhost:8000", True),
        ("http", "10.0.0.1:8000", True),
        ("https", "dash.example", True),
    ],
)
def test_cookies(access: Access, scheme: str, host: str, *, is_secure: bool) -> None:
    """For this site's own requests only, out of reach of scripts, and sent in the open only at home."""
    response = Response()
    Doorman(access).give_cookie(request(("host", host), scheme=scheme), response, "an-id")
    first, *rest = response.headers["set-cookie"].split("; ")
    assert first == "tokengate_session=an-id"
    expected = {"HttpOnly", "Path=/", "SameSite=strict"} | ({"Secure"} if is_secure else set())
    assert set(rest) == expected


def test_cookies_of_mounted_apps(access: Access) -> None:
    """Are for their path only, and a path that is in a URL cannot add to them."""
    response = Response()
    doorman = Doorman(access)
    doorman.give_cookie(request(root_path="/tools/dash"), response, "an-id")
    assert "Path=/tools/dash;" in response.headers["set-cookie"]
    response = Response()
    doorman.give_cookie(request(root_path="/a;Domain=example;é"), response, "an-id")
    assert "Domain" not in response.headers["set-cookie"].replace("%3BDomain%3D", "")
    response = Response()
    doorman.take_cookie(request(root_path="/tools"), response)
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert "Path=/tools;" in response.headers["set-cookie"]


def test_addresses() -> None:
    """As far as they are known."""
    assert address_of(request()) == "127.0.0.1"
    assert address_of(request(client=None)) == "unknown"
