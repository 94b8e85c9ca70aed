"""The dashboard in a real browser: what it shows and does, by the account of the executor itself."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from tokengate_executor import (
    OperationBlockedError,
    SpikePolicy,
    TokenGateExecutor,
    TokenKilledError,
    TokenState,
)
from tokengate_executor.policies.breaker import CircuitState

for needed in ("selenium", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(needed, reason=f"the browser tests need {needed}: pip install {needed}")

sys.path.insert(0, str(Path(__file__).parent))
from browser import ActionChains, Page, hindrance, mounted, started  # noqa: E402

from tokengate_executor.dashboard import dashboard_app, serve  # noqa: E402
from tokengate_executor.dashboard.passwords import Cost, Password  # noqa: E402

if TYPE_CHECKING:
    from selenium import webdriver

if (reason := hindrance()) is not None:
    pytest.skip(reason, allow_module_level=True)

PASSWORD: Final = "open sesame"
HASHED: Final = str(Password.made_of(PASSWORD, Cost(2, 1, 1)))
"""A hash that costs nothing, as nearly every test logs in."""


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """One browser for all tests: to start one takes seconds."""
    with started() as chrome:
        yield chrome


@pytest.fixture
def page(driver: webdriver.Chrome) -> Iterator[Page]:
    """The browser; at the end of the test it must have had nothing to complain of."""
    shown = Page(driver)
    shown.problems()
    yield shown
    problems = shown.problems()
    shown.leave()
    assert problems == []


@contextmanager
def occupied(executor: TokenGateExecutor) -> Generator[threading.Event]:
    """Give the one worker something to do until the event is set, at the latest in the end."""
    begun, release = threading.Event(), threading.Event()

    def wait() -> bool:
        begun.set()
        return release.wait()

    executor.options(operation="occupy").submit(wait)
    begun.wait()
    try:
        yield release
    finally:
        release.set()


@contextmanager
def steered(page: Page, executor: TokenGateExecutor, **options: Any) -> Generator[str]:
    """Serve the executor's dashboard, and log in."""
    with executor, serve(executor, password=HASHED, **options) as server:
        page.log_in(server.url, PASSWORD)
        yield server.url
        # A page that is still there when the server goes complains of that.
        page.wait_for_text("#connection", "live")
        assert page.problems() == []
        page.leave()


# logging in


def test_login(page: Page) -> None:
    """A wrong password is refused, and said so; the right one leads to the dashboard."""
    with TokenGateExecutor(1) as executor, serve(executor, password=PASSWORD) as server:
        page.open(server.url)
        page.give_password("wrong")
        page.wait_for_text("#outcome", "the password is wrong")
        assert not page.all("#main")
        page.give_password(PASSWORD)
        page.wait_until_live()
        assert page.is_visible(".toolbar [data-action=pause]")
        page.press("#log-out")
        page.one("#password")
        page.leave()


def test_without_a_password_there_are_no_controls(page: Page) -> None:
    """Everything is seen, no control is, and the page says how to get them."""
    with TokenGateExecutor(1) as executor, serve(executor) as server:
        executor.submit(pow, 2, 3).result()
        page.open(server.url)
        page.wait_until_live()
        page.wait_for_number("tokens.completed", 1)
        page.one("#operations tr[data-key='builtins.pow']")
        assert not page.is_visible("[data-action]")
        assert not page.is_visible("#log-in")
        assert "password" in page.text("#no-control")
        forged = "return fetch('actions/pause', {method: 'POST', body: '{}'}).then(a => a.status)"
        assert page.script(forged) == 403
        assert not executor.statistics().is_paused
        page.leave()


def test_mounted_and_log_in_from_the_page(page: Page) -> None:
    """Below any path; who may only read is offered to log in, and then has the controls."""
    with TokenGateExecutor(1) as executor:
        app = dashboard_app(executor, password=HASHED, public_read=True)
        with mounted(app, "/ops/executor") as url:
            page.open(url)
            page.wait_until_live()
            assert not page.is_visible("[data-action]")
            page.press("#log-in")
            page.one("#log-in-dialog[open] [name=password]").send_keys("wrong")
            page.press("#log-in-dialog [type=submit]")
            page.wait_for_text("#log-in-dialog .outcome", "the password is wrong")
            password = page.one("#log-in-dialog [name=password]")
            password.clear()
            password.send_keys(PASSWORD)
            page.press("#log-in-dialog [type=submit]")
            page.wait(lambda: page.is_visible(".toolbar"), "there are controls")
            page.act(".toolbar [data-action=pause]")
            assert executor.statistics().is_paused
            executor.resume()
            page.leave()


