"""Calls of the client about jobs that are more than a formula, built as those of `calls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dte.client import exact
from dte.client.exchange import Call, Deadline, Request, read
from dte.client.graphs import CallOptions, call_body
from dte.client.keys import key_header
from dte.client.replies import Job, NodeInfo, Retried, Why
from dte.client.requests import job, run_body, submit_body
from dte.core.errors import Conflict

_job: exact.Decoder[Job] = exact.Decoder(Job)
_retried: exact.Decoder[Retried] = exact.Decoder(Retried)
_why: exact.Decoder[Why] = exact.Decoder(Why)
_nodes: exact.Decoder[list[NodeInfo]] = exact.Decoder(list[NodeInfo])


def submit_plan(body: bytes, key: str | None) -> Call[Job]:
    """Submit the JSON of ``POST /jobs``."""
    return (yield from submit_body("/jobs", body, key))


def run_plan(body: bytes, timeout_s: float | None, key: str | None) -> Call[Job]:
    """Submit the JSON of ``POST /jobs``, and give the job when it has ended."""
    return (yield from run_body("/jobs", body, key, Deadline(timeout_s)))


def submit_call(
    handler: str, args: tuple[Any, ...], named: Mapping[str, Any], options: CallOptions
) -> Call[Job]:
    """Submit a call of a handler."""
    body = call_body(handler, args, named, options)
    return (yield from submit_plan(body, options.get("key")))


def call(
    handler: str, args: tuple[Any, ...], named: Mapping[str, Any], options: CallOptions
) -> Call[Job]:
    """Submit a call of a handler, and give the job when it has ended."""
    body = call_body(handler, args, named, options)
    return (yield from run_plan(body, options.get("timeout_s"), options.get("key")))


def cancel(number: int) -> Call[Job]:
    """Cancel a job. One that has been cancelled already is given as it stands."""
    try:
        return read(_job, (yield Request("POST", f"/job/{number}/cancel")))
    except Conflict:
        found = yield from job(number)
        # The reply to the first attempt may have been lost.
        if found.state != "cancelled":
            raise
        return found


def retry(number: int) -> Call[Job]:
    """Have the failed part of a job done again, as a new job."""
    headers = key_header(None)
    again = read(_retried, (yield Request("POST", f"/job/{number}/retry", headers=headers)))
    return Job(again.id, False, retry_of=again.retry_of)


def why(number: int) -> Call[Why]:
    """What the unfinished operations of a job wait for."""
    return read(_why, (yield Request("GET", f"/job/{number}/why")))


def nodes(number: int) -> Call[list[NodeInfo]]:
    """How the calls of a job stand."""
    return read(_nodes, (yield Request("GET", f"/job/{number}/nodes")))
