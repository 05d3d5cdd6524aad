"""Conversations with a master as golden files: requests, ``----``, replies.

An exchange is a line with method and path, a body if there is one, ``----``, then the status, the
content type and the body of the reply; an empty line ends it. ``UNTIL TEXT GET /path`` asks until
the reply has that text. Lines that begin with ``#`` are for readers. Moments are shown as ``TIME``
or ``SECONDS``, and ids that the master makes up as ``MADE-UP``. A ``[…]`` in a reply stands for
what it quotes of another library, see `wording`.

With DTE_REWRITE_GOLDEN=1 in the environment replies are written into the files, to be read as a
difference.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from harness.http import Message, PlainClient
from harness.wording import own

GOLDEN = Path(__file__).parent / "golden"
REWRITE = bool(os.environ.get("DTE_REWRITE_GOLDEN"))
UNTIL = re.compile(r"UNTIL (?P<text>\S+) (?P<rest>.*)")
TIME = re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")
MADE_UP = re.compile(r"\b(?!00000000)[0-9a-f]{16}\b")
SECONDS = re.compile(r"\b[12]\d{9}\.\d+\b")
UNTIL_S = 5.0


def files(folder: str) -> list[Path]:
    """The conversations of a folder."""
    return sorted((GOLDEN / folder).glob("*.txt"))


async def hold(client: PlainClient, path: Path) -> None:
    """Hold a conversation, and compare its replies with the file, or write them there."""
    before = path.read_text("utf-8")
    shown = [await _exchange(client, each) for each in before.strip("\n").split("\n\n")]
    after = "\n\n".join(shown) + "\n"
    if REWRITE:
        path.write_text(after, "utf-8")
    else:
        assert after == before


async def _exchange(client: PlainClient, text: str) -> str:
    asked = text.split("\n----")[0]
    expected = own(text)
    lines = [line for line in asked.split("\n") if not line.startswith("#")]
    if not lines:
        return text
    until = UNTIL.fullmatch(lines[0])
    method, path = (until["rest"] if until else lines[0]).split(" ", 1)
    sent = "\n".join(lines[1:]).encode() or None
    deadline = asyncio.get_running_loop().time() + UNTIL_S
    while True:
        reply = await client.ask(method, path, sent)
        body = reply.body.decode()
        if until is None or until["text"] in body:
            shown = f"{asked}\n----\n{_shown(reply, body)}"
            return text if expected.fullmatch(shown) else shown
        assert asyncio.get_running_loop().time() < deadline, f"{lines[0]}: {body}"
        await asyncio.sleep(0.005)


def _shown(reply: Message, body: str) -> str:
    kind = reply.headers.get("content-type", "")
    masked = MADE_UP.sub("MADE-UP", TIME.sub("TIME", SECONDS.sub("SECONDS", body))).rstrip("\n")
    return "\n".join(filter(None, [f"{reply.status} {kind}".strip(), masked]))