# what is seen


def test_a_load_is_seen_live(page: Page) -> None:
    """The numbers are those of the executor, and move with them."""

    def fail() -> None:
        raise ValueError("no")

    executor = TokenGateExecutor(2, lanes=2, limits={"db": 5}, log_unread_exceptions=False)
    with steered(page, executor):
        light = executor.options(operation="search", weight="light", limits=("db",))
        for _ in range(30):
            light.submit(abs, 1).result()
        page.wait_for_number("tokens.completed", 30)
        for _ in range(12):
            light.submit(abs, 1).result()
        executor.options(operation="broken").submit(fail).exception()
        page.wait_for_number("tokens.completed", 42)
        page.wait_for_number("tokens.failed", 1)
        statistics = executor.statistics()
        assert page.number("tokens.submitted") == statistics.submitted == 43
        assert page.number("system.workers") == statistics.workers
        assert page.text("#name") == statistics.name
        assert page.text("#operations tr[data-key=search] td:nth-child(3)") == "42"
        assert "100 %" in page.text("#operations tr[data-key=search]")
        assert "0 / 5" in page.text("#limits tr[data-key=db]")
        assert len(page.all("#lanes tr")) == len(statistics.lanes)
        label = page.one("#lanes tr .stack").get_attribute("aria-label") or ""
        assert f"light {statistics.lanes[0].started_by_weight['light']}" in label
        page.wait_for_text("#recent", "broken✕failed: ValueError")
        assert len(page.all("#recent tr")) == min(50, len(executor.history()))

        def is_counted() -> bool:
            light.submit(abs, 1).result()
            return "1" <= page.text("#rate")[:1] <= "9"

        page.wait(is_counted, "there is a rate")


def test_a_name_is_only_a_text(page: Page) -> None:
    """Markup in an operation's name is shown and does nothing; so is a name that scripts use."""
    names = ["<img src=x onerror='window.taken=1'><script>window.taken=1</script>", "__proto__"]
    executor = TokenGateExecutor(1)
    with steered(page, executor):
        for name in names:
            executor.options(operation=name).submit(abs, 1).result()
        page.wait_for_number("tokens.completed", len(names))
        for table in ("#operations", "#recent"):
            found = page.wait(lambda: page.all(f"{table} .name"), "there are names")  # noqa: B023
            assert {one.text.strip() for one in found} == set(names)
        assert page.script("return window.taken ?? null") is None
        assert not page.all("main img, main script")
        assert {one.operation for one in executor.guard_house.operations()} == set(names)


def test_what_the_browser_would_complain_of(page: Page) -> None:
    """The check that all tests end with does find what the security policy forbids."""
    with TokenGateExecutor(1) as executor, serve(executor) as server:
        page.open(server.url)
        page.wait_until_live()
        assert page.problems() == []
        page.script(
            "document.body.insertAdjacentHTML('beforeend', '<i style=\"color: red\">!</i>')"
        )
        page.wait(lambda: any("Content Security" in one for one in page.problems()), "it complains")
        page.leave()


# what is done


def test_pause_and_resume(page: Page) -> None:
    """After a pause nothing starts, and the page says so; after a resume it does."""
    executor = TokenGateExecutor(2)
    with steered(page, executor):
        assert page.act(".toolbar [data-action=pause]") == "everything is paused"
        assert executor.statistics().is_paused
        tokens = [executor.submit(pow, 2, n) for n in range(3)]
        page.wait_for_number("tokens.waiting", 3)
        page.wait_for_text("#state", "paused")
        assert not page.one(".toolbar [data-action=pause]").is_enabled()
        statistics = executor.statistics()
        assert (statistics.waiting, statistics.executing, statistics.completed) == (3, 0, 0)
        page.act(".toolbar [data-action=resume]")
        assert [token.result(10) for token in tokens] == [1, 2, 4]
        page.wait_for_number("tokens.completed", 3)
        page.wait_for_text("#state", "running")
        assert not executor.statistics().is_paused


