"""Computes a formula on a dte master, using only its HTTP API and Tornado's client."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from typing import Any, NoReturn
from urllib.parse import urlsplit

try:
    from tornado.httpclient import AsyncHTTPClient, HTTPClientError
except ModuleNotFoundError:
    print(
        "client.py: this Python has no Tornado; scripts/setup installs one that has it:\n"
        "  scripts/setup && .venv/bin/python scripts/client.py '1+(2*3)/4-5'",
        file=sys.stderr,
    )
    sys.exit(3)

JOB_FAILED, USAGE, NO_MASTER, INTERRUPTED = 1, 2, 3, 130

HELP = """\
Compute a formula on a dte master.

The steps, and the same with curl:
  1. submit   curl URL/submit -d '{"task": "1+(2*3)/4-5"}'   returns {"job_id": 47, ...}
  2. check    curl URL/jobs                                  lists the last 100 jobs, job 47 too
  3. poll     curl URL/job/47                                every 5 seconds until it is finished
  4. print    the answer goes to stdout, messages go to stderr
"""

EXAMPLES = """\
examples:
  client.py '1+(2*3)/4-5'
  client.py '-(2+3)*4' --master http://master:5000 --interval 1

exit codes:
  0 the answer is printed    1 the formula has no answer, like 1/0
  2 the formula or the command is wrong    3 the master does not answer or refuses    130 Ctrl-C
"""


class Ended(Exception):
    """The script ends without an answer, with an exit code and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def compute(master: str, formula: str, interval_s: float) -> int | float:
    """Compute a formula on the master at that URL.

    Raises:
        Ended: there is no answer.
    """
    job_id = (await call(f"{master}/submit", {"task": formula}))["job_id"]
    listed = any(job["job_id"] == job_id for job in await call(f"{master}/jobs"))
    say(f"job {job_id} is {'submitted' if listed else 'not in the list of recent jobs'}")
    while True:
        job = await call(f"{master}/job/{job_id}")
        if job["finished"]:
            break
        say(f"job {job_id} is not finished; asking again in {interval_s:g} s (Ctrl-C stops)")
        await asyncio.sleep(interval_s)
    if job["answer"] is None:
        raise Ended(JOB_FAILED, f"{formula} has no answer: {job.get('error') or 'it failed'}")
    return job["answer"]


async def call(url: str, body: dict[str, Any] | None = None) -> Any:
    """Send a POST with `body`, or a GET without one, and return the JSON of the reply.

    Raises:
        Ended: there is no reply, or it is an error.
    """
    try:
        reply = await AsyncHTTPClient().fetch(
            url,
            method="GET" if body is None else "POST",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"},
            raise_error=False,
        )
    except (OSError, HTTPClientError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Ended(
            NO_MASTER,
            f"no reply to {url}: {reason}\n"
            "Is a master running there? Start one with `dte run`, or pass --master URL",
        ) from None
    try:
        value = json.loads(reply.body)
        if reply.code == 200:
            return value
        message, caret = value["error"], value.get("caret", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Ended(NO_MASTER, f"the server at {url} is not a dte master") from None
    if reply.code == 400:
        raise Ended(USAGE, "\n  ".join([message, *caret.splitlines()]))
    raise Ended(NO_MASTER, f"{url}: {message}")


def say(message: str) -> None:
    print(f"client.py: {message}", file=sys.stderr)


def formula(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("not UTF-8 text") from None
    return text.removeprefix(" ")


def master_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL like http://localhost:5000")
    return text.rstrip("/")


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="client.py",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "formula", type=formula, help="numbers, + - * / and parentheses; quote it for the shell"
    )
    parser.add_argument(
        "--master",
        metavar="URL",
        type=master_url,
        default=os.environ.get("DTE_MASTER") or "http://localhost:5000",
        help="URL of the master (environment: DTE_MASTER; now: %(default)s)",
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=seconds,
        default=5.0,
        help="pause between polls (default: %(default)g)",
    )
    # argparse takes -1+2 for an option, but not with a space before it.
    return parser.parse_args(
        [f" {each}" if re.match(r"-[-+\s]*[\d.(]", each) else each for each in argv]
    )


def main() -> NoReturn:
    wanted = arguments(sys.argv[1:])
    try:
        print(asyncio.run(compute(wanted.master, wanted.formula, wanted.interval)))
    except Ended as end:
        say(str(end))
        sys.exit(end.code)
    except (LookupError, TypeError):
        say(f"the server at {wanted.master} is not a dte master")
        sys.exit(NO_MASTER)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


if __name__ == "__main__":
    main()
