"""Tornado without dte, to compare with: servers that do nothing but answer.

Run as: plain_server.py PORT
"""

from __future__ import annotations

import asyncio
import json
import operator
import sys

import msgspec
from tornado.web import Application, RequestHandler

FUNCTIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_batch = msgspec.json.Decoder(list[tuple[str, int | float, int | float]])
_encoder = msgspec.json.Encoder()


class Compute(RequestHandler):
    """A worker: operations as ``[symbol, operand, operand]``, and their results back."""

    def post(self) -> None:
        results = []
        for symbol, left, right in _batch.decode(self.request.body):
            results.append(FUNCTIONS[symbol](left, right))
        self.write(_encoder.encode(results))


class Submit(RequestHandler):
    """Answers a task at once; it knows only the formula of `load.py`."""

    def post(self) -> None:
        task = json.loads(self.request.body)["task"]
        self.write({"task": task, "answer": int(task.partition("+")[0]) - 3.5})


async def serve(port: int) -> None:
    Application([("/compute", Compute), ("/submit", Submit)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