def test_pause_one_operation(page: Page) -> None:
    """The others go on."""
    executor = TokenGateExecutor(1)
    with steered(page, executor):
        mail = executor.options(operation="mail")
        mail.submit(abs, 1).result()
        page.act("#operations tr[data-key=mail] [data-action=pause]")
        assert executor.statistics().paused_operations == ("mail",)
        held = mail.submit(abs, -2)
        assert executor.submit(abs, -3).result(10) == 3
        page.wait_for_text("#state", "1 operation paused")
        page.act("#operations tr[data-key=mail] [data-action=resume]")
        assert held.result(10) == 2
        assert executor.statistics().paused_operations == ()


def test_drain_and_resume(page: Page) -> None:
    """A drained executor takes nothing more until it is resumed."""
    executor = TokenGateExecutor(1)
    with steered(page, executor):
        page.act(".toolbar [data-action=drain]")
        assert executor.statistics().is_draining
        with pytest.raises(RuntimeError, match="drained"):
            executor.submit(abs, 1)
        page.wait_for_text("#state", "draining")
        page.act(".toolbar [data-action=resume]")
        assert executor.submit(abs, -1).result(10) == 1
        page.wait_for_text("#state", "running")
        assert not executor.statistics().is_draining


def test_purge_asks_first(page: Page) -> None:
    """Nothing is done when the question is answered with no; what waits is cancelled with yes."""
    executor = TokenGateExecutor(1)
    with steered(page, executor), occupied(executor):
        tokens = [executor.submit(abs, n) for n in range(3)]
        page.wait_for_number("tokens.waiting", 3)
        page.press(".toolbar [data-action=purge]")
        page.wait_for_text("#ask[open]", "3 calls wait now")
        page.press("#ask-cancel")
        page.wait(lambda: not page.all("#ask[open]"), "the question is gone")
        assert executor.statistics().waiting == 3
        message = page.act(".toolbar [data-action=purge]", confirm=True)
        assert message == "3 waiting calls cancelled"
        assert all(token.cancelled() for token in tokens)
        page.wait_for_number("tokens.cancelled", executor.statistics().cancelled)


def test_kill_a_waiting_token(page: Page) -> None:
    """Its own button kills it, and no other."""
    executor = TokenGateExecutor(1)
    with steered(page, executor), occupied(executor) as release:
        other, token = (executor.options(operation="mail").submit(abs, n) for n in range(2))
        page.act(f"#waiting tr[data-key='{token.id}'] [data-action=kill]")
        assert token.state is TokenState.KILLED
        with pytest.raises(TokenKilledError):
            token.result(10)
        page.wait_for_number("tokens.cancelled", 1)
        assert executor.statistics().cancelled == 1
        # The list stands still as long as the pointer is over it.
        page.wait(lambda: page.all(f"#waiting tr.gone[data-key='{token.id}']"), "it is marked")
        ActionChains(page.driver).move_to_element(page.one("h1")).perform()
        page.wait(lambda: len(page.all("#waiting tr")) == 1, "it is gone")
        release.set()
        assert other.result(10) == 0
        page.wait_for_number("tokens.completed", 2)


def test_kill_by_touch_asks_first(page: Page) -> None:
    """Under a finger rows may move, so the one that was touched is named before it is killed."""
    executor = TokenGateExecutor(1)
    with steered(page, executor), occupied(executor):
        token = executor.submit(abs, 1)
        button = page.one(f"#waiting tr[data-key='{token.id}'] [data-action=kill]")
        page.script("arguments[0].scrollIntoView({block: 'center'})", button)
        page.touch(button)
        page.wait_for_text("#ask[open]", f"Kill token {token.id}?")
        assert not token.done()
        page.press("#ask-confirm")
        page.wait_for_number("tokens.cancelled", 1)
        assert token.state is TokenState.KILLED


def test_ask_a_running_token_to_end(page: Page) -> None:
    """The page shows that it was asked, and that it has ended."""
    executor = TokenGateExecutor(1)
    with steered(page, executor), occupied(executor) as release:
        page.act("#running [data-action=kill]")
        page.wait_for_text("#running tr", "asked to end")
        (running,) = executor.tokens()
        assert running.kill_requested
        release.set()
        page.wait_for_number("tokens.completed", 1)


