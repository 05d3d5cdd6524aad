"""The client's calls, driven by hand: requests out, responses in, and no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

import dte
from dte.client import calls
from dte.client.calls import BATCH_FORMULAS, WAIT_S, Call, Request, Response
from dte.client.replies import Job

T = TypeVar("T")


def good(value: Any) -> Response:
    return Response(200, json.dumps(value).encode())


def finished(number: int, answer: float | None = 3, error: str | None = None) -> dict[str, Any]:
    return {"job_id": number, "finished": True, "answer": answer, "error": error}


def unfinished(number: int) -> dict[str, Any]:
    return {"job_id": number, "finished": False}


def drive(call: Call[T], responses: Sequence[Response]) -> tuple[list[Request], T]:
    """Answer each request of a call in turn; give the requests and the call's result."""
    requests = [next(call), *map(call.send, responses[:-1])]
    with pytest.raises(StopIteration) as stopped:
        call.send(responses[-1])
    return requests, stopped.value.value


def fail(call: Call[Any], *responses: Response) -> dte.DteError:
    """Answer each request of a call in turn; give what it raises after the last."""
    next(call)
    for response in responses[:-1]:
        call.send(response)
    with pytest.raises(dte.DteError) as raised:
        call.send(responses[-1])
    return raised.value


def waits(request: Request) -> float:
    """The seconds of a request's ``wait=``."""
    return float(request.path.partition("wait=")[2])


# submit, job, jobs, workers


def test_submit_posts_the_formula_as_the_document_says_and_gives_the_job() -> None:
    (request,), job = drive(calls.submit("1+2"), [good(unfinished(7))])
    assert (request.method, request.path) == ("POST", "/submit")
    assert json.loads(request.body) == {"task": "1+2"}
    assert (job.id, job.finished) == (7, False)


def test_submit_is_not_repeatable_so_that_no_job_is_done_twice() -> None:
    assert not next(calls.submit("1+2")).repeatable
    assert not next(calls.map_formulas(["1+2"], None)).repeatable


def test_questions_are_repeatable() -> None:
    for call in (calls.job(1), calls.jobs(), calls.workers(), calls.wait(1, None)):
        assert next(call).repeatable


def test_job_asks_for_its_number() -> None:
    (request,), job = drive(calls.job(47), [good(finished(47, -2.5))])
    assert (request.method, request.path, request.body) == ("GET", "/job/47", b"")
    assert job == Job(47, True, -2.5)


def test_jobs_are_given_in_the_masters_order() -> None:
    (request,), jobs = drive(
        calls.jobs(), [good([finished(2) | {"task": "1+2"}, unfinished(1) | {"task": "3+4"}])]
    )
    assert request.path == "/jobs"
    assert [(job.id, job.task, job.answer) for job in jobs] == [(2, "1+2", 3), (1, "3+4", None)]


def test_workers_are_asked_for_at_worker() -> None:
    (request,), workers = drive(calls.workers(), [good([])])
    assert (request.method, request.path, workers) == ("GET", "/worker", [])


# wait, compute


def test_wait_asks_again_until_the_job_has_ended() -> None:
    responses = [good(unfinished(1)), good(unfinished(1)), good(finished(1))]
    requests, job = drive(calls.wait(1, None), responses)
    assert len(requests) == 3
    assert job.answer == 3


def test_a_request_outlasts_the_time_that_the_master_holds_it() -> None:
    for call in (calls.wait(1, None), calls.compute("1", None), calls.map_formulas(["1"], None)):
        request = next(call)
        assert waits(request) == WAIT_S < request.timeout_s


def test_wait_holds_a_request_no_longer_than_the_time_that_is_left() -> None:
    assert 4 < waits(next(calls.wait(1, 5))) <= 5


def test_wait_gives_up_when_the_time_is_over_and_names_the_job() -> None:
    error = fail(calls.wait(47, 0), good(unfinished(47)))
    assert isinstance(error, dte.WaitTimeout)
    assert error.jobs == [47]
    assert str(error) == "job 47 has not ended within 0 s"


def test_wait_takes_an_answer_that_comes_with_the_end_of_the_time() -> None:
    _, job = drive(calls.wait(1, 0), [good(finished(1))])
    assert job.answer == 3


def test_a_time_to_wait_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        next(calls.wait(1, float("nan")))


def refused_wait(wait_max_s: float) -> Response:
    error = {"error": "too long", "code": "wait_too_long", "wait_max_s": wait_max_s}
    return Response(400, json.dumps(error).encode())


def test_a_master_that_holds_requests_for_less_is_asked_to_hold_them_for_less() -> None:
    for call in (calls.wait(1, None), calls.compute("1", None), calls.map_formulas(["1"], None)):
        assert waits(next(call)) == WAIT_S
        assert waits(call.send(refused_wait(1.5))) == 1.5


def test_a_master_that_refuses_what_it_said_it_takes_is_not_asked_without_end() -> None:
    error = fail(calls.wait(1, None), refused_wait(1.5), refused_wait(1.5))
    assert isinstance(error, dte.WaitTooLong)
    assert error.wait_max_s == 1.5


