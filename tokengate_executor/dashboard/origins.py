"""Whether a request is one that our own pages could have sent: its ``Host`` and its ``Origin``.

A browser lets any page send requests anywhere, and says in ``Origin`` which page it was. That a foreign
page cannot read the answers rests on names, and names can be made to lie: one that a stranger owns may
resolve to 127.0.0.1 (DNS rebinding). So whoever comes in by loopback has to have asked for loopback.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from tokengate_executor.errors import InvalidOptionError

__all__ = [
    "ANY_HOST",
    "checked_hosts",
    "is_host_allowed",
    "is_loopback",
    "is_origin_ours",
    "name_of_host",
]

ANY_HOST: Final = ("*",)

_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9_.-]{1,253}))(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_ORIGIN: Final = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#@\\\s]+)", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}
_WEB_SCHEMES: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


class _Authority(NamedTuple):
    host: str
    port: int | None


def checked_hosts(allowed: object) -> tuple[str, ...] | None:
    """``allowed_hosts=`` as names in lower case.

    Raises:
        InvalidOptionError: it is not a sequence of host names without ports, or ``"*"``.
    """
    if allowed is None:
        return None
    hosts = _hosts_of(allowed)
    if hosts:
        return hosts
    raise InvalidOptionError(
        "allowed_hosts", allowed, "host names without ports, '*' for any of them, or None"
    )


def is_host_allowed(host: str, server: str | None, allowed: tuple[str, ...] | None) -> bool:
    """Whether a ``Host`` header is one under which we want to be asked.

    Args:
        host: as the client sent it.
        server: the address at which the request came in; ``None``: not known.
        allowed: from ``checked_hosts``. ``None``: at a loopback address those of loopback, else any.
    """
    found = _authority(host)
    if found is None:
        return False
    if allowed is not None:
        return found.host in allowed or "*" in allowed
    return is_loopback(found.host) or not is_loopback(server or "")


def is_origin_ours(origin: str, scheme: str, host: str) -> bool:
    """Whether a page at ``origin`` is one of ours.

    Args:
        origin: the header.
        scheme: by which we were asked: ``http``, ``https``, ``ws`` or ``wss``.
        host: the ``Host`` header.
    """
    theirs, ours = _ORIGIN.fullmatch(origin.lower()), _authority(host)
    if theirs is None or ours is None or theirs["scheme"] != _WEB_SCHEMES.get(scheme):
        return False
    asked = _authority(theirs["authority"])
    usual = _PORTS[theirs["scheme"]]
    return (
        asked is not None
        and asked.host == ours.host
        and (asked.port or usual) == (ours.port or usual)
    )


def name_of_host(host: str) -> str:
    """The name or address in a ``Host`` header, without the port; empty if it is none."""
    found = _authority(host)
    return "" if found is None else found.host


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, and nobody else can reach it."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _authority(text: str) -> _Authority | None:
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    return _Authority(found["v6"] or found["name"], int(found["port"]) if found["port"] else None)


def _hosts_of(allowed: object) -> tuple[str, ...] | None:
    if isinstance(allowed, str) or not isinstance(allowed, Sequence):
        return None
    given = cast("Sequence[object]", allowed)
    hosts = [_host_of(one) for one in given if isinstance(one, str)]
    found = tuple(host for host in hosts if host is not None)
    return found if len(found) == len(given) else None


def _host_of(name: str) -> str | None:
    if name == "*":
        return name
    found = _authority(name) or _authority(f"[{name}]")
    return None if found is None or found.port is not None else found.host
