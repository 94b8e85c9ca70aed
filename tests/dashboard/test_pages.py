"""Pages: files of the package, by name, and no others."""

from __future__ import annotations

from importlib import resources

import pytest

from tokengate_executor.dashboard.pages import Pages

STATIC = resources.files("tokengate_executor.dashboard") / "static"


def test_documents() -> None:
    """Both pages are there, as HTML."""
    for name in ("dashboard", "login"):
        page = Pages().document(name)
        assert page.content == (STATIC / f"{name}.html").read_bytes()
        assert page.kind == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dashboard.css", "text/css; charset=utf-8"),
        ("dashboard.js", "text/javascript; charset=utf-8"),
        ("login.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_parts(name: str, kind: str) -> None:
    """Each with its kind, and with a tag of its own that stays."""
    page = Pages().part(name)
    assert page is not None
    assert (page.content, page.kind) == ((STATIC / name).read_bytes(), kind)
    assert page == Pages().part(name)
    others = {Pages().part(other) for other in ("dashboard.css", "dashboard.js", "icon.svg")}
    assert len({other.tag for other in others if other is not None}) == 3


@pytest.mark.parametrize(
    "name",
    [
        "dashboard.html",
        "nothing.js",
        "../app.py",
        "..",
        "",
        ".js",
        "dashboard.js/",
        "/etc/passwd.js",
        "..\\app.js",
        "dashboard.js\0",
        "dashboard.js\n",
        "DASHBOARD.JS",
        "x" * 100_000 + ".js",
    ],
)
def test_nothing_else(name: str) -> None:
    """No page by its file, no other directory, no other kind."""
    assert Pages().part(name) is None


def test_a_package_without_its_files() -> None:
    """Says what is missing."""
    with pytest.raises(FileNotFoundError, match=r"the installed package lacks static/other\.html"):
        Pages().document("other")
