"""What is around the dashboard's app: allowed hosts, the headers of all answers, accidents.

Written against ASGI itself, so that it also covers what Starlette answers by itself, and WebSockets.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from tokengate_executor.dashboard.origins import is_host_allowed
from tokengate_executor.dashboard.refusals import FORBIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Shell", "refuse"]

_LOGGER: Final = logging.getLogger("tokengate_executor.dashboard")

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer; ``Cache-Control: no-store`` too, unless the answer says otherwise."""

_ACCIDENT: Final = "this did not work; the log of the program says why"

_STARTS: Final = ("http.response.start", "websocket.http.response.start")
INTERNAL_ERROR: Final = 500
INTERNAL_ERROR_OF_SOCKETS: Final = 1011


class Shell:
    """Lets requests in to the app, and looks after what comes out.

    Args:
        app: the app inside.
        allowed_hosts: from ``checked_hosts``.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...] | None) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] in _STARTS:
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            problem = self._problem_of(scope)
            if problem is None:
                await self._app(scope, receive, send_with_headers)
            else:
                await refuse(scope, send_with_headers, FORBIDDEN, problem)
        except ClientDisconnect:
            pass  # before its request was whole: nobody is there to be answered
        except Exception:
            _LOGGER.exception("the dashboard cannot answer a request for %r", scope["path"])
            if not has_begun:
                await refuse(scope, send_with_headers, INTERNAL_ERROR, _ACCIDENT)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": INTERNAL_ERROR_OF_SOCKETS})

    def _problem_of(self, scope: Scope) -> str | None:
        hosts = Headers(scope=scope).getlist("host")
        server = scope.get("server")
        if len(hosts) == 1 and is_host_allowed(
            hosts[0], server[0] if server else None, self._allowed_hosts
        ):
            return None
        named = repr(hosts[0][:100]) if hosts else "none"
        return f"the dashboard is not to be asked for under the host {named}; allowed_hosts can name it"


async def refuse(scope: Scope, send: Send, status: int, message: str) -> None:
    """Answer with a refusal; to the request for a WebSocket, where the server cannot, with plain 403."""
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    body = json.dumps({"ok": False, "message": message}).encode("ascii")
    headers = [(b"content-type", b"application/json")]
    if scope["type"] == "http":  # else the server says it
        headers.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
