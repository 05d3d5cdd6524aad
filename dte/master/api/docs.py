"""For those who write against a master: its OpenAPI document, and a page to read and try it."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, Literal

from dte.core.errors import NotFound
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import HTML, Content, Route, document, documented
from dte.wire.codec import encode

MEDIA = {"page.css": "text/css", "page.js": "text/javascript"}
"""What the page loads."""
LINK = re.compile(rb'((?:href|src)=")(?!data:)')
"""Where the page names something beside it; paths there are relative, as it may be behind a proxy
that adds to them."""
BELOW = b"../"
CACHE_S = 600
POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src data:",
        "connect-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The page loads from this master alone, and runs nothing that is written into it."""


@cache  # For each master of a process; there is one but in tests.
def encoded(routes: tuple[Route, ...]) -> bytes:
    """The OpenAPI document of those routes, as JSON."""
    return encode(document(routes))


@cache
def asset(name: str) -> bytes:
    """A file of the folder ``page``."""
    return resources.files(__package__).joinpath("page", name).read_bytes()


class Served(JsonHandler):
    """Base of what is served as it is."""

    def serve(self, raw: bytes, media: str) -> None:
        self.set_header("Content-Type", media)
        self.set_header("X-Content-Type-Options", "nosniff")
        self._send([raw])


class Document(Served):
    """``GET /openapi.json``: the document of all routes of the application."""

    @documented("This document", replies={200: dict[str, Any]})
    def get(self) -> None:
        self.set_header("Cache-Control", "no-cache")
        self.serve(self.settings["openapi"], "application/json")


class Page(Served):
    """``GET /docs``: the page."""

    @documented("The routes, to read and to try in a browser", replies={200: HTML})
    def get(self) -> None:
        self.show(b"")

    def show(self, root: bytes) -> None:
        """Serve the page.

        Args:
            root: the path from the page's folder to that of the routes.
        """
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-cache")
        page = LINK.sub(rb"\1" + root, asset("page.html"))
        self.serve(page, "text/html; charset=utf-8")


class PageBelow(Page):
    """``GET /scheduler/docs``: the same page, for who looks for it among a dialect's routes."""

    @documented("The same page as at /docs", replies={200: HTML})
    def get(self) -> None:
        self.show(BELOW)


class Asset(Served):
    """``GET /docs/{file}``: what the page loads."""

    @documented(
        "What the page loads",
        path={"file": Literal["page.css", "page.js"]},
        replies={200: tuple(Content(str, media) for media in MEDIA.values())},
        errors=(404,),
    )
    def get(self, file: str) -> None:
        if file not in MEDIA:
            raise NotFound(f"there is nothing at {self.request.path}")
        self.set_header("Cache-Control", f"max-age={CACHE_S}")
        self.serve(asset(file), f"{MEDIA[file]}; charset=utf-8")
