"""The commands `dte call` and `dte graph`."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import click

from dte.cli.clients import check_key
from dte.cli.options import (
    FORMULAS,
    JobId,
    Seconds,
    Whole,
    at,
    json_option,
    master_option,
    no_such_option,
    option,
    options,
    submission_option,
    timeout_option,
)
from dte.cli.output import (
    EXIT_JOB_FAILED,
    EXIT_USAGE,
    connected,
    explained,
    indented,
    interruptible,
    leave,
    print_job,
    shown,
    status,
    wait_visibly,
)
from dte.cli.text import say, say_json, short
from dte.cli.watching import Explainer, how_far
from dte.client.blocking import Client
from dte.client.exact import Decoder
from dte.client.job import Job
from dte.core.printable import printable
from dte.wire.codec import BOM, Malformed
from dte.wire.duplicates import find_duplicate
from dte.wire.faults import plain, syntax_fault

TEXT_SHOWN = 100
PRIORITY_MAX = 1_000_000
"""The bound of every master."""
MISFIT = re.compile(r"[;?] signature: [\w.]+\(")
"""Stands in the error of a call whose arguments do not fit its handler."""

_json: Decoder[Any] = Decoder(Any)

submit_options = options(
    submission_option(
        "--key",
        metavar="TEXT",
        callback=check_key,
        help="Idempotency key: a repeated submission with this key returns the first job.",
    ),
    option("--no-wait", is_flag=True, help="Print the id of the job without waiting for it."),
    timeout_option,
    json_option,
)
call_options = options(
    option(
        "--priority",
        type=Whole(-PRIORITY_MAX, PRIORITY_MAX),
        metavar="N",
        default=0,
        help="Jobs with a higher priority run first.",
    ),
    option(
        "--call-timeout",
        "call_timeout_s",
        type=Seconds(min=0.001),
        help="Stop the call after this many seconds.  [default: set by the handler]",
    ),
    option(
        "--retries",
        type=Whole(0),
        metavar="N",
        help="Number of retries after a failure.  [default: set by the handler]",
    ),
    option(
        "--delay",
        "delay_s",
        type=Seconds(min=0),
        default=0.0,
        help="Wait this many seconds before starting.",
    ),
    submission_option(
        "--after",
        type=JobId(),
        multiple=True,
        metavar="ID",
        help="Start after this job has succeeded. Repeat the option for several jobs.",
    ),
    option("--notify", metavar="URL", default="", help="URL to POST to when the job ends."),
)


def read_value(text: str) -> Any:
    """Read a text as JSON; a text that is not JSON, and does not begin like it, is itself."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise click.UsageError(f"{text!r} is not UTF-8 text") from None
    try:
        value = _json.decode(raw)
    except Malformed as error:
        if text.lstrip()[:1] not in tuple('{["'):
            return text
        fault = syntax_fault(raw) or plain(error)
        hint = f"to send it as a text: {short(shlex.quote(shown(text)), TEXT_SHOWN)}"
        raise click.UsageError(f"argument {short(text)}: {fault}; {hint}") from None
    if (duplicate := find_duplicate(raw)) is not None:
        raise click.UsageError(f"argument {short(text)}: {duplicate}")
    return value


