"""Serving a dashboard from a thread of its own, beside whatever the program does.

Guarantees
    * When ``serve`` returns, the port is bound and answers; what hinders that is raised there.
    * ``request_stop`` takes no lock and never waits: also in a finaliser, or under anybody's lock.
    * Neither the thread nor the server holds the executor. They end with it.

Assumes
    * ``loop.call_soon_threadsafe`` takes no lock: it appends to a deque and writes a byte to a socket.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Self, cast

import uvicorn
from typing_extensions import override

from tokengate_executor.dashboard.app import dashboard_app, feed_of
from tokengate_executor.dashboard.doors import Connection, Doors
from tokengate_executor.dashboard.feed import LONGEST_FRAME_BYTES
from tokengate_executor.dashboard.origins import ANY_HOST, is_loopback
from tokengate_executor.errors import InvalidOptionError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from tokengate_executor.executor import TokenGateExecutor

__all__ = ["DashboardServer", "serve"]

importlib.import_module("websockets")  # uvicorn would say only later that it is missing

_LOGGER: Final = logging.getLogger("tokengate_executor.dashboard")

BYE_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 2
STOP_SECONDS: Final = 10.0
BACKLOG: Final = 128
SEND_BUFFER_BYTES: Final = 128 * 1024
"""Of the system, for each connection: by default it keeps megabytes for one that does not read."""
LARGEST_HEADERS_BYTES: Final = 16 * 1024
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def serve(
    executor: TokenGateExecutor,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    password: str | None = None,
    launch: Mapping[str, Callable[[], object]] | None = None,
    show_arguments: bool = False,
    ssl_certfile: str | os.PathLike[str] | None = None,
    ssl_keyfile: str | os.PathLike[str] | None = None,
) -> DashboardServer:
    """Serve the dashboard of an executor until that has ended or is gone, or ``stop`` is called.

    Without a password everybody who can use this machine may read, and nobody may control. Behind a
    proxy mount ``dashboard_app`` in an app of yours instead, which can be told under which names.

    Args:
        executor: that is shown, and controlled.
        host: the address, or the name of it, at which to listen.
        port: at which; 0: any that is free, see ``DashboardServer.port``.
        password: who knows it may read and control. Plain, or what ``hash_password`` made of it.
        launch: name → what those who may control can submit from the dashboard, without arguments.
        show_arguments: whether arguments of quarantined calls, and what their errors say, are shown.
        ssl_certfile: the path of a certificate; with it, https is spoken.
        ssl_keyfile: of its key, if that is not in the same file.

    Raises:
        InvalidOptionError: others than this machine could reach it and there is no password, or an
            argument has a value that is not allowed.
        OSError: the address cannot be had: the port is in use, or the host is not one of ours.
    """
    _check_address(host, port)
    if ssl_keyfile is not None and ssl_certfile is None:
        raise InvalidOptionError("ssl_certfile", None, "given where there is an ssl_keyfile")
    family, address = _resolved(host, port)
    is_local = is_loopback(address[0])
    if not is_local and password is None:
        allowed = "given where others than this machine can reach the dashboard"
        raise InvalidOptionError("password", None, allowed)
    app = dashboard_app(
        executor,
        password=password,
        public_read=password is None,
        launch=launch,
        show_arguments=show_arguments,
        # The password is what protects one that others may reach, under whatever name they know it.
        allowed_hosts=None if is_local else ANY_HOST,
    )
    if not is_local and ssl_certfile is None:
        _LOGGER.warning(
            "the dashboard speaks plain http at %s: who listens on the way sees all of it, and browsers "
            "on other machines cannot log in; give it an ssl_certfile",
            host,
        )
    server = DashboardServer(
        app, host, _listening(family, address, host), ssl_certfile, ssl_keyfile
    )
    server.end_with(executor)
    server.start()
    executor.add_dashboard(server)
    return server


class DashboardServer:
    """A dashboard that is being served. A context manager: leaving it stops the server.

    Attributes:
        url: where it is, for a browser on this machine.
        port: at which it listens.
    """

    def __init__(
        self,
        app: Starlette,
        host: str,
        listener: socket.socket,
        ssl_certfile: str | os.PathLike[str] | None,
        ssl_keyfile: str | os.PathLike[str] | None,
    ) -> None:
        """For ``serve``, which calls ``start``, too.

        Raises:
            OSError: the certificate cannot be read, or is none; the listener is closed then.
        """
        self._feed = feed_of(app)
        self._feed.on_over = self.request_stop
        self._listener = listener
        self._doors = Doors()
        config = uvicorn.Config(
            self._doors.around(app),
            http=Connection,
            ws="websockets-sansio",
            ws_max_size=LONGEST_FRAME_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            workers=1,
            h11_max_incomplete_event_size=LARGEST_HEADERS_BYTES,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=None if ssl_keyfile is None else os.fspath(ssl_keyfile),
        )
        self._server = _Server(config)
        self._doors.connections = self._server.server_state.connections
        try:
            config.load()
        except BaseException:
            listener.close()
            raise
        self.port: Final[int] = listener.getsockname()[1]
        shown = _WILDCARDS.get(host, host)
        scheme = "http" if ssl_certfile is None else "https"
        self.url: Final = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{self.port}/"
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="tokengate_dashboard", daemon=True)
        # Written by our thread, and read by whoever wants it to stop: see `request_stop`.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_to_stop = False
        self._stop_asked: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._finaliser: weakref.finalize[..., object] | None = None
        _listeners.add(listener)

    def end_with(self, executor: TokenGateExecutor) -> None:
        """Stop when the executor is gone."""
        self._finaliser = weakref.finalize(executor, self.request_stop)
        self._finaliser.atexit = False

    def start(self) -> None:
        """Serve from here on.

        Raises:
            BaseException: whatever hinders it.
        """
        self._thread.start()
        self._server.is_up.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    @property
    def is_running(self) -> bool:
        """Whether it is being served."""
        return self._thread.is_alive() and self._process == os.getpid()

    def request_stop(self) -> None:
        """Have it say goodbye to those who watch, and stop; returns at once. May be called again."""
        self._is_to_stop = True
        # Our thread writes the loop and then reads the flag; here it is the other way round.
        loop, stop_asked = self._loop, self._stop_asked
        if loop is None or stop_asked is None or self._process != os.getpid():
            return
        try:
            loop.call_soon_threadsafe(stop_asked.set)
        except RuntimeError:
            if not loop.is_closed():
                raise

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped; returns whether it has.

        Args:
            timeout: for how long, in seconds; ``None``: as long as it takes.
        """
        if self._thread is threading.current_thread():
            return False
        if self._process == os.getpid():
            self._thread.join(timeout)
        return not self.is_running

    def stop(self, timeout: float | None = STOP_SECONDS) -> bool:
        """``request_stop``, and ``join``."""
        self.request_stop()
        return self.join(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<{type(self).__name__} at {self.url} {state}>"

    # -- on the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            # Not a loop that somebody's policy makes: ours is to be like this one.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._server.is_up.is_set():
                _LOGGER.exception("the dashboard at %s has ended", self.url)
            else:
                self._failure = error
        finally:
            self._listener.close()
            if self._finaliser is not None:
                self._finaliser.detach()
            self._server.is_up.set()

    async def _serve(self) -> None:
        stop_asked = self._stop_asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._is_to_stop:
            stop_asked.set()
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        stopping = asyncio.create_task(stop_asked.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await self._feed.end(BYE_SECONDS)
        self._server.should_exit = True
        await serving
        self._doors.end_all()
        await asyncio.sleep(0)  # their protocols hear of it in the next turn


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is up. It handles no signals, as it is on no main thread."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


def _check_address(host: object, port: object) -> None:
    if not isinstance(host, str) or not host:
        raise InvalidOptionError(
            "host", host, "the name or address of one of this machine's networks"
        )
    if type(port) is not int or not 0 <= port <= 65535:
        raise InvalidOptionError("port", port, "a number from 0 to 65535")


def _resolved(host: str, port: int) -> tuple[int, tuple[str, int]]:
    """The family of addresses, and the first address that the name stands for."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, cast("tuple[str, int]", address)


def _listening(family: int, address: tuple[str, int], host: str) -> socket.socket:
    try:
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
        # Those that it accepts inherit it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        return listener
    except OSError as error:
        where = f"{host}, port {address[1]}"
        text = f"cannot serve a dashboard at {where}: {(error.strerror or str(error)).lower()}"
        raise OSError(error.errno, text) from error


# A forked child has the parent's sockets, too, and would keep the port after the parent's end.
_listeners: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


def _close_inherited() -> None:
    for listener in list(_listeners):
        listener.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
