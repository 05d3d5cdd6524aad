"""The OpenAPI document, and a page to read it and to try requests."""

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
"""The files that the page loads, with their media types."""
LINK = re.compile(rb'((?:href|src)=")(?!data:)')
"""A link of the page. Links are relative: a proxy may serve the page below a prefix."""
BELOW = b"../"
CACHE_S = 600
POLICY = (
    "default-src 'none'; img-src data:; connect-src 'self'; script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads files from this master alone, and runs no inline code."""


@cache  # Tests start many masters in a process.
def encoded(routes: tuple[Route, ...]) -> bytes:
    """The OpenAPI document of some routes, as JSON."""
    return encode(document(routes))


@cache
def asset(name: str) -> bytes:
    """A file of the folder ``page``."""
    return resources.files(__package__).joinpath("page", name).read_bytes()


class Served(JsonHandler):
    """Base of the routes that serve files."""

    def serve(self, raw: bytes, media: str) -> None:
        self.set_header("Content-Type", media)
        self.set_header("X-Content-Type-Options", "nosniff")
        self._send([raw])


class Document(Served):
    @documented("Get this document", replies={200: dict[str, Any]})
    def get(self) -> None:
        self.set_header("Cache-Control", "no-cache")
        self.serve(self.settings["openapi"], "application/json")


class Page(Served):
    @documented("Show the routes in a browser, and try them", replies={200: HTML})
    def get(self) -> None:
        self.show(b"")

    def show(self, root: bytes) -> None:
        """Serve the page, with `root` as the relative path to the folder of the routes."""
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-cache")
        page = LINK.sub(rb"\1" + root, asset("page.html"))
        self.serve(page, "text/html; charset=utf-8")


class PageBelow(Page):
    """``GET /scheduler/docs``: the page at the place where users of that dialect look for it."""

    @documented("Show the page of /docs", replies={200: HTML})
    def get(self) -> None:
        self.show(BELOW)


class Asset(Served):
    @documented(
        "Get a file of the page",
        path={"file": Literal["page.css", "page.js"]},
        replies={200: tuple(Content(str, media) for media in MEDIA.values())},
        errors=(404,),
    )
    def get(self, file: str) -> None:
        if file not in MEDIA:
            raise NotFound(f"there is nothing at {self.request.path}")
        self.set_header("Cache-Control", f"max-age={CACHE_S}")
        self.serve(asset(file), f"{MEDIA[file]}; charset=utf-8")
