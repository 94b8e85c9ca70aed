"""Reading what a client sends as JSON: bounded in size, in time, and in what it may be."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final, NoReturn, cast

from tokengate_executor.dashboard.refusals import BAD_REQUEST, NOT_JSON, TOO_LARGE, Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

    from tokengate_executor.dashboard.patches import Json, JsonObject

__all__ = ["read_object"]

LARGEST_BODY_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 10.0


async def read_object(request: Request) -> JsonObject:
    """The JSON object that a request brings along.

    Raises:
        Refusal: it is too large, takes too long, or is no JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(NOT_JSON, "the body must be application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(NOT_JSON, "the body must not be compressed")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request)
    except TimeoutError:
        raise Refusal(BAD_REQUEST, "the body did not arrive in time") from None
    found = _parse(body)
    if not isinstance(found, dict):
        raise Refusal(BAD_REQUEST, "the body must be a JSON object")
    return cast("JsonObject", found)


async def _read(request: Request) -> bytes:
    told = request.headers.get("content-length", "0")
    body = b""
    if not told.isdecimal() or len(told) > 9 or int(told) > LARGEST_BODY_BYTES:
        _refuse_large()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY_BYTES:
            _refuse_large()
    return body


def _refuse_large() -> NoReturn:
    raise Refusal(TOO_LARGE, f"the body must have at most {LARGEST_BODY_BYTES} bytes")


def _parse(body: bytes) -> Json:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Refusal(BAD_REQUEST, "the body is not JSON") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