def test_no_more_is_asked_for_than_the_master_takes_be_it_ever_so_little() -> None:
    call = calls.wait(1, None)
    next(call)
    assert waits(call.send(refused_wait(1.23456789))) <= 1.23456789


def test_compute_needs_one_request_for_a_formula_that_is_soon_done() -> None:
    (request,), job = drive(calls.compute("1+2", None), [good(finished(1))])
    assert request.path.startswith("/submit?wait=")
    assert job.answer == 3


def test_compute_waits_for_the_job_that_it_submitted() -> None:
    responses = [good(unfinished(9)), good(unfinished(9)), good(finished(9))]
    requests, job = drive(calls.compute("1+2", None), responses)
    assert [request.path.partition("?")[0] for request in requests] == [
        "/submit",
        "/job/9",
        "/job/9",
    ]
    assert job.id == 9


def test_compute_asks_for_the_answer_that_the_reply_to_a_submission_has_not() -> None:
    """Without `wait` the master replies as the document says: ``{"job_id", "finished"}``."""
    call = calls.compute("42", 0)
    next(call)
    try:
        request = call.send(good({"job_id": 9, "finished": True}))
    except StopIteration as stop:
        raise AssertionError(f"{stop.value} was taken for the answer") from None
    assert request.path.startswith("/job/9")


def test_compute_that_gives_up_says_the_whole_time_that_was_given() -> None:
    error = fail(calls.compute("1+2", 0), good(unfinished(9)), good(unfinished(9)))
    assert isinstance(error, dte.WaitTimeout)
    assert error.jobs == [9]
    assert str(error) == "job 9 has not ended within 0 s"


# map


def batch(first: int, count: int, state: Any = finished) -> Response:
    ids = range(first, first + count)
    return good({"job_ids": list(ids), "jobs": [state(number) for number in ids]})


def test_map_submits_a_few_formulas_in_one_request_and_keeps_their_order() -> None:
    response = good({"job_ids": [4, 5], "jobs": [finished(4, 3), finished(5, 12)]})
    (request,), jobs = drive(calls.map_formulas(["1+2", "3*4"], None), [response])
    assert json.loads(request.body) == {"tasks": ["1+2", "3*4"]}
    assert [job.answer for job in jobs] == [3, 12]


def test_map_of_nothing_asks_nobody() -> None:
    with pytest.raises(StopIteration) as stopped:
        next(calls.map_formulas([], None))
    assert stopped.value.value == []


def test_map_sends_many_formulas_in_batches() -> None:
    formulas = [str(number) for number in range(BATCH_FORMULAS + 1)]
    requests, jobs = drive(
        calls.map_formulas(formulas, None), [batch(1, BATCH_FORMULAS), batch(5000, 1)]
    )
    assert [json.loads(request.body)["tasks"] for request in requests] == [
        formulas[:-1],
        formulas[-1:],
    ]
    assert [job.id for job in jobs] == [*range(1, BATCH_FORMULAS + 1), 5000]


def test_map_asks_again_for_the_jobs_of_a_batch_until_all_have_ended() -> None:
    later = good([finished(4), unfinished(5)])
    last = good([finished(4), finished(5)])
    requests, jobs = drive(
        calls.map_formulas(["1+2", "3*4"], None), [batch(4, 2, unfinished), later, last]
    )
    for request in requests[1:]:
        assert request.path.startswith("/jobs?ids=4-5&wait=")
        assert waits(request) == WAIT_S
    assert all(job.finished for job in jobs)


def test_map_gives_up_when_the_time_is_over_and_names_the_jobs() -> None:
    error = fail(calls.map_formulas(["1+2", "3*4"], 0), batch(4, 2, unfinished))
    assert isinstance(error, dte.WaitTimeout)
    assert error.jobs == [4, 5]
    assert str(error) == "2 jobs have not ended within 0 s"


def test_map_without_time_to_wait_still_asks_how_the_jobs_stand() -> None:
    # The reply to a submission that does not wait has the ids alone.
    call = calls.map_formulas(["1+2"], 0)
    assert next(call).path == "/submit"
    accepted = Response(200, json.dumps({"job_ids": [7]}).encode())
    assert call.send(accepted).path == "/jobs?ids=7-7"


SYNTAX = {"code": "syntax", "error": "bad (formula 3, column 5)", "reason": "bad", "column": 5}


def test_map_counts_the_index_of_a_bad_formula_across_batches() -> None:
    refused = Response(400, json.dumps(SYNTAX | {"caret": "x\n^", "index": 3}).encode())
    call = calls.map_formulas(["1"] * (BATCH_FORMULAS + 9), None)
    error = fail(call, batch(1, BATCH_FORMULAS), refused)
    assert isinstance(error, dte.FormulaError)
    assert error.index == BATCH_FORMULAS + 3
    assert str(error) == f"bad (formula {BATCH_FORMULAS + 3}, column 5)"
    assert (error.reason, error.column, error.caret) == ("bad", 5, "x\n^")


