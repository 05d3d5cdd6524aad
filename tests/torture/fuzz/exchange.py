"""Plays a script against a server, and judges its replies.

Of a reply to valid HTTP: no status is the server's own fault, and it comes in the form that is
documented for its route: see `forms`. What is no HTTP may be answered by a 4xx with or without a
body, or by a hang-up. A stream of events may have no end: its beginning is read.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from harness.http import Line, Message, open_line
from torture.fuzz import forms
from torture.fuzz.calls import JOB, LEASE
from torture.fuzz.scripts import CUT, HALF_CLOSE, MASTER, Request, Script

SCRIPT_TIMEOUT_S = 30.0
CUT_AT = 0.6
UNAVAILABLE = (503, 507)
STREAM = "text/event-stream"
STREAM_START = re.compile(rb"retry: \d+\nid: \d+\n\n")
LEASE_NAMED = re.compile(rb'"lease":(\d{1,20}),"job_id"')
"""In a call that is handed out."""
JOB_NAMED = re.compile(rb'"(?:job|task)_id": ?"?(\d{1,18})\b')

# What is known to be otherwise is left out, and nothing else: a body that calls itself a form is
# taken apart before the worker sees it, and refused without a word if it is none.
FORM = re.compile(rb"Content-Type: (?:multipart/form-data|application/x-www-form-urlencoded)")


@dataclass(slots=True)
class Named:
    """The last job and the last lease that replies have named; later requests ask for these."""

    job: bytes = JOB.encode()
    lease: bytes = LEASE.encode()

    def learn(self, body: bytes) -> None:
        if jobs := JOB_NAMED.findall(body):
            self.job = jobs[-1].zfill(len(JOB))
        if leases := LEASE_NAMED.findall(body):
            self.lease = leases[-1].ljust(len(LEASE))

    def put_into(self, raw: bytes) -> bytes:
        return raw.replace(JOB.encode(), self.job).replace(LEASE.encode(), self.lease)


@dataclass(slots=True)
class Exchange:
    """The course of a script: the number of requests, the replies, the faults."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    named: Named = field(default_factory=Named)


async def play(script: Script, port: int, named: Named | None = None) -> Exchange:
    """Play a script against the server at that port of 127.0.0.1.

    Args:
        named: the last job and lease that other scripts have seen; this one adds to it.
    """
    exchange = Exchange(named=named or Named())
    try:
        async with asyncio.timeout(SCRIPT_TIMEOUT_S):
            line = await open_line(port)
            try:
                await _play(script, line, exchange)
            finally:
                line.close()
                with suppress(OSError):
                    await line.writer.wait_closed()
    except TimeoutError:
        exchange.faults.append(f"no reply within {SCRIPT_TIMEOUT_S:g} s")
    except OSError as error:
        exchange.faults.append(f"no connection: {error!r}")
    return exchange


async def _play(script: Script, line: Line, exchange: Exchange) -> None:
    if script.pipelined:
        exchange.requests += len(script.requests)
        await _send(line, b"".join(request.raw for request in script.requests), exchange)
    for place, request in enumerate(script.requests):
        last = place == len(script.requests) - 1
        if not script.pipelined:
            exchange.requests += 1
            if last and script.ending == CUT:
                await _send(line, request.raw[: int(CUT_AT * len(request.raw))], exchange)
                return
            await _send(line, request.raw, exchange)
            if last and script.ending == HALF_CLOSE:
                await _read_to_the_end(script, request, line, exchange)
                return
        if not await _read_reply(script, request, line, exchange):
            return


async def _send(line: Line, raw: bytes, exchange: Exchange) -> None:
    raw = exchange.named.put_into(raw)
    with suppress(ConnectionError):  # The other side may reply before it has read all.
        await line.send(raw)


async def _read_reply(script: Script, request: Request, line: Line, exchange: Exchange) -> bool:
    """Read and judge a reply; true when the connection can be expected to go on."""
    reply = await line.read(request.method)
    while reply is not None and reply.status == 100:
        reply = await line.read(request.method)
    if reply is None:
        # A server that refused a request need not read what comes behind it.
        refused = exchange.replies and exchange.replies[-1].status >= 400
        if request.clean and not refused:
            exchange.faults.append("hung up without a reply")
        return False
    _judge(script.target, request, reply, exchange)
    if _is_stream(request, reply):
        await _read_beginning(line, exchange)
        return False
    return not request.last


async def _read_to_the_end(
    script: Script, request: Request, line: Line, exchange: Exchange
) -> None:
    with suppress(OSError):
        line.writer.write_eof()
    while (reply := await line.read(request.method)) is not None:
        if reply.status != 100:
            _judge(script.target, request, reply, exchange)
        if _is_stream(request, reply):
            return


def _is_stream(request: Request, reply: Message) -> bool:
    return reply.headers.get("content-type") == STREAM and request.method != "HEAD"


async def _read_beginning(line: Line, exchange: Exchange) -> None:
    """Read the first block of a stream, which comes at once; perhaps in a chunk of HTTP/1.1."""
    try:
        block = await line.reader.readuntil(b"\n\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        block = b""
    if not STREAM_START.search(block):
        exchange.faults.append(f"a stream begins with {block[:100]!r}")


def _judge(target: str, request: Request, reply: Message, exchange: Exchange) -> None:
    exchange.replies.append(reply)
    exchange.statuses[reply.status] += 1
    exchange.named.learn(reply.body)
    fault = (_fault_for_master if target == MASTER else _fault_for_worker)(request, reply)
    if fault is not None:
        exchange.faults.append(f"{reply.status} {fault}: {reply.body[:300]!r}")


def _fault_for_master(request: Request, reply: Message) -> str | None:
    status = reply.status
    if status >= 500 and status not in UNAVAILABLE:
        return "is the server's own fault"
    if not 200 <= status < 300 and not 400 <= status < 600:
        return "is not expected"
    if status < 300 and request.clean and (ignored := forms.ignored(request.raw)) is not None:
        return f"took {ignored}"
    if request.method == "HEAD" or (not request.clean and not reply.body):
        return None
    return forms.fault(request.method, request.path, reply)


def _fault_for_worker(request: Request, reply: Message) -> str | None:
    status = reply.status
    if status not in (200, 202, 204, 400, 401, 403, 404, 405, 409, 413, 415, 421, 431, 500):
        return "is not expected"
    if request.method == "HEAD" or (not request.clean and not reply.body):
        return None
    if status == 204 and request.method == "OPTIONS":
        return "with a body" if reply.body else None
    if status == 400 and not reply.body and FORM.search(request.raw):
        return None
    value = _value(reply)
    if value is None:
        return "without JSON"
    if status >= 400 and not _says(value, "error"):
        return "without error"
    if status == 500 and b"operation" not in request.raw:
        return "without an operation that could have failed"
    return None


def _value(reply: Message) -> object:
    """The value of a reply that is JSON; None if it is not what it says."""
    if reply.headers.get("content-type") != "application/json":
        # What is served in another form, as metrics are, is none of our business if it is no error.
        return None if reply.status >= 400 or "content-type" not in reply.headers else ()
    try:
        return json.loads(reply.body)
    except ValueError:
        return None


def _says(value: object, key: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), str) and bool(value[key])
