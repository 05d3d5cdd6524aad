"""Makes scripts: what is sent on one connection, and what may be expected of it.

A request is `clean` when it is valid HTTP, whatever it asks for: then a reply must come. What is
not clean stands last in its script, as nobody can tell where it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tornado.web import RequestHandler
from torture.fuzz import bodies, calls, forms
from torture.fuzz.chance import one
from torture.fuzz.paths import TARGETS, WORKER_TARGETS, target

MASTER, WORKER = "master", "worker"
READ, HALF_CLOSE, CUT = "read", "half-close", "cut"

REQUESTS_MAX = 6
SCRIPTS_MAX = 10**12
"""The number of a script is below it, so that no two seeds share one."""
VERSIONS = ("HTTP/1.1",) * 8 + ("HTTP/1.0", "HTTP/1.0")
ODD_VERSIONS = ("HTTP/0.9", "HTTP/1.2", "HTTP/1.10", "HTTP/2.0", "HTTP/", "http/1.1", "FTP/1.1", "")

KEYS = (
    *(b"", b" ", b"a", b"key 1", b'"quoted"', b"a,b", b"a" * 200, b"a" * 255, b"a" * 256, b"%00"),
    *("ключ".encode(), "🔑".encode(), b"\xff\xfe", b"a" * 10_000, b"../../etc/passwd", b"'; --"),
)
"""Of ``Idempotency-Key``."""
HEADERS = (
    *(b"Accept: text/html", b"Accept-Encoding: gzip", b"If-None-Match: *", b"Range: bytes=0-1"),
    *(b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: text/plain; charset=x"),
    *(b"Content-Type: multipart/form-data; boundary=", b"Content-Type:", b"Cookie: a=b; c; =;;"),
    *(b"Content-Encoding: gzip", b"X-Real-Ip: 127.0.0.1", b"X-Forwarded-For: 127.0.0.1, ::1"),
    *(b"Expect: 200-ok", b"X-A: " + b"a" * 20_000, b"X-Latin: \xe4\xff", b"If-Modified-Since: x"),
    *(b"Upgrade: websocket\r\nSec-WebSocket-Key: a", b"Authorization: Basic %%%", b"Origin: null"),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Te: trailers"),
)
BROKEN_HEADERS = (
    *(b"no colon", b": no name", b"Sp ace: a", b" folded", b"Nul: \0", b"A: b\rC: d", b"\xff: a"),
    *(b"Host: other", b"Host:", b"Content-Length: 0", b"Content-Length: 5, 6", b"A: \x7f\x01"),
    *(b"Content-Length: -1", b"Content-Length: 0x5", b"Content-Length: 9" * 30, b"\0"),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"A\n\nB: c"),
    b"X: " + b"a" * 70_000,
)
BROKEN_CHUNKS = (
    *(b"", b"5\r\n", b"-1\r\n\r\n", b"f" * 30 + b"\r\n", b"0\r\n", b"zz\r\n\r\n"),
    *(b"2;a=b\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nTrailer: a\r\n\r\n", b"2\r\n{}xx0\r\n\r\n"),
    *(b"5\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n"),
)
NO_HTTP = (
    *(b"", b"\r\n" * 50, b"\0" * 100, b"G", b"GET\r\n\r\n", b"GET /health\r\n\r\n", b"{}\r\n\r\n"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaa"),
    *(b"HTTP/1.1 200 OK\r\n\r\n", b"GET /health HTTP/1.1\n\n", b"GET / HTTP/1.1\r\rHost: a\r\r"),
    *(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", b"SSH-2.0-x\r\n", b"a" * 70_000),
    *(b"GET /health HTTP/1.1\r\n\r\n", b"POST /submit HTTP/1.1\r\nHost: a\r\n"),
    *(b"GET /\0 HTTP/1.1\r\n\r\n", b"GET  /health HTTP/1.1\r\n\r\n"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request's bytes.

    Attributes:
        method: of its first line; "" when it has none.
        clean: it is valid HTTP.
        last: the other side may hang up after its reply.
    """

    method: str
    raw: bytes
    clean: bool
    last: bool = False

    @property
    def path(self) -> str | None:
        """Its path as the server reads it; None if nobody can tell."""
        if not self.clean:
            return None
        return self.raw.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1")


@dataclass(frozen=True, slots=True)
class Script:
    """The requests of one connection.

    Attributes:
        target: `MASTER` or `WORKER`.
        pipelined: all at once, instead of each after the reply to the one before.
        ending: `READ` replies and close; `HALF_CLOSE` after the last request, and read what there
            is; `CUT` the last request short and close.
    """

    target: str
    requests: tuple[Request, ...]
    pipelined: bool
    ending: str


