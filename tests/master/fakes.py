"""How workers behave, well and badly: conducts of a `PlainServer`."""

from __future__ import annotations

import asyncio
import operator
from typing import Any

from harness.http import Conduct, Line, Message, reply_bytes

FUNCTIONS = {
    "sum": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def single(asked: dict[str, Any]) -> dict[str, Any]:
    """The seed's reply to one operation that has a result."""
    return asked | {"result": FUNCTIONS[asked["operation"]](asked["op1"], asked["op2"])}


def batch(asked: dict[str, Any]) -> dict[str, Any]:
    """The reply to a batch; an operation that fails divides by zero."""
    results: list[Any] = []
    errors = {}
    columns = zip(asked["operations"], asked["op1"], asked["op2"], strict=True)
    for place, (symbol, op1, op2) in enumerate(columns):
        try:
            results.append(FUNCTIONS[symbol](op1, op2))
        except ZeroDivisionError:
            results.append(0)
            errors[str(place)] = "division by zero"
    return {"lease": asked["lease"], "results": results, "errors": errors}


def answer(request: Message) -> tuple[int, dict[str, Any]]:
    """What a good worker answers, in the form in which it is asked."""
    asked = request.json
    if "lease" in asked:
        return 200, batch(asked)
    try:
        return 200, single(asked)
    except ZeroDivisionError:
        return 500, {"error": "division by zero"}


async def good(request: Message, line: Line) -> None:
    await line.reply(*answer(request))


# Peculiar, and right


async def over_http_1_0(request: Message, line: Line) -> None:
    await line.reply(*answer(request), version="1.0")
    line.close()


async def on_one_connection_each(request: Message, line: Line) -> None:
    await line.reply(*answer(request), Connection="close")
    line.close()


async def closing_what_is_idle(request: Message, line: Line) -> None:
    await line.reply(*answer(request))
    line.close()


async def in_chunks(request: Message, line: Line) -> None:
    """Some bytes at a time, each chunk in a packet of its own."""
    status, reply = answer(request)
    head, _, body = reply_bytes(status, reply).partition(b"\r\n\r\n")
    fields = [field for field in head.split(b"\r\n") if not field.startswith(b"Content-Length")]
    await line.send(b"\r\n".join([*fields, b"Transfer-Encoding: chunked", b"", b""]))
    for start in range(0, len(body), 7):
        part = body[start : start + 7]
        await line.send(b"%x\r\n%s\r\n" % (len(part), part))
        await asyncio.sleep(0)
    await line.send(b"0\r\n\r\n")


async def byte_by_byte(request: Message, line: Line) -> None:
    for byte in reply_bytes(*answer(request)):
        await line.send(bytes([byte]))
        await asyncio.sleep(0)


# Bad, or made to measure


async def silent(request: Message, line: Line) -> None:
    """No reply, on a connection that stays open."""


async def hanging_up(request: Message, line: Line) -> None:
    line.close()


async def resetting(request: Message, line: Line) -> None:
    line.reset()


async def half_replying(request: Message, line: Line) -> None:
    await line.send(reply_bytes(*answer(request))[:-1])
    line.close()


async def speaking_no_http(request: Message, line: Line) -> None:
    await line.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


def replying(status: int, body: Any = None, **more: Any) -> Conduct:
    """The same reply to everything."""

    async def conduct(request: Message, line: Line) -> None:
        await line.reply(status, body, **more)

    return conduct


def changing(**changed: Any) -> Conduct:
    """A good worker's reply, with some of its fields changed."""

    async def conduct(request: Message, line: Line) -> None:
        status, reply = answer(request)
        await line.reply(status, reply | changed)

    return conduct


def with_status(status: int) -> Conduct:
    """A good worker's reply, with another status."""

    async def conduct(request: Message, line: Line) -> None:
        await line.reply(status, answer(request)[1])

    return conduct


def held_until(event: asyncio.Event, conduct: Conduct = good) -> Conduct:
    """Another conduct, when an event has come."""

    async def hold(request: Message, line: Line) -> None:
        await event.wait()
        await conduct(request, line)

    return hold
