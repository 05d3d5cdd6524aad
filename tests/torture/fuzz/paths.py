"""Makes first lines of requests: methods, and paths with queries, of routes and of none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from urllib.parse import quote

from tornado.web import RequestHandler
from torture.fuzz.calls import JOB
from torture.fuzz.chance import one

from dte.master.api.routes import ROUTES

GROUP = re.compile(r"\{[^{}]*\}")
FORMULAS = (("POST", "/submit"),) * 5 + (("GET", "/job/{id:int}"), ("GET", "/jobs"))
CALLS = (
    *(("POST", "/jobs"),) * 8,
    *(("POST", "/claim"), ("POST", "/result")) * 3,
    *(("POST", "/extend"), ("POST", "/job/{id:int}/cancel"), ("POST", "/job/{id:int}/retry")) * 2,
    *(("GET", "/job/{id:int}/why"), ("GET", "/job/{id:int}/nodes")) * 2,
)
TARGETS = (
    *FORMULAS,
    *CALLS,
    *((method.upper(), route.path) for route in ROUTES for method, _ in route.methods()),
)
"""Methods and paths of a master: all of the table, and some more often."""
WORKER_TARGETS = (("POST", "/compute"),) * 3 + (
    *(("POST", "/stop"), ("POST", "/hello"), ("GET", "/health")),
)
NO_ROUTES = (
    *("/", "//", "/submit/", "/SUBMIT", "/job", "/job/", "/job/1/2", "/jobs/1", "*", "/%00"),
    *("/%ff", "/..", "/../etc/passwd", "/%2e%2e/", "/job/..", "/submit%3Fwait=1", "/health;a"),
    *("http://127.0.0.1/health", "/index.html"),
    "/" + "a" * 8000,
)
PARTS = (
    *("1", "2", "7", "50", "0", "-1", "1.0", "1e1", "999999999", "x", "%31", "%D9%A1", "%ff"),
    *("%00", "%2F", "%", "%zz", "1-2", "1,2", "+1", "%20", "~", "null", "٣"),
    *("9" * 18, "9" * 19, "9" * 5000),
)
"""What stands for a parameter of a route's path, as the id of a job."""
WAITS = (
    *("0", "0.01", "0.05", "-0", "-1", "nan", "inf", "-inf", "1e999", "1e-400", "2.0000001"),
    *("0x1", "1_0", "0,1", "%D9%A0", "%ff", "%00", "true"),
    *("9" * 400, "9" * 10_000, "", " ", "0.01&wait=nan"),
)
IDS = (
    *("1", "1-5", "1,2,3", "5-1", "0", "-", "1-", "-1", "1-99999999", "1-500", "1-501", ","),
    *("1,,2", "1-2-3", "x", "%20", "1%2C2", "%D9%A1", "%ff"),
    *("9" * 18, "9" * 19, "", "1," * 600 + "1", "0-0"),
)
# Fewer than 1,000 parameters: Tornado takes more for no HTTP.
QUERIES = (
    *("?", "&&&", "=", "%", "%ff=%ff", "wait", "ids", ";", "a=1&a=2", "%00=", "#"),
    *("state=failed", "limit=1", "Wait=0", "ids=1&ids=1", "last_event_id="),
    *("a" * 5000, "a&" * 90),
)
METHODS = (*RequestHandler.SUPPORTED_METHODS, "GET", "POST", "POST")
KNOWN_PART = 0.6
ODD_METHODS = ("BREW", "get", "Post", "PROPFIND", "X" * 300, "TRACE", "CONNECT", "!#$%&'*+-.^_`|~")


def target(targets: Sequence[tuple[str, str]], rng: Random) -> tuple[str, str, str]:
    """A method, a path with its query, and the path of the table that it was made of, or "".

    Most often it is one of the given targets.
    """
    method, pattern = one(targets, rng)
    if rng.random() < 0.1:
        pattern = ""
    if rng.random() < 0.15:
        method = one((*METHODS, *METHODS, *ODD_METHODS), rng)
    path = GROUP.sub(lambda _: _part(rng), pattern) or one(NO_ROUTES, rng)
    if not path.isascii():
        path = quote(path)
    return method, path + _query(rng), pattern


def _part(rng: Random) -> str:
    return JOB if rng.random() < KNOWN_PART else one(PARTS, rng)


def _query(rng: Random) -> str:
    if rng.random() < 0.7:
        return ""
    parts = []
    while rng.random() < 0.6:
        kind = rng.random()
        if kind < 0.6:
            parts.append(f"wait={one(WAITS, rng)}")
        elif kind < 0.85:
            parts.append(f"ids={one(IDS, rng)}")
        else:
            parts.append(one(QUERIES, rng))
    return "?" + quote("&".join(parts), safe="%&=,;-+_?#")