def script(seed: int, number: int, ports: Sequence[int]) -> Script:
    """Script `number` of a seed.

    Args:
        ports: those of announced workers; nobody listens there.
    """
    rng = Random(seed * SCRIPTS_MAX + number)
    side = WORKER if rng.random() < 0.2 else MASTER
    requests: list[Request] = []
    while len(requests) < REQUESTS_MAX and rng.random() < 0.8:
        requests.append(_clean_request(side, rng, ports))
        if requests[-1].last:
            break
    kind = rng.random()
    if kind < 0.15 or not requests:
        before = [request for request in requests if not request.last]
        unclean = _unclean_request(side, rng, ports)
        return Script(side, (*before, unclean), False, HALF_CLOSE)
    if kind < 0.2:
        return Script(side, tuple(requests), False, CUT)
    return Script(side, tuple(requests), rng.random() < 0.3, READ)


def _clean_request(side: str, rng: Random, ports: Sequence[int]) -> Request:
    """A request that is valid HTTP, to a route or to none."""
    method, path, pattern = target(TARGETS if side == MASTER else WORKER_TARGETS, rng)
    body = _body(method, pattern, rng, ports)
    version = one(VERSIONS, rng)
    headers = [b"Host: 127.0.0.1"]
    while rng.random() < 0.3:
        headers.append(one(HEADERS, rng))
    if rng.random() < 0.2:
        headers += [b"Idempotency-Key: " + one(KEYS, rng)] * one((1, 1, 1, 2), rng)
    if rng.random() < 0.05:
        headers.append(b"Expect: " + one((b"100-continue", b"100-Continue"), rng))
    if version == "HTTP/1.1" and body and rng.random() < 0.15:
        headers.append(b"Transfer-Encoding: chunked")
        body = _chunked(body, rng)
    elif body or method not in ("GET", "HEAD") or rng.random() < 0.5:
        headers.append(b"Content-Length: %d" % len(body))
    raw = _joined(f"{method} {path} {version}", headers) + body
    ends = (b"Connection: close", b"Expect: 100-continue", b"Expect: 100-Continue")
    last = (
        version == "HTTP/1.0"
        or method not in RequestHandler.SUPPORTED_METHODS
        or any(header in ends for header in headers)
        # The beginning of a stream is read, and no more.
        or (side == MASTER and forms.is_stream(method, path.partition("?")[0]))
    )
    return Request(method, raw, True, last)


def _unclean_request(side: str, rng: Random, ports: Sequence[int]) -> Request:
    kind = rng.random()
    if kind < 0.25:
        return Request("", one(NO_HTTP, rng), False)
    if kind < 0.3:
        return Request("", rng.randbytes(int(400 * rng.random())), False)
    made = _clean_request(side, rng, ports)
    head, _, body = made.raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if kind < 0.5:
        lines.insert(1 + int(rng.random() * len(lines)), one(BROKEN_HEADERS, rng))
    elif kind < 0.65:
        lie = max(0, len(body) + one((-1, 1, -5, 5, 1000, -1000, 10**9, 10**20), rng))
        if bodies.calls_elsewhere(body[:lie], ports):
            lie = 0
        lines = [line for line in lines if not line.startswith(b"Content-Length")]
        lines.append(b"Content-Length: %d" % lie)
    elif kind < 0.75:
        lines.append(b"Transfer-Encoding: chunked")
        body = one(BROKEN_CHUNKS, rng)
    elif kind < 0.85:
        method, _, rest = lines[0].partition(b" ")
        path = rest.rpartition(b" ")[0]
        lines[0] = b" ".join((method, path, one(ODD_VERSIONS, rng).encode()))
    elif b"worker_name" not in made.raw and b"notify" not in made.raw:
        # A changed address might make the master call somebody else.
        return Request(made.method, bodies.garbled(made.raw, rng), False)
    return Request(made.method, b"\r\n".join(lines) + b"\r\n\r\n" + body, False)


def _body(method: str, pattern: str, rng: Random, ports: Sequence[int]) -> bytes:
    kind = rng.random()
    if (method in ("GET", "HEAD") or pattern in WITHOUT_BODY) and kind < 0.9:
        return b""
    if kind < 0.05:
        body = bodies.anything(rng)
    elif pattern in BODIES:
        body = BODIES[pattern](rng)
    elif pattern == "/worker":
        body = bodies.announcement(rng, ports)
    elif pattern == "/jobs":
        body = calls.job(rng, ports)
    else:
        body = calls.like_an_example(method, pattern, rng) or bodies.submission(rng)
    return b"{}" if bodies.calls_elsewhere(body, ports) else body


def _computation(rng: Random) -> bytes:
    return (calls.handed_out if rng.random() < 0.2 else bodies.operations)(rng)


BODIES: dict[str, Callable[[Random], bytes]] = {
    "/submit": bodies.submission,
    "/claim": calls.claim,
    "/result": calls.reports,
    "/extend": calls.extension,
    "/stop": calls.stop,
    "/compute": _computation,
}


WITHOUT_BODY = ("/job/{id:int}/cancel", "/job/{id:int}/retry")


def _chunked(body: bytes, rng: Random) -> bytes:
    parts = []
    while body:
        size = 1 + int(rng.random() * len(body))
        parts.append(b"%x\r\n%s\r\n" % (size, body[:size]))
        body = body[size:]
    return b"".join(parts) + b"0\r\n\r\n"


def _joined(start: str, headers: list[bytes]) -> bytes:
    return b"\r\n".join((start.encode("ascii"), *headers, b"", b""))