def test_approve_a_quarantined_call(page: Page) -> None:
    """The token that is held for it resolves."""
    executor = TokenGateExecutor(1, spikes=SpikePolicy())
    with steered(page, executor, show_arguments=True):
        for _ in range(5):
            executor.submit(len, "ab").result()
        token = executor.submit(len, "ab" * 1000)
        assert token.state is TokenState.QUARANTINED
        (call,) = executor.quarantine.pending()
        row = f"#quarantine tr[data-key='{call.id}']"
        page.wait_for_text(row, "builtins.len('abab")
        page.act(f"{row} [data-action=quarantine_approve]")
        assert token.result(10) == 2000
        assert executor.quarantine.pending() == ()
        page.wait_for_number("tokens.quarantined", 0)
        page.wait_for_number("tokens.completed", executor.statistics().completed)


def test_reject_a_quarantined_call(page: Page) -> None:
    """The token that is held for it fails."""
    executor = TokenGateExecutor(1, spikes=SpikePolicy(), log_unread_exceptions=False)
    with steered(page, executor):
        for _ in range(5):
            executor.submit(len, "ab").result()
        token = executor.submit(len, "ab" * 1000)
        page.act("#quarantine [data-action=quarantine_reject]", confirm=True)
        assert "rejected" in str(token.exception(10))
        assert executor.quarantine.counts()["rejected"] == 1
        page.wait_for_number("tokens.failed", executor.statistics().failed)


def test_change_limits(page: Page) -> None:
    """Of both kinds; and what the executor refuses is told as a refusal."""
    executor = TokenGateExecutor(1, limits={"db": 5})
    with steered(page, executor):
        page.act("#limits tr[data-key=db] [data-action=set_limit]", limit=3)
        assert executor.statistics().limits["db"].spec == 3
        page.wait_for_text("#limits tr[data-key=db]", "0 / 3")
        with pytest.raises(AssertionError, match=r"was refused: .*1000000000"):
            page.act("#limits tr[data-key=db] [data-action=set_limit]", limit=10**10)
        assert executor.statistics().limits["db"].spec == 3


def test_resize(page: Page) -> None:
    """More calls may run at a time."""
    executor = TokenGateExecutor(2)
    with steered(page, executor):
        page.act(".toolbar [data-action=resize]", max_workers=5)
        assert executor.statistics().max_workers == 5
        page.wait_for_number("system.max_workers", 5)


def test_open_and_close_a_circuit(page: Page) -> None:
    """Calls are refused while it is open, and let in when it is closed."""
    executor = TokenGateExecutor(1)
    mail = executor.options(operation="mail")
    row = "#operations tr[data-key=mail]"
    with steered(page, executor):
        mail.submit(abs, 1).result()
        assert "blocked" in page.act(f"{row} [data-action=open_circuit]", confirm=True)
        assert executor.guard_house.circuits()["mail"].state is CircuitState.OPEN
        with pytest.raises(OperationBlockedError):
            mail.submit(abs, 1)
        page.wait_for_text(row, "open until it is closed")
        page.wait_for_number("tokens.rejected", executor.statistics().rejected)
        page.act(f"{row} [data-action=close_circuit]")
        assert executor.guard_house.circuits()["mail"].state is CircuitState.CLOSED
        assert mail.submit(abs, -1).result(10) == 1
        page.press(f"{row} .menu-button")
        page.act(f"{row} [data-action=reset_circuit]")


def test_launch(page: Page) -> None:
    """What may be launched is submitted as often as was said."""
    ran: list[int] = []

    def nightly() -> None:
        """Rebuild the index."""
        ran.append(1)

    executor = TokenGateExecutor(1)
    with steered(page, executor, launch={"nightly": nightly}):
        page.wait_for_text("#launcher", "Rebuild the index.")
        times = page.one("#launcher input")
        times.clear()
        times.send_keys("3")
        assert "3 calls" in page.act("#launcher [data-action=launch]")
        page.wait_for_number("tokens.completed", 3)
        page.wait_for_text("#launcher", "launched 3 times")
        assert len(ran) == executor.statistics().completed == 3


