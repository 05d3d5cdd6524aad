"""Computes a formula on a dte master, by nothing but its HTTP API and Tornado's client."""

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
        "client.py: this Python has no Tornado; the one that scripts/setup makes has:\n"
        "  scripts/setup && .venv/bin/python scripts/client.py '1+(2*3)/4-5'",
        file=sys.stderr,
    )
    sys.exit(3)

JOB_FAILED, USAGE, NO_MASTER, INTERRUPTED = 1, 2, 3, 130

HELP = """\
Compute a formula on a dte master.

What it does can be done with curl as well:
  1. submit   curl URL/submit -d '{"task": "1+(2*3)/4-5"}'   gives {"job_id": 47, ...}
  2. check    curl URL/jobs                                  job 47 is among the last 100
  3. ask      curl URL/job/47                                every 5 seconds until it is finished
  4. print    the answer, on stdout; all else goes to stderr
"""

EXAMPLES = """\
examples:
  client.py '1+(2*3)/4-5'
  client.py '-(2+3)*4' --master http://master:5000 --interval 1

exit codes:
  0 the answer is printed    1 the formula has none, as 1/0
  2 the formula or the command is wrong    3 no master answers, or it refuses    130 Ctrl-C
"""


class Ended(Exception):
    """The end without an answer: an exit code, and what to tell the user."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def compute(master: str, formula: str, interval_s: float) -> int | float:
    """The formula's value, from the master at that URL.

    Raises:
        Ended: there is none.
    """
    job_id = (await call(f"{master}/submit", {"task": formula}))["job_id"]
    listed = any(job["job_id"] == job_id for job in await call(f"{master}/jobs"))
    say(f"job {job_id} is {'submitted' if listed else 'not among the last jobs of the master'}")
    while True:
        job = await call(f"{master}/job/{job_id}")
        if job["finished"]:
            break
        say(f"job {job_id} is not finished; asking again in {interval_s:g} s, Ctrl-C stops asking")
        await asyncio.sleep(interval_s)
    if job["answer"] is None:
        raise Ended(JOB_FAILED, f"{formula} has no answer: {job.get('error') or 'it failed'}")
    return job["answer"]


async def call(url: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON of a reply: to a POST of `body` if there is one, else to a GET.

    Raises:
        Ended: there is no reply, or not a good one.
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
            "is a master running? start one with dte run, or say where it is with --master URL",
        ) from None
    try:
        value = json.loads(reply.body)
        if reply.code == 200:
            return value
        message, caret = value["error"], value.get("caret", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Ended(NO_MASTER, f"what answers at {url} is no dte master") from None
    if reply.code == 400:
        raise Ended(USAGE, "\n  ".join([message, *caret.splitlines()]))
    raise Ended(NO_MASTER, f"{url}: {message}")


def say(message: str) -> None:
    print(f"client.py: {message}", file=sys.stderr)


def formula(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not UTF-8") from None
    return text.removeprefix(" ")


def master_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL like http://localhost:5000")
    return text.rstrip("/")


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="client.py",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "formula", type=formula, help="numbers, + - * / and parentheses; in quotes for the shell"
    )
    parser.add_argument(
        "--master",
        metavar="URL",
        type=master_url,
        default=os.environ.get("DTE_MASTER") or "http://localhost:5000",
        help="where the master is (environment: DTE_MASTER; now: %(default)s)",
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=seconds,
        default=5.0,
        help="pause before asking again (default: %(default)g)",
    )
    # To argparse a minus begins an option, also that of -1+2; but not with a space before it.
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
        say(f"what answers at {wanted.master} is no dte master")
        sys.exit(NO_MASTER)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


if __name__ == "__main__":
    main()
