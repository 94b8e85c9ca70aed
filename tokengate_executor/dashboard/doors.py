"""The connections of one server: not too many, none for ever, and none left at the end.

uvicorn bounds none of this, and each connection takes one of the file descriptors that the whole
process has. It is the set that uvicorn keeps which is looked at here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Connection", "Doors"]

MOST_CONNECTIONS: Final = 800
LONGEST_SECONDS: Final = 60.0
FLUSH_SECONDS: Final = 5.0


class Connection(H11Protocol):
    """A connection that does not last unless it becomes a WebSocket, and whose requests are not logged.

    After ``LONGEST_SECONDS`` it ends, whatever it does; browsers open another.
    """

    _end: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn's own option for this silences the access log of the whole process.
        self.access_log = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)
        super().connection_made(made)
        if len(self.connections) > MOST_CONNECTIONS:
            made.abort()
        else:
            self._end = self.loop.call_later(LONGEST_SECONDS, self._end_if_http)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def _end_if_http(self) -> None:
        if self.transport.get_protocol() is self and not self.transport.is_closing():
            self.shutdown()


class Doors:
    """Ends the connections of a server that do not end by themselves.

    Attributes:
        connections: all of them, as uvicorn keeps them.
    """

    def __init__(self) -> None:
        self.connections: Collection[Any] = ()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The app; whoever does not read has ``FLUSH_SECONDS`` to do so after it has ended."""

        async def app_and_end(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if scope["type"] == "websocket":
                    self._end_later(scope["client"])

        return app_and_end

    def _end_later(self, client: object) -> None:
        for connection in self.connections:
            if connection.client is not None and connection.client == client:
                loop = asyncio.get_running_loop()
                loop.call_later(FLUSH_SECONDS, connection.transport.abort)

    def end_all(self) -> None:
        """Whatever is left."""
        for connection in list(self.connections):
            connection.transport.abort()
