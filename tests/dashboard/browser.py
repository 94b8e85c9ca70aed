"""A real browser in front of a dashboard: what the browser tests and the screenshots are made with.

Waiting here is polling with a deadline: a page tells nobody when it has changed.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import uvicorn
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

__all__ = ["ActionChains", "Page", "hindrance", "mounted", "started"]

T = TypeVar("T")

PATIENCE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02

_ON_THE_WAY: Final = (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)


def _found(*names: str) -> str | None:
    return next((path for path in map(shutil.which, names) if path), None)


def hindrance() -> str | None:
    """Why there can be no browser here; ``None``: there can."""
    if _found("chromium", "chromium-browser") is None:
        return "there is no Chromium on this machine: apt-get install chromium chromium-driver"
    if _found("chromedriver") is None:
        return "there is no chromedriver on this machine: apt-get install chromium-driver"
    return None


@contextmanager
def started() -> Generator[webdriver.Chrome]:
    """A browser without a window, that asks nobody in the net for anything by itself."""
    options = webdriver.ChromeOptions()
    options.binary_location = _found("chromium", "chromium-browser") or ""
    arguments = [
        "--headless=new",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--window-size=1280,900",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium has none for root
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_found("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page that a browser shows."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    # -- going about ------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go there."""
        self.driver.get(url)

    def log_in(self, url: str, password: str) -> None:
        """Go there, log in, and wait until the dashboard is live."""
        self.open(url)
        self.give_password(password)
        self.wait_until_live()

    def give_password(self, password: str) -> None:
        """Send off the login form."""
        field = self.one("#password")
        field.clear()
        field.send_keys(password)
        self.press("#login button[type=submit]")

    def leave(self) -> None:
        """Look at nothing."""
        self.driver.get("about:blank")

    # -- looking ----------------------------------------------------------------------------------

    def script(self, code: str, *arguments: object) -> Any:
        """Run a function's body in the page; returns what it returns."""
        run: Callable[..., Any] = self.driver.execute_script  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return run(code, *arguments)

    def devtools(self, command: str, **arguments: object) -> Any:
        """Give a command of the DevTools protocol."""
        run: Callable[..., Any] = self.driver.execute_cdp_cmd  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return run(command, arguments)

    def all(self, css: str) -> list[WebElement]:
        """Every element that matches."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        """The first element that matches, once there is one."""
        return self.wait(lambda: self.all(css), f"there is a {css}")[0]

    def text(self, css: str) -> str:
        """What the page says there, in one line; nothing, if there is no such element."""
        return " ".join(
            self.script(
                "return document.querySelector(arguments[0])?.textContent ?? ''", css
            ).split()
        )

    def number(self, name: str) -> int:
        """The number that is shown as ``section.key``; -1 while there is none."""
        text = self.text(f"[data-show='{name}']").replace(",", "")
        return int(text) if text.isdigit() else -1

    def is_visible(self, css: str) -> bool:
        """Whether some element that matches can be seen."""
        visible = (
            "return [...document.querySelectorAll(arguments[0])].some(e => e.checkVisibility())"
        )
        return bool(self.script(visible, css))

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Ask until the answer is true; returns it.

        Raises:
            AssertionError: it is not in time; with what the page says.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = condition()
            except StaleElementReferenceException:
                pass
            else:
                if answer:
                    return answer
            if time.monotonic() > deadline:
                said = self.text("body")[:600]
                raise AssertionError(f"waited in vain until {what}; the page says: {said}")
            time.sleep(POLL_SECONDS)

    def wait_for_text(self, css: str, wanted: str) -> None:
        """Wait until the page says something there."""
        self.wait(lambda: wanted in self.text(css), f"{css} says {wanted!r}")

    def wait_for_number(self, name: str, wanted: int) -> None:
        """Wait until a number is shown."""
        self.wait(lambda: self.number(name) == wanted, f"{name} is {wanted}")

    def wait_until_live(self) -> None:
        """Wait until the page shows what is so now."""
        self.wait_for_text("#connection", "live")
        self.wait(lambda: self.number("tokens.submitted") >= 0, "there are numbers")

    # -- doing ------------------------------------------------------------------------------------

    def press(self, css: str) -> None:
        """Click on what matches, once it is there, can be seen, and lies under nothing else."""

        def pressed() -> bool:
            try:
                element = self.driver.find_element(By.CSS_SELECTOR, css)
                self.script("arguments[0].scrollIntoView({block: 'center'})", element)
                if not (element.is_displayed() and element.is_enabled()):
                    return False
                element.click()
            except _ON_THE_WAY:
                return False
            return True

        self.wait(pressed, f"{css} can be pressed")

    def touch(self, element: WebElement) -> None:
        """Tap on it with a finger."""
        finger = ActionBuilder(self.driver, mouse=PointerInput(POINTER_TOUCH, "finger"))
        pointer: Any = finger.pointer_action
        pointer.move_to(element).pointer_down().pointer_up()
        finger.perform()

    def act(self, css: str, *, confirm: bool = False, **fields: object) -> str:
        """Press a control, fill in and confirm its dialog if it has one; returns what came of it.

        Raises:
            AssertionError: it was refused, or nothing came.
        """
        self.script("document.getElementById('toasts').replaceChildren()")
        self.press(css)
        for name, value in fields.items():
            field = self.one(f"#ask[open] [name={name}]")
            field.clear()
            field.send_keys(str(value))
        if confirm or fields:
            self.press("#ask[open] #ask-confirm")
        self.wait(lambda: self.all(".toast"), f"something comes of {css}")
        message = self.text(".toast .toast-message")
        assert not self.all(".toast.refusal"), f"{css} was refused: {message}"
        return message

    def problems(self) -> list[str]:
        """What the browser complains of since this was last asked.

        That the dashboard refused something is no complaint, though the browser notes the status.
        """
        get: Callable[[str], list[dict[str, Any]]] = self.driver.get_log  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return [
            f"{entry['level']} {entry['source']}: {entry['message']}"
            for entry in get("browser")
            if entry["level"] in {"SEVERE", "WARNING"}
            and not any(f"status of {status}" in entry["message"] for status in (400, 401, 403))
        ]


@contextmanager
def mounted(app: ASGIApp, path: str, port: int = 0) -> Generator[str]:
    """Serve an app below a path of another one; gives its URL. It ends without a goodbye."""
    outer = Starlette(routes=[Mount(path, app)])
    with socket.create_server(("127.0.0.1", port)) as listener:
        config = uvicorn.Config(outer, log_config=None, lifespan="off", ws="websockets-sansio")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server has ended before it began"
                time.sleep(POLL_SECONDS)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}/"
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
