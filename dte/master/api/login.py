"""The page on which people with a browser give their token."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from importlib import resources

DOCS = "docs"
"""The page after the login, if there is no other."""
NEXT = re.compile(r"(?!.*//)[\w.-][\w./?=&%+,-]*", re.ASCII)
"""A page of this master, as a path relative to its root."""
PREFIX = "../"


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text()


@cache
def policy() -> str:
    """The Content-Security-Policy of the page: no scripts, and its own style."""
    style = b64encode(sha256(_asset("login.css").encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def login_page(path: str, wanted: str, error: str = "") -> str:
    """The page, in HTML.

    Args:
        path: that of the request which it answers.
        wanted: the page after the login, relative to the root of the master.
        error: the reason why the last token was refused.
    """
    # Links are relative: a proxy may serve the master below a prefix.
    action = PREFIX * max(0, path.count("/") - 1) + "session"
    values = {
        "style": _asset("login.css"),
        "action": action,
        "next": escape(next_page(wanted)),
        "error": escape(error),
    }
    page = _asset("login.html")
    for name, value in values.items():
        page = page.replace(f"{{{name}}}", value)
    return page


def next_page(wanted: str) -> str:
    """A page of this master; that of the routes if a text names none."""
    return wanted if NEXT.fullmatch(wanted) else DOCS
