"""The client's exchanges about jobs of calls, driven by hand: no network."""

from __future__ import annotations

import json
from typing import Any

import dte
from dte.client import requests
from dte.client.exchange import Response
from dte.client.job import Job
from dte.client.requests import WAIT_S

from .test_requests import drive, fail, finished, good, key_of, unfinished


def created(value: Any) -> Response:
    return Response(201, json.dumps(value).encode())


def conflict(error: str) -> Response:
    return Response(409, json.dumps({"error": error, "code": "conflict"}).encode())


def test_submit_call_posts_the_call_under_a_key() -> None:
    (request,), job = drive(
        requests.submit_call("echo", ("hi",), {}, {"key": "order-17"}), [created(unfinished(7))]
    )
    assert (request.method, request.path, key_of(request)) == ("POST", "/jobs", "order-17")
    assert json.loads(request.body) == {"handler": "echo", "args": ["hi"]}
    assert (job.id, job.finished, request.hold_s) == (7, False, 0)


def test_call_waits_until_the_job_has_ended_even_if_its_answer_is_null() -> None:
    ended = finished(7, None) | {"state": "succeeded"}
    (posted, asked), job = drive(
        requests.call("echo", (None,), {}, {"timeout_s": 9}), [created(unfinished(7)), good(ended)]
    )
    assert (posted.hold_s, asked.path) == (WAIT_S, "/job/7")
    assert 8 < posted.deadline.left_s() <= 9
    assert (job.succeeded, job.result()) == (True, None)
    sent, _ = drive(requests.call("echo", (None,), {}, {}), [created(ended)])
    assert len(sent) == 1


def test_cancel_gives_the_job_as_it_stands() -> None:
    stands = unfinished(7) | {"state": "cancelling"}
    (request,), job = drive(requests.cancel(7), [good(stands)])
    assert (request.method, request.path, job.state) == ("POST", "/job/7/cancel", "cancelling")


def test_cancel_of_a_job_that_has_been_cancelled_is_no_conflict() -> None:
    """The reply to the first attempt may have been lost."""
    ended = finished(7, None, "cancelled") | {"state": "cancelled"}
    (_, request), job = drive(requests.cancel(7), [conflict("job 7 has ended"), good(ended)])
    assert (request.path, job.state) == ("/job/7", "cancelled")


def test_cancel_of_a_job_that_has_ended_otherwise_is_a_conflict() -> None:
    ended = finished(7) | {"state": "succeeded"}
    error = fail(requests.cancel(7), conflict("job 7 has ended: succeeded"), good(ended))
    assert isinstance(error, dte.Conflict)
    assert "succeeded" in str(error)


def test_retry_gives_the_new_job() -> None:
    (request,), job = drive(requests.retry(7), [created({"job_id": 9, "retry_of": 7})])
    assert (request.method, request.path) == ("POST", "/job/7/retry")
    assert key_of(request)
    assert job == Job(9, False, retry_of=7)


def test_why_and_nodes_are_read_with_all_they_have() -> None:
    reason = {"node": "a", "state": "ready", "waits_for": "slot", "text": "busy", "place": 3}
    (request,), why = drive(
        requests.why(7), [good({"job_id": 7, "state": "running", "reasons": [reason], "more": 2})]
    )
    assert (request.path, why.id, why.reasons[0].place, why.more) == ("/job/7/why", 7, 3, 2)
    node = {
        "node": "a",
        "handler": "echo",
        "state": "running",
        "attempts": 2,
        "progress": {"fraction": 0.4, "text": "half"},
    }
    (request,), (found,) = drive(requests.nodes(7), [good([node])])
    assert (request.path, found.name, found.attempts) == ("/job/7/nodes", "a", 2)
    assert found.progress is not None
    assert (found.progress.fraction, found.progress.text) == (0.4, "half")
