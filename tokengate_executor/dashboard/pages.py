"""The pages of the dashboard and what they are made of: files of this package."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Final, NamedTuple

__all__ = ["Page", "Pages"]

_KINDS: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PART: Final = re.compile(r"[a-z0-9_-]{1,64}\.(?:css|js|svg)", re.ASCII)


class Page(NamedTuple):
    """One file.

    Attributes:
        content: its bytes.
        kind: its media type.
        tag: changes with the content; an ``ETag``.
    """

    content: bytes
    kind: str
    tag: str


class Pages:
    """Reads each file once."""

    def __init__(self) -> None:
        self._read: dict[str, Page] = {}

    def part(self, name: str) -> Page | None:
        """A style sheet, script or picture; ``None``: there is none of that name."""
        return self._page(name) if _PART.fullmatch(name) else None

    def document(self, name: str) -> Page:
        """A page by name, one of our own."""
        page = self._page(f"{name}.html")
        if page is None:
            raise FileNotFoundError(f"the installed package lacks static/{name}.html")
        return page

    def _page(self, name: str) -> Page | None:
        if name not in self._read:
            file = resources.files(__package__ or "") / "static" / name
            if not file.is_file():
                return None
            content = file.read_bytes()
            tag = hashlib.sha256(content).hexdigest()[:32]
            self._read[name] = Page(content, _KINDS[name.rpartition(".")[2]], f'"{tag}"')
        return self._read[name]
