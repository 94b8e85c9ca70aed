"""Origins: which hosts may be asked for, and which pages are ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokengate_executor.dashboard.origins import (
    checked_hosts,
    is_host_allowed,
    is_loopback,
    is_origin_ours,
    name_of_host,
)
from tokengate_executor.errors import InvalidOptionError


@pytest.mark.parametrize(
    ("host", "loops"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.nip.io", False),
        ("", False),
    ],
)
def test_loopback(host: str, *, loops: bool) -> None:
    """By name or address; names that only look like it are not."""
    assert is_loopback(host) is loops


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1:8000", "[::1]:80", "LocalHost", "[::1]"]
)
def test_loopback_is_asked_for_at_loopback(host: str) -> None:
    """With any port, as tunnels change it, and without."""
    assert is_host_allowed(host, "127.0.0.1", None)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "localhost@evil.example",
        "localhost/",
        "localhost:99999999",
        "localhost:",
        "local host",
        "[::1",
        "localhost\n",
        "\uff4cocalhost",
    ],
)
def test_rebinding_is_refused(host: str) -> None:
    """A stranger's name that resolves to this machine, and whatever is no host."""
    assert not is_host_allowed(host, "127.0.0.1", None)
    assert not is_host_allowed(host, "::1", None)


def test_elsewhere_any_host_is_asked_for() -> None:
    """Whoever listens at a network's address has a password; behind a socket file is a proxy."""
    assert is_host_allowed("dash.example.com", "10.0.0.1", None)
    assert is_host_allowed("dash.example.com", None, None)
    assert not is_host_allowed("", "10.0.0.1", None), "but it has to be one"


def test_named_hosts() -> None:
    """Only these, in any letter case and with any port; or any, if that is said."""
    allowed = checked_hosts(["Dash.Example.com", "10.0.0.1", "fe80::1"])
    for host in ("dash.example.com", "DASH.example.com:8443", "10.0.0.1:80", "[fe80::1]"):
        assert is_host_allowed(host, "127.0.0.1", allowed)
    for host in ("localhost", "example.com", "x.dash.example.com"):
        assert not is_host_allowed(host, "127.0.0.1", allowed)
    assert is_host_allowed("evil.example", "127.0.0.1", checked_hosts(("*",)))
    assert checked_hosts(None) is None


@pytest.mark.parametrize("given", ["example.com", [], [7], ["a:80"], ["a", ""], 7, ["http://a"]])
def test_wrong_allowed_hosts(given: Any) -> None:
    """One text, nothing, numbers, ports, URLs."""
    with pytest.raises(InvalidOptionError, match="allowed_hosts must be host names"):
        checked_hosts(given)


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://localhost:8000", "http", "localhost:8000"),
        ("http://localhost:8000", "ws", "localhost:8000"),
        ("https://dash.example.com", "https", "dash.example.com"),
        ("https://dash.example.com", "wss", "dash.example.com:443"),
        ("http://LOCALHOST", "http", "localhost:80"),
        ("http://[::1]:8000", "http", "[::1]:8000"),
    ],
)
def test_our_own_pages(origin: str, scheme: str, host: str) -> None:
    """The same scheme, host and port, however they are written."""
    assert is_origin_ours(origin, scheme, host)


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://evil.example", "http", "localhost:8000"),
        ("http://localhost:8001", "http", "localhost:8000"),
        ("http://localhost", "http", "localhost:8000"),
        ("https://localhost:8000", "http", "localhost:8000"),
        ("http://localhost:8000", "https", "localhost:8000"),
        ("http://127.0.0.1:8000", "http", "localhost:8000"),
        ("http://localhost:8000.evil.example", "http", "localhost:8000"),
        ("http://evil.example@localhost:8000", "http", "localhost:8000"),
        ("http://localhost:8000/", "http", "localhost:8000"),
        ("null", "http", "localhost:8000"),
        ("", "http", "localhost:8000"),
        ("file://", "http", "localhost:8000"),
        ("http://localhost:8000", "gopher", "localhost:8000"),
        ("http://localhost:8000", "http", ""),
        ("http://localhost:8000 http://evil.example", "http", "localhost:8000"),
    ],
)
def test_other_pages(origin: str, scheme: str, host: str) -> None:
    """Another scheme, host or port, or what is no origin at all."""
    assert not is_origin_ours(origin, scheme, host)


@given(st.text(), st.text())
def test_rubbish_raises_nothing(one: str, two: str) -> None:
    """Whatever is sent is looked at, and refused."""
    assert not is_origin_ours(one, "http", two) or "://" in one
    is_host_allowed(one, two, None)
    name_of_host(one)


def test_the_name_in_a_host_header() -> None:
    """Without the port; nothing if it is none."""
    assert name_of_host("LOCALHOST:80") == "localhost"
    assert name_of_host("[::1]:80") == "::1"
    assert name_of_host("a b") == ""
