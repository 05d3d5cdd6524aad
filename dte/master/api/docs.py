"""The OpenAPI document, and a page to read it and to try requests."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any, Literal

from dte import __version__
from dte.core.errors import NotFound
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import HTML, TEXT, Content, Route, document, documented
from dte.master.http.forwarded import url_of
from dte.wire.codec import encode

MEDIA = {"page.css": "text/css", "page.js": "text/javascript"}
"""The files that the page loads, with their media types."""
LINK = re.compile(rb'((?:href|src)=")(?!data:)')
"""A link of the page. Links are relative: a proxy may serve the page below a prefix."""
BELOW = b"../"
CACHE_S = 600
TITLE = f"dte {__version__}, a master: it accepts jobs and hands them to workers."
MORE = "With all fields: {url}/openapi.json, or {url}/docs in a browser.\n"
INDEX = f"""\
{TITLE}

  curl {{url}}/jobs -d '{{"handler": "echo", "args": ["hello"]}}'    submit a call of a handler
  curl {{url}}/submit -d '{{"task": "1+(2*3)/4-5"}}'    submit a formula
  curl {{url}}/job/1    see a job
  curl {{url}}/job/1/why    see why it waits
  curl {{url}}/jobs    see the last jobs
  curl {{url}}/worker    see the workers
  curl {{url}}/health    see the health of the master
  curl {{url}}/docs    see all routes; in a browser, try them

To start a worker: dte worker --master {{url}}
"""
POLICY = (
    "default-src 'none'; img-src data:; connect-src 'self'; script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads files from this master alone, and runs no inline code."""


def encoded(routes: tuple[Route, ...]) -> bytes:
    """The OpenAPI document of some routes, as JSON."""
    return encode(document(routes)) + b"\n"


@cache
def listed(openapi: bytes) -> str:
    """The routes of an OpenAPI document for a terminal: a line for each method of a path."""
    lines: dict[str, list[str]] = {}
    for path, methods in json.loads(openapi)["paths"].items():
        for method, operation in methods.items():
            line = f"  {method.upper():<6} {path:<42} {operation['summary']}"
            lines.setdefault(operation["tags"][0], []).append(line)
    return "\n\n".join("\n".join([f"{section}:", *lines[section]]) for section in lines)


@cache
def asset(name: str) -> bytes:
    """A file of the folder ``page``."""
    return resources.files(__package__).joinpath("page", name).read_bytes()


class Served(JsonHandler):
    """Base of the routes that serve files."""

    def serve(self, raw: bytes, media: str) -> None:
        self.set_header("Content-Type", media)
        self._send([raw])

    def serve_text(self, text: str) -> None:
        """Serve a text in which ``{url}`` stands for the URL of the master."""
        text = text.replace("{url}", url_of(self.request))
        self.serve(text.encode(), "text/plain; charset=utf-8")


class Index(Served):
    @documented(
        "Say what answers here",
        replies={200: TEXT, 302: None},
        description="A browser is led to the page of /docs.",
    )
    def get(self) -> None:
        if self.wants_html:
            self.redirect("docs")
            return
        self.serve_text(INDEX)


class Document(Served):
    @documented("Get this document", replies={200: dict[str, Any]})
    def get(self) -> None:
        self.serve(self.settings["openapi"], "application/json")


class Page(Served):
    @documented("Show the routes in a browser, and try them", replies={200: (HTML, TEXT)})
    def get(self) -> None:
        self.show(b"")

    def show(self, root: bytes) -> None:
        """Serve the page, with `root` as the relative path to the folder of the routes."""
        if not self.wants_html:
            self.serve_text(f"{TITLE}\n\n{listed(self.settings['openapi'])}\n\n{MORE}")
            return
        self.set_header("Content-Security-Policy", POLICY)
        page = LINK.sub(rb"\1" + root, asset("page.html"))
        self.serve(page, "text/html; charset=utf-8")


class PageBelow(Page):
    """``GET /scheduler/docs``: the page at the place where users of that dialect look for it."""

    @documented("Show the page of /docs", replies={200: (HTML, TEXT)})
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
            raise NotFound(f"no such route: {self.request.path}; the page is at /docs")
        self.set_header("Cache-Control", f"max-age={CACHE_S}")
        self.serve(asset(file), f"{MEDIA[file]}; charset=utf-8")
