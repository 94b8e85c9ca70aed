"""What the tests of the dashboard share: executors, served dashboards, and a client for them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tokengate_executor import TokenGateExecutor
from tokengate_executor.dashboard import DashboardServer, serve
from tokengate_executor.dashboard.passwords import Cost, Password

PASSWORD = "open sesame"
# A hash that costs nothing, as the tests log in very often.
HASHED = str(Password.made_of(PASSWORD, Cost(2, 1, 1)))


@dataclass
class Answer:
    """An answer by HTTP."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """What a refusal says."""
        assert self.json["ok"] is False
        return str(self.json["message"])


@dataclass
class Client:
    """A client of a dashboard that keeps one cookie and one CSRF token, as a browser does."""

    port: int
    host: str = "127.0.0.1"
    prefix: str = ""
    cookie: str | None = None
    csrf: str | None = None
    opened: ExitStack = field(default_factory=ExitStack)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request; a body that is no bytes becomes JSON. A header of None is not sent."""
        sent: dict[str, str | None] = {"Host": f"{self.host}:{self.port}"}
        if self.cookie is not None:
            sent["Cookie"] = self.cookie
        if method == "POST":
            sent |= {"X-CSRF-Token": self.csrf, "Content-Type": "application/json"}
            body = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        sent |= headers or {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, self.prefix + path, skip_host=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            got = connection.getresponse()
            answer = Answer(got.status, got.headers, got.read())
        finally:
            connection.close()
        for given in answer.headers.get_all("Set-Cookie", []):
            self.cookie = given.partition(";")[0]
        return answer

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET a path."""
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """POST to a path."""
        return self.ask("POST", path, body, headers)

    def act(self, action: str, /, **arguments: Any) -> Answer:
        """Have something done."""
        return self.post(f"/actions/{action}", arguments)

    def begin(self) -> Client:
        """Get a pre-session, or the token of the session."""
        self.csrf = self.get("/session").json["csrf"]
        return self

    def log_in(self, password: str = PASSWORD) -> Client:
        """Log in."""
        answer = self.begin().post("/login", {"password": password})
        assert answer.status == 200, answer
        self.csrf = answer.json["csrf"]
        return self

    def watch(self, origin: str | None = None, **options: Any) -> ClientConnection:
        """Open the live feed; closed at the end of the test."""
        headers = [] if self.cookie is None else [("Cookie", self.cookie)]
        socket = connect(
            f"ws://{self.host}:{self.port}{self.prefix}/live",
            origin=origin,  # type: ignore[arg-type]
            additional_headers=[*headers, *options.pop("headers", [])],
            proxy=None,
            compression=None,
            max_size=None,
            **options,
        )
        return self.opened.enter_context(socket)

    def another(self) -> Client:
        """A client without cookie and token."""
        return Client(self.port, self.host, self.prefix, opened=self.opened)


@pytest.fixture
def executor() -> Iterator[TokenGateExecutor]:
    """An executor with two workers, one limit and a quarantine."""
    with TokenGateExecutor(2, lanes=1, limits={"db": 2}, quarantine=True) as made:
        yield made


@pytest.fixture
def password() -> str:
    """The password of the dashboards that have one."""
    return PASSWORD


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """What is closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def client_of(opened: ExitStack) -> Callable[..., Client]:
    """Makes a client for a port."""
    return lambda port, **said: Client(port, opened=opened, **said)


@pytest.fixture
def served(opened: ExitStack) -> Callable[..., DashboardServer]:
    """Serves an executor's dashboard until the end of the test."""

    def serve_it(executor: TokenGateExecutor, **options: Any) -> DashboardServer:
        server = opened.enter_context(serve(executor, **options))
        opened.callback(lambda: server.stop(20))
        return server

    return serve_it


@pytest.fixture
def guarded(
    executor: TokenGateExecutor,
    served: Callable[..., DashboardServer],
    client_of: Callable[..., Client],
) -> Callable[..., Client]:
    """Serves the executor with a password; returns a client that has not logged in."""
    return lambda **options: client_of(served(executor, password=HASHED, **options).port)
