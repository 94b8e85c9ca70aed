"""Bodies: what is read as a JSON object, and everything else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from tokengate_executor.dashboard import bodies
from tokengate_executor.dashboard.bodies import read_object
from tokengate_executor.dashboard.refusals import Refusal

JSON = {"content-type": "application/json"}


def read(chunks: Iterable[bytes] | None, **headers: str) -> Any:
    """Read a request's body that comes in these pieces; ``None``: nothing comes for ever."""
    pieces = None if chunks is None else iter(chunks)

    async def receive() -> dict[str, Any]:
        if pieces is None:
            await asyncio.Event().wait()
        piece = next(pieces or iter(()), None)
        if piece is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": piece, "more_body": True}

    said = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = [(name.encode(), value.encode()) for name, value in said.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": encoded}
    return asyncio.run(read_object(Request(scope, receive)))


def refused(chunks: Iterable[bytes] | None, **headers: str) -> tuple[int, str]:
    """Status and message."""
    with pytest.raises(Refusal) as caught:
        read(chunks, **headers)
    return caught.value.status, caught.value.message


def test_objects() -> None:
    """In one piece or many, with or without a length, however the kind is written."""
    assert read([b'{"a": 1}']) == {"a": 1}
    assert read([b'{"a"', b"", b": [", b"1]}"], content_length="10") == {"a": [1]}
    assert read([b'{"a":"\xc3\xa9"}'], content_type="Application/JSON; charset=utf-8") == {"a": "é"}


def test_just_as_large_as_it_may_be() -> None:
    """And one byte larger, whatever length was told."""
    largest = bodies.LARGEST_BODY_BYTES
    fits = json.dumps({"a": "x" * (largest - 9)}).encode()
    assert len(fits) == largest
    assert read([fits])["a"].startswith("x")
    assert refused([fits, b" "]) == (413, "the body must have at most 16384 bytes")
    assert refused([fits, b" "], content_length="1")[0] == 413


@pytest.mark.parametrize("told", ["16385", "9" * 5000, "-1", "1e3", "", "٣"])
def test_lengths_that_are_refused(told: str) -> None:
    """Before anything is read."""
    assert refused(None, content_length=told)[0] == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1} x',
        b"\xff\xfe{\x00}\x00",
        b'{"a": "\xff"}',
        b"[" * 16_000,
        b'{"a":' * 3000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    """Nothing, half of it, another notation, another encoding, too deep, too large a number."""
    assert refused([body]) == (400, "the body is not JSON")


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_what_is_no_object(body: bytes) -> None:
    """Arguments have names."""
    assert refused([body]) == (400, "the body must be a JSON object")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json-patch+json"]
)
def test_other_kinds(kind: str) -> None:
    """A form of somebody else's page can send some of them without being asked."""
    assert refused([b"{}"], content_type=kind) == (415, "the body must be application/json")


def test_compressed_ones() -> None:
    """A small one may hold a very large one."""
    assert refused([b"{}"], content_encoding="gzip") == (415, "the body must not be compressed")


def test_one_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is waited for only so long."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.02)
    assert refused(None) == (400, "the body did not arrive in time")


def test_a_client_that_is_gone() -> None:
    """Is not answered."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"content-type", b"application/json")],
    }
    with pytest.raises(ClientDisconnect):
        asyncio.run(read_object(Request(scope, receive)))
