"""The dashboard as a Starlette app: its routes.

``shell`` is around it: which hosts may be asked for, the headers of all answers, what becomes of
accidents. Here each request is looked at in this order: for a POST, whether one of our pages sent it;
whose it is, and whether that visitor may (both ``doorman``); what it says (``bodies``). Then it is done.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from typing_extensions import override

from tokengate_executor.dashboard.access import Access, Attempts
from tokengate_executor.dashboard.actions import Desk
from tokengate_executor.dashboard.bodies import read_object
from tokengate_executor.dashboard.doorman import Doorman, address_of
from tokengate_executor.dashboard.feed import Feed, as_json
from tokengate_executor.dashboard.launcher import Launcher
from tokengate_executor.dashboard.off_loop import run_off_loop
from tokengate_executor.dashboard.origins import checked_hosts
from tokengate_executor.dashboard.pages import Pages
from tokengate_executor.dashboard.passwords import Password
from tokengate_executor.dashboard.refusals import (
    BAD_REQUEST,
    FORBIDDEN,
    GONE,
    NOT_FOUND,
    TOO_MANY,
    Refusal,
)
from tokengate_executor.dashboard.shell import Shell, refuse
from tokengate_executor.dashboard.snapshot import PROTOCOL, Gatherer, is_last
from tokengate_executor.errors import InvalidOptionError
from tokengate_executor.executor import TokenGateExecutor
from tokengate_executor.observe.dump import history_as_json

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from tokengate_executor.dashboard.patches import JsonObject

__all__ = ["dashboard_app", "feed_of"]

T = TypeVar("T")

_LOGGER: Final = logging.getLogger("tokengate_executor.dashboard")

MOST_AT_WORK: Final = 16
UNAVAILABLE: Final = 503


def dashboard_app(
    executor: TokenGateExecutor,
    *,
    password: str | None = None,
    public_read: bool = False,
    launch: Mapping[str, Callable[[], object]] | None = None,
    show_arguments: bool = False,
    allowed_hosts: Sequence[str] | None = None,
) -> Starlette:
    """The dashboard of an executor, to be mounted in a Starlette or FastAPI app.

    It does not hold the executor. When that has ended, those who watch are told so. Its sessions are in
    this process's memory, as the executor is.

    Args:
        executor: that is shown, and controlled.
        password: who knows it may read and control. Plain, or what ``hash_password`` made of it.
            ``None``: nothing can be controlled.
        public_read: whether everybody may read.
        launch: name → what those who may control can submit from the dashboard, without arguments.
        show_arguments: whether arguments of quarantined calls, and what their errors say, are shown.
        allowed_hosts: the host names under which it may be asked for, without ports; ``"*"``: any.
            ``None``: of requests that come in by a loopback address only those for loopback, so that
            no page can reach it by a name of its own that resolves there. Behind a proxy name yours.

    Raises:
        InvalidOptionError: there is neither a password nor public reading, or an argument has a value
            that is not allowed.
    """
    given = cast("object", executor)
    if not isinstance(given, TokenGateExecutor):
        raise InvalidOptionError("executor", given, "a TokenGateExecutor")
    if password is None and not public_read:
        raise InvalidOptionError("password", None, "given, unless public_read=True")
    dashboard = _Dashboard(
        executor,
        password=None if password is None else Password.of(password),
        public_read=public_read,
        launcher=Launcher(launch),
        show_arguments=show_arguments,
        clock=time.monotonic,
    )
    app = Starlette(
        routes=dashboard.routes(),
        middleware=[Middleware(Shell, allowed_hosts=checked_hosts(allowed_hosts))],
        exception_handlers={Refusal: _answer_refusal, HTTPException: _answer_http},
    )
    app.state.tokengate_feed = dashboard.feed
    return app


def feed_of(app: Starlette) -> Feed:
    """The feed of a dashboard's app: for who serves it."""
    feed: Feed = app.state.tokengate_feed
    return feed