def read_named(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    """Read named arguments of the form NAME=JSON."""
    named: dict[str, Any] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not name or not sign:
            raise click.BadParameter(f"{value!r} does not have the form NAME=JSON")
        if name in named:
            raise click.BadParameter(f"{name!r} is given twice")
        named[name] = read_value(text)
    return named


@click.command("call", context_settings=FORMULAS, short_help="Call a handler and print its result.")
@click.argument("handler")
@click.argument("args", nargs=-1, metavar="[ARG]...")
@submission_option(
    "--arg",
    "named",
    multiple=True,
    metavar="NAME=JSON",
    callback=read_named,
    help="A named argument, also beside positional ones. Repeat the option for several arguments.",
)
@master_option
@call_options
@submit_options
def call_command(
    handler: str,
    args: tuple[str, ...],
    named: dict[str, Any],
    master_url: str,
    no_wait: bool,
    timeout_s: float | None,
    as_json: bool,
    **terms: Any,
) -> None:
    """Call a handler on a worker and print its result as JSON.

    Arguments are read as JSON: 7, 2.5, true, null, [1, 2], {"a": 1}. An argument that is not JSON
    is a text, unless it begins with a bracket, a brace or a double quote: that is an error. To pass
    a text that looks like JSON, put it in double quotes: '"7"'.

    \b
    dte call fibonacci 100
    dte call primes --arg limit=100 --arg method=sieve
    dte call echo hello --priority 5 --retries 2
    """
    for text in args:
        if text.startswith("--") and text[2:3].isalpha():
            named_so = printable(text[2:].partition("=")[0])
            raise no_such_option(text, f"to pass a named argument: --arg {named_so}=JSON")
    values = [read_value(text) for text in args]

    def submit(client: Client) -> Job:
        try:
            return client.with_options(**terms).submit_call(handler, *values, **named)
        except (TypeError, ValueError) as error:
            leave(EXIT_USAGE, str(error))

    _submit(submit, master_url, no_wait, timeout_s, as_json)


@click.command("graph", short_help="Submit a graph of calls and print its answer.")
@click.argument("file", type=click.File("rb"))
@master_option
@submit_options
def graph_command(file: BinaryIO, key: str | None, **output: Any) -> None:
    """Submit a graph of calls from a file and print its answer as JSON.

    FILE contains a body of POST /jobs; - reads it from stdin. In a graph, {"ref": "a"} stands for
    the result of node a:

    \b
    {"graph": {"a": {"handler": "primes", "args": {"limit": 100}},
               "b": {"handler": "echo", "args": [{"ref": "a"}], "retries": 2}},
     "answer": "b"}
    """
    # Where stdin is replaced, its name may be a number.
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "stdin"
    with explained(""):
        body = file.read()
    body = body.removeprefix(BOM)
    try:
        plan = _json.decode(body)
    except Malformed as error:
        leave(EXIT_USAGE, f"{name} is not JSON: {syntax_fault(body) or plain(error)}")
    if (duplicate := find_duplicate(body)) is not None:
        leave(EXIT_USAGE, f"{name}: {duplicate}")
    if isinstance(plan, Mapping) and "jobs" in plan:
        leave(
            EXIT_USAGE, f'{name} has "jobs"; dte graph submits one job, so give each its own file'
        )
    if not isinstance(plan, Mapping) or not plan.keys() & {"graph", "handler", "formula"}:
        leave(EXIT_USAGE, f'{name} has no "graph": dte graph --help shows one')
    # Unchanged, because a repeated key requires identical bytes.
    _submit(lambda client: client.submit_plan(body, key=key), **output)


def _submit(
    submit: Callable[[Client], Job],
    master_url: str,
    no_wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Submit a job, and print its answer unless --no-wait is given."""
    with explained(master_url), connected(master_url, timeout_s) as client:
        job = submit(client)
        if no_wait:
            print_job(status(client, job) if as_json else job, as_json, f"job {job.id}")
            return
        with interruptible(job, master_url):
            found = wait_visibly(client, job, timeout_s, Explainer(), how_far)
        if as_json:
            say_json(found)
        elif found.succeeded:
            say(shown(found.answer))
        if not found.succeeded:
            if not as_json:
                explain_failure(found, master_url)
            sys.exit(EXIT_JOB_FAILED)


def explain_failure(job: Job, master_url: str) -> None:
    """Print the failure of a job, its reason, and the next steps."""
    state = job.state.replace("_", " ") if job.state != "waiting" else "failed"
    reason = f": {printable(job.error)}" if job.error else ""
    text = f"dte: job {job.id} {state}{reason}{indented(job.trace)}\n"
    text += f"for details: dte nodes {job.id}{at(master_url)}"
    if not MISFIT.search(job.error or ""):  # The same arguments would not fit again.
        text += f"\nto retry: dte retry {job.id}{at(master_url)}"
    say(text, err=True)