def test_download_the_history(page: Page, tmp_path: Path) -> None:
    """The file has what the executor remembers."""
    executor = TokenGateExecutor(1)
    with steered(page, executor):
        for n in range(4):
            executor.submit(abs, n).result()
        page.wait_for_number("tokens.completed", 4)
        folder = str(tmp_path)
        page.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder)
        assert "tokengate-history.json" in page.act(".toolbar [data-action=history]")
        file = tmp_path / "tokengate-history.json"
        page.wait(file.exists, "the file is there")
        found = json.loads(file.read_text(encoding="utf-8"))
        assert json.dumps(found).count("builtins.abs") == len(executor.history()) == 4


# how it looks, and how it ends


@pytest.fixture
def looked_at(page: Page) -> Iterator[Callable[..., None]]:
    """Set how wide the page is, and whether the system is light or dark; undone at the end."""

    def set_(width: int, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.devtools("Emulation.setEmulatedMedia", features=features)
        page.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=760,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        page.wait(lambda: page.script("return innerWidth") == width, f"it is {width} wide")

    yield set_
    page.devtools("Emulation.setEmulatedMedia", features=[])
    page.devtools("Emulation.clearDeviceMetricsOverride")


def test_layouts(page: Page, looked_at: Callable[..., None]) -> None:
    """Nothing is wider than the page, however narrow; dark is dark, and the switch is remembered."""
    brightness = (
        "return getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g)"
        ".slice(0, 3).reduce((sum, part) => sum + Number(part), 0)"
    )
    widest = "return document.documentElement.scrollWidth"
    long_name = "a.very.long.module.name." * 5 + "function"
    executor = TokenGateExecutor(1, limits={"db" * 30: 5}, spikes=SpikePolicy())
    with steered(page, executor, launch={"nightly" * 9: print}, show_arguments=True):
        view = executor.options(operation=long_name, weight="light")
        for _ in range(5):
            view.submit(len, "ab").result()
        view.submit(len, "ab" * 1000)
        executor.guard_house.open(long_name)
        page.wait_for_number("tokens.quarantined", 1)
        with occupied(executor):
            executor.options(operation="wait." * 30).submit(abs, 1)
            page.wait_for_number("tokens.waiting", executor.statistics().waiting)
            for scheme in ("light", "dark"):
                for width in (360, 700, 900, 1280):
                    looked_at(width, scheme)
                    assert page.script(widest) <= width, f"{scheme}, {width}"
                assert (page.script(brightness) < 200) == (scheme == "dark")
        page.script(
            "const select = document.getElementById('theme'); select.value = 'light';"
            "select.dispatchEvent(new Event('change'))"
        )
        assert page.script(brightness) > 600
        page.driver.refresh()
        page.wait_until_live()
        assert page.script(brightness) > 600


def test_the_server_is_stopped(page: Page) -> None:
    """The page stays, says that it has ended and of when its numbers are, and lets nothing be done."""
    with TokenGateExecutor(1) as executor:
        with serve(executor, password=HASHED) as server:
            page.log_in(server.url, PASSWORD)
            executor.submit(abs, 1).result()
            page.wait_for_number("tokens.completed", 1)
        page.wait_for_text("#connection", "ended")
        assert "was shut down" in page.text("#notice")
        assert "The numbers are those of" in page.text("#notice")
        assert page.number("tokens.completed") == executor.statistics().completed
        with pytest.raises(AssertionError, match="was refused: Not done"):
            page.act(".toolbar [data-action=pause]")
        assert not executor.statistics().is_paused
        assert page.problems() == []


def test_the_connection_breaks(page: Page) -> None:
    """The page says so, tries again, and goes on when the server is back."""
    with TokenGateExecutor(1) as executor:

        def again(port: int = 0) -> AbstractContextManager[str]:
            return mounted(dashboard_app(executor, public_read=True), "/dashboard", port)

        with again() as url:
            page.open(url)
            page.wait_until_live()
        page.wait_for_text("#connection", "reconnecting")
        assert page.is_visible("#notice")
        executor.submit(abs, 1).result()
        with again(urlsplit(url).port or 0):
            page.wait_until_live()
            page.wait_for_number("tokens.completed", executor.statistics().completed)
            assert not page.is_visible("#notice")
            page.leave()
    page.problems()  # that the server was not there is what it complains of