class _Dashboard:
    """What answers the requests."""

    def __init__(
        self,
        executor: TokenGateExecutor,
        *,
        password: Password | None,
        public_read: bool,
        launcher: Launcher,
        show_arguments: bool,
        clock: Callable[[], float],
    ) -> None:
        self._executor = weakref.ref(executor)
        self._password = password
        self._access = Access(
            has_password=password is not None, public_read=public_read, clock=clock
        )
        self._attempts = Attempts(clock)
        self._doorman = Doorman(self._access)
        self._pages = Pages()
        self._desk = Desk(self._executor, launcher, show_texts=show_arguments)
        self._gatherer = Gatherer(self._executor, launcher, show_arguments=show_arguments)
        self.feed = Feed(self._gatherer.gather, is_last, run_off_loop)
        # One at a time, as each takes tens of megabytes.
        self._hashing = asyncio.Lock()
        self._at_work = 0

    def routes(self) -> list[Route | WebSocketRoute]:
        """What can be asked for."""
        return [
            Route("/", self._page),
            Route("/static/{name}", self._part),
            Route("/session", self._session),
            Route("/snapshot", self._snapshot),
            Route("/history", self._history),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/actions/{name}", self._action, methods=["POST"]),
            WebSocketRoute("/live", self._live),
        ]

    # -- pages ------------------------------------------------------------------------------------

    async def _page(self, request: Request) -> Response:
        may_read = self._doorman.visitor(request).may_read
        page = self._pages.document("dashboard" if may_read else "login")
        return Response(page.content, 200 if may_read else 401, media_type=page.kind)

    async def _part(self, request: Request) -> Response:
        page = self._pages.part(request.path_params["name"])
        if page is None:
            raise Refusal(NOT_FOUND, "there is no such file")
        headers = {"ETag": page.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == page.tag:
            return Response(status_code=304, headers=headers)
        return Response(page.content, headers=headers, media_type=page.kind)

    # -- sessions ---------------------------------------------------------------------------------

    async def _session(self, request: Request) -> Response:
        visitor = self._doorman.visitor(request)
        identifier = visitor.id or self._access.new_id()
        response = _Json(
            {
                "protocol": PROTOCOL,
                "may_read": visitor.may_read,
                "may_control": visitor.may_control,
                "has_password": self._access.has_password,
                "csrf": self._access.csrf_of(identifier),
            }
        )
        if visitor.id is None:
            self._doorman.give_cookie(request, response, identifier)
        return response

    async def _login(self, request: Request) -> Response:
        visitor = self._doorman.sender(request)
        tried = (await read_object(request)).get("password")
        if self._password is None:
            raise Refusal(FORBIDDEN, "there is no password, and nobody can log in")
        if not isinstance(tried, str):
            raise Refusal(BAD_REQUEST, "password must be a text")
        address = address_of(request)
        wait = self._attempts.try_from(address)
        if wait:
            _LOGGER.warning("too many attempts at the password, the last one from %s", address)
            raise Refusal(TOO_MANY, "too many attempts; wait a little", math.ceil(wait))
        async with self._hashing:
            is_right = await run_off_loop(partial(self._password.is_right, tried))
        if not is_right:
            _LOGGER.warning("a wrong password from %s", address)
            raise Refusal(FORBIDDEN, "the password is wrong")
        self._attempts.succeeded(address)
        if visitor.session is not None:
            self._access.end(visitor.session)
            self.feed.look()
        identifier = self._access.begin()
        _LOGGER.info("logged in from %s", address)
        response = _Json({"ok": True, "csrf": self._access.csrf_of(identifier)})
        self._doorman.give_cookie(request, response, identifier)
        return response

    async def _logout(self, request: Request) -> Response:
        visitor = self._doorman.sender(request)
        if visitor.session is not None:
            self._access.end(visitor.session)
            self.feed.look()
            _LOGGER.info("logged out from %s", address_of(request))
        response = _Json({"ok": True})
        self._doorman.take_cookie(request, response)
        return response

    # -- what is seen -----------------------------------------------------------------------------

    async def _snapshot(self, request: Request) -> Response:
        self._doorman.reader(request)
        edition = await self.feed.latest()
        if edition is None:
            raise Refusal(GONE, "the executor is gone")
        return _Json(edition.snapshot)

    async def _history(self, request: Request) -> Response:
        self._doorman.controller(request)
        text = await self._work(self._write_history)
        headers = {"Content-Disposition": 'attachment; filename="tokengate-history.json"'}
        return Response(text, headers=headers, media_type="application/json")

    def _write_history(self) -> str:
        executor = self._executor()
        if executor is None:
            raise Refusal(GONE, "the executor is gone")
        return history_as_json(executor.history())

    async def _live(self, websocket: WebSocket) -> None:
        try:
            visitor = self._doorman.watcher(websocket)
        except Refusal as refusal:
            await refuse(websocket.scope, websocket.send, refusal.status, refusal.message)
            return
        if self.feed.is_full:
            await refuse(websocket.scope, websocket.send, UNAVAILABLE, "too many watch already")
            return
        await websocket.accept()
        await self.feed.attend(_Socket(websocket), lambda: self._access.ending(visitor.session))

    # -- what is done -----------------------------------------------------------------------------

    async def _action(self, request: Request) -> Response:
        self._doorman.sender(request)
        self._doorman.controller(request)
        name: str = request.path_params["name"]
        given = await read_object(request)
        address = address_of(request)
        try:
            message = await self._work(partial(self._desk.perform, name, given))
        except Refusal as refusal:
            _LOGGER.info("%r from %s was refused: %s", name, address, refusal.message)
            raise
        _LOGGER.info("%r from %s: %s", name, address, message)
        self._gatherer.look_again()
        return _Json({"ok": True, "message": message})

    async def _work(self, function: Callable[[], T]) -> T:
        if self._at_work >= MOST_AT_WORK:
            raise Refusal(TOO_MANY, "too much is being done already", 1)
        self._at_work += 1
        try:
            return await run_off_loop(function)
        finally:
            self._at_work -= 1


class _Json(Response):
    """As Starlette's, but in ASCII: not every name of an operation can be written in UTF-8."""

    media_type = "application/json"

    @override
    def render(self, content: JsonObject) -> bytes:
        return as_json(content).encode("ascii")


class _Socket:
    """A Starlette WebSocket as the feed sees it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes | None:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, text: str) -> None:
        await self._tell({"type": "websocket.send", "text": text})

    async def close(self, code: int) -> None:
        await self._tell({"type": "websocket.close", "code": code})

    async def _tell(self, message: dict[str, object]) -> None:
        try:
            await self._websocket.send(message)
        except (WebSocketDisconnect, RuntimeError) as error:  # the second: it was closed meanwhile
            raise ConnectionResetError from error


async def _answer_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return _Json({"ok": False, "message": error.message}, error.status, headers)


async def _answer_http(_request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: an unknown path, another method."""
    assert isinstance(error, HTTPException)
    return _Json({"ok": False, "message": error.detail}, error.status_code, error.headers)