@pytest.mark.parametrize("reply", [{"job_ids": [1]}, {"job_ids": [], "jobs": []}])
def test_map_does_not_take_a_reply_with_fewer_jobs_than_formulas(reply: dict[str, Any]) -> None:
    assert isinstance(fail(calls.map_formulas(["1", "2"], None), good(reply)), dte.MasterFault)


def test_results_raise_the_first_failure_with_its_job() -> None:
    jobs = [Job(1, True, 3), Job(2, True, error="first"), Job(3, True, error="second")]
    with pytest.raises(dte.JobFailed, match="first") as raised:
        calls.results(jobs, return_exceptions=False)
    assert raised.value.job is jobs[1]


def test_results_give_failures_in_their_places_if_asked_to() -> None:
    value, failure = calls.results(
        [Job(1, True, 3), Job(2, True, error="division by zero")], return_exceptions=True
    )
    assert value == 3
    assert isinstance(failure, dte.JobFailed)
    assert str(failure) == "division by zero"


def test_a_job_is_asked_for_by_itself_or_by_its_id() -> None:
    assert calls.number_of(Job(7, False)) == calls.number_of(7) == 7


# What the master says is wrong, and what is no master


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid", dte.InvalidRequest),
        (404, "not_found", dte.NotFound),
        (413, "too_large", dte.TooLarge),
        (429, "busy", dte.Busy),
        (500, "internal", dte.MasterFault),
        (500, "http", dte.MasterFault),
        (404, "", dte.MasterFault),
        (400, "a code of a later version", dte.MasterFault),
    ],
)
def test_an_error_is_raised_as_what_its_code_says_with_the_masters_words(
    status: int, code: str, expected: type[dte.DteError]
) -> None:
    body = json.dumps({"error": "the master's words", "code": code}).encode()
    error = fail(calls.job(1), Response(status, body))
    assert type(error) is expected
    assert str(error) == "the master's words"


def test_a_syntax_error_keeps_its_column_and_its_caret() -> None:
    refused = Response(400, json.dumps(SYNTAX | {"caret": "1+\n  ^"}).encode())
    error = fail(calls.submit("1+"), refused)
    assert isinstance(error, dte.FormulaError)
    assert (error.column, error.caret, error.index) == (5, "1+\n  ^", None)
    assert str(error) == "bad (column 5)"


@pytest.mark.parametrize(
    ("retry_after", "expected"), [("7", 7), (None, 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1)]
)
def test_busy_says_after_how_many_seconds_to_try_again(
    retry_after: str | None, expected: int
) -> None:
    response = Response(429, b'{"error": "busy", "code": "busy"}', retry_after)
    error = fail(calls.submit("1"), response)
    assert isinstance(error, dte.Busy)
    assert error.retry_after_s == expected


@pytest.mark.parametrize(
    "body",
    [
        b"<html>It works!</html>",
        b"",
        b"[]",
        b"{}",
        b'{"job_id": "one", "finished": true}',
        b'{"job_id": 1, "finished": true, "answer": 1e999}',
        b'{"job_id": 1',
        b"\xff\xfe",
    ],
)
def test_a_good_reply_of_something_else_is_a_fault_that_says_so(body: bytes) -> None:
    error = fail(calls.job(1), Response(200, body))
    assert isinstance(error, dte.MasterFault)
    assert str(error).startswith("not a reply of a dte master: ")


def test_an_error_page_of_something_else_is_quoted_but_not_at_length() -> None:
    page = b"<html>Bad Gateway</html>" + b"x" * 10_000
    error = fail(calls.job(1), Response(502, page))
    assert isinstance(error, dte.MasterFault)
    assert "status 502" in str(error)
    assert "Bad Gateway" in str(error)
    assert len(str(error)) < 300


def test_an_answer_is_read_bit_for_bit_and_in_its_type() -> None:
    long = "-" + "9" * 4300
    for text in ("-0.0", "4", "4.0", "5e-324", "1.7976931348623157e+308", long):
        body = f'{{"job_id": 1, "finished": true, "answer": {text}}}'.encode()
        _, job = drive(calls.job(1), [Response(200, body)])
        assert str(job.answer) == text


# The master's URL


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://localhost:5000", "localhost", 5000),
        ("http://localhost:5000/", "localhost", 5000),
        ("http://master", "master", 80),
        ("http://127.0.0.1:65535", "127.0.0.1", 65535),
        ("http://[::1]:5000", "::1", 5000),
        pytest.param(
            *("http://[::1]", "::1", 80),
        ),
    ],
)
def test_a_url_is_split_into_host_and_port(url: str, host: str, port: int) -> None:
    assert calls.check_url(url) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:5000",
        "http://",
        "https://localhost:5000",
        "ftp://localhost",
        "http://localhost:",
        "http://localhost:x",
        "http://localhost:65536",
        "http://localhost:-1",
        "http://localhost:5000/path",
        "http://localhost:5000?query",
        *(
            pytest.param(url)
            for url in ("http://:5000", "http://local host:5000", "http://me@localhost:5000")
        ),
        pytest.param(
            "http://localhost:²",
        ),
    ],
)
def test_a_url_that_is_none_is_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT is expected"):
        calls.check_url(url)
