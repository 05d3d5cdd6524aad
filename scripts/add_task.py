"""Submits tasks that find prime numbers to a master, using only its HTTP API."""

from __future__ import annotations

import argparse
import json
import os
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

USAGE, NO_MASTER = 2, 3
LIMIT, METHODS = 100_000, ("sieve", "trial_division")
TIMEOUT_S = 10.0

EXAMPLES = """\
examples:
  add_task.py 5 100000                   five tasks, each for the primes up to 100,000
  add_task.py 1 100000 trial_division    one task with the slower algorithm

exit codes:
  0 all tasks are submitted    2 the command is wrong    3 the master does not answer or refuses
"""


class Refused(Exception):
    """A task was not submitted. The text gives the reason and the next step."""


def submit(master: str, limit: int, method: str) -> int:
    """Submit one task to the master at that URL and return its id.

    Raises:
        Refused: the task was not accepted.
    """
    parts = urlsplit(master)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    task = {"task_type": "compute", "task_data": {"limit": limit, "method": method}}
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"}
        path = f"{parts.path.rstrip('/')}/submit-task"
        connection.request("POST", path, json.dumps(task), headers)
        reply = connection.getresponse()
        text = reply.read()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Refused(
            f"no reply from {master}: {reason}\n"
            "Is a master running there? Start one with scripts/start_dispatcher.sh, or pass "
            "--dispatcher URL"
        ) from None
    finally:
        connection.close()
    try:
        body = json.loads(text)
        if reply.status in (200, 201):
            return int(body["task_id"])
        wait_s = reply.headers.get("Retry-After")
        again = f"; try again in {wait_s} s" if wait_s else ""
        raise Refused(f"{master} refused (HTTP {reply.status}): {body['error']}{again}")
    except (ValueError, KeyError, TypeError):
        raise Refused(f"the server at {master} is not a dte master (HTTP {reply.status})") from None


def url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL like http://localhost:5000")
    return text.rstrip("/")


def count(text: str) -> int:
    if not text.isdecimal() or not 0 < len(text) < 10 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999999")
    return int(text)


def setting(*names: str) -> str:
    """Return the first of these variables that the environment or `.env` sets, or ""."""
    given: dict[str, str] = {}
    try:
        for line in Path(".env").read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            given[name.strip()] = value.split(" #")[0].strip().strip("'\"")
    except (OSError, UnicodeDecodeError):
        pass  # The file is optional.
    given |= os.environ
    return next((given[name] for name in names if given.get(name)), "")


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="add_task.py",
        description="Submit tasks that find prime numbers. The workers share them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("count", metavar="COUNT", type=count, help="number of tasks")
    parser.add_argument(
        "limit",
        metavar="LIMIT",
        type=count,
        nargs="?",
        default=LIMIT,
        help="find the primes up to this number (now: %(default)s)",
    )
    default = setting("PRIMES_DEFAULT_METHOD")
    parser.add_argument(
        "method",
        metavar="METHOD",
        nargs="?",
        choices=METHODS,
        default=default if default in METHODS else METHODS[0],
        help="sieve or trial_division (environment: PRIMES_DEFAULT_METHOD; now: %(default)s)",
    )
    parser.add_argument(
        "--dispatcher",
        metavar="URL",
        type=url,
        default=setting("DTE_MASTER", "WORKER_DISPATCHER_URL") or "http://localhost:5000",
        help="URL of the master (environment: DTE_MASTER, WORKER_DISPATCHER_URL; now: %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the command line and return the exit code."""
    given = arguments(argv)
    print(f"Submitting {given.count} tasks to {given.dispatcher}")
    print(f"  limit {given.limit}, method {given.method}")
    for number in range(1, given.count + 1):
        try:
            task_id = submit(given.dispatcher, given.limit, given.method)
        except Refused as error:
            print(f"add_task.py: {error}", file=sys.stderr)
            if number > 1:
                print(f"submitted {number - 1} of {given.count} tasks", file=sys.stderr)
            return NO_MASTER
        print(f"  submitted task {number}: id={task_id}", flush=True)
    print(f"Status of the last task: curl {given.dispatcher}/task/{task_id}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
