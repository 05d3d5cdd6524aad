"""The client's exchanges, driven by hand: requests out, responses in, and no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

import dte
from dte.client import requests
from dte.client.exchange import Exchange, Request, Response
from dte.client.job import Job
from dte.client.requests import BATCH_FORMULAS, SOON_S, WAIT_S

T = TypeVar("T")


def good(value: Any) -> Response:
    return Response(200, json.dumps(value).encode())


def finished(number: int, answer: float | None = 3, error: str | None = None) -> dict[str, Any]:
    return {"job_id": number, "finished": True, "answer": answer, "error": error}


def unfinished(number: int) -> dict[str, Any]:
    return {"job_id": number, "finished": False}


def drive(exchange: Exchange[T], responses: Sequence[Response]) -> tuple[list[Request], T]:
    """Answer each request of an exchange in turn; return the requests and the result."""
    sent = [next(exchange), *map(exchange.send, responses[:-1])]
    with pytest.raises(StopIteration) as stopped:
        exchange.send(responses[-1])
    return sent, stopped.value.value


def fail(exchange: Exchange[Any], *responses: Response) -> dte.DteError:
    """Answer each request of an exchange in turn; return what it raises after the last."""
    next(exchange)
    for response in responses[:-1]:
        exchange.send(response)
    with pytest.raises(dte.DteError) as raised:
        exchange.send(responses[-1])
    return raised.value


# submit, job, jobs, workers


def test_submit_posts_the_formula_as_the_document_says_and_gives_the_job() -> None:
    (request,), job = drive(requests.submit("1+2"), [good(unfinished(7))])
    assert (request.method, request.path) == ("POST", "/submit")
    assert json.loads(request.body) == {"task": "1+2"}
    assert (job.id, job.finished) == (7, False)


def key_of(request: Request) -> str:
    return request.headers["Idempotency-Key"]


def test_every_submission_has_a_key_of_its_own() -> None:
    sent = [
        next(call)
        for _ in range(2)
        for call in (
            requests.submit("1+2"),
            requests.compute("1+2", None),
            requests.map_formulas(["1+2"], None),
        )
    ]
    assert len({key_of(request) for request in sent}) == 6


def test_a_submission_has_the_callers_key_if_there_is_one() -> None:
    for call in (requests.submit("1+2", "order-17"), requests.compute("1+2", None, "order-17")):
        assert key_of(next(call)) == "order-17"


def test_a_key_that_is_none_is_refused_before_anything_is_sent() -> None:
    for call in (requests.submit("1+2", ""), requests.compute("1+2", None, "ключ")):
        with pytest.raises(ValueError, match=r"key is .* printable ASCII characters are expected"):
            next(call)


def test_questions_have_no_key() -> None:
    for call in (requests.job(1), requests.jobs(), requests.workers(), requests.wait(1, None)):
        assert not next(call).headers


def test_job_asks_for_its_number() -> None:
    (request,), job = drive(requests.job(47), [good(finished(47, -2.5))])
    assert (request.method, request.path, request.body) == ("GET", "/job/47", b"")
    assert job == Job(47, True, -2.5)


def test_jobs_are_given_in_the_masters_order() -> None:
    (request,), jobs = drive(
        requests.jobs(), [good([finished(2) | {"task": "1+2"}, unfinished(1) | {"task": "3+4"}])]
    )
    assert request.path == "/jobs"
    assert [(job.id, job.task, job.answer) for job in jobs] == [(2, "1+2", 3), (1, "3+4", None)]


def test_workers_are_asked_for_at_worker() -> None:
    (request,), workers = drive(requests.workers(), [good([])])
    assert (request.method, request.path, workers) == ("GET", "/worker", [])


# wait, compute


def test_wait_asks_again_until_the_job_has_ended() -> None:
    responses = [good(unfinished(1)), good(unfinished(1)), good(finished(1))]
    sent, job = drive(requests.wait(1, None), responses)
    assert len(sent) == 3
    assert job.answer == 3


def test_what_waits_is_held_by_the_master_and_the_rest_is_not() -> None:
    for call in (
        requests.wait(1, None),
        requests.compute("1", None),
        requests.map_formulas(["1"], None),
    ):
        assert next(call).hold_s == WAIT_S
    for call in (requests.submit("1"), requests.job(1), requests.jobs(), requests.workers()):
        assert next(call).hold_s == 0


def test_what_waits_has_the_time_that_the_caller_gives() -> None:
    for call in (requests.wait(1, 5), requests.compute("1", 5), requests.map_formulas(["1"], 5)):
        assert 4 < next(call).deadline.left_s() <= 5


def test_a_request_names_the_jobs_that_it_waits_for_as_soon_as_there_are_some() -> None:
    assert next(requests.wait(47, None)).jobs == [47]
    (submission, question), _ = drive(
        requests.compute("1", None), [good(unfinished(9)), good(finished(9))]
    )
    assert (submission.jobs, question.jobs) == ((), [9])
    (submission, question), _ = drive(
        requests.map_formulas(["1", "2"], None),
        [batch(4, 2, unfinished), good([finished(4), finished(5)])],
    )
    assert (submission.jobs, question.jobs) == ((), [4, 5])


def test_a_master_that_lets_go_at_once_is_not_asked_again_at_once() -> None:
    """It is ending: whoever asked again and again would keep it, and himself, busy."""
    waiting = requests.wait(1, None)
    assert next(waiting).pause_s == 0
    assert waiting.send(good(unfinished(1))).pause_s == SOON_S
    assert waiting.send(good(unfinished(1))).pause_s == SOON_S
    mapping = requests.map_formulas(["1"], None)
    next(mapping)
    assert mapping.send(batch(4, 1, unfinished)).pause_s == SOON_S
    assert mapping.send(good([unfinished(4)])).pause_s == SOON_S


def test_a_master_that_has_held_a_request_is_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "SOON_S", 0.0)
    waiting = requests.wait(1, None)
    next(waiting)
    assert waiting.send(good(unfinished(1))).pause_s == 0


def test_wait_gives_up_when_the_time_is_over_and_names_the_job() -> None:
    error = fail(requests.wait(47, 0), good(unfinished(47)))
    assert isinstance(error, dte.WaitTimeout)
    assert error.jobs == [47]
    assert str(error) == "job 47 has not ended within 0 s"


def test_wait_takes_an_answer_that_comes_with_the_end_of_the_time() -> None:
    _, job = drive(requests.wait(1, 0), [good(finished(1))])
    assert job.answer == 3


def test_a_time_to_wait_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        next(requests.wait(1, float("nan")))


def test_compute_needs_one_request_for_a_formula_that_is_soon_done() -> None:
    (request,), job = drive(requests.compute("1+2", None), [good(finished(1))])
    assert (request.method, request.path) == ("POST", "/submit")
    assert job.answer == 3


def test_compute_waits_for_the_job_that_it_submitted() -> None:
    responses = [good(unfinished(9)), good(unfinished(9)), good(finished(9))]
    sent, job = drive(requests.compute("1+2", None), responses)
    assert [request.path for request in sent] == ["/submit", "/job/9", "/job/9"]
    assert job.id == 9


def test_compute_asks_for_the_answer_that_the_reply_to_a_submission_has_not() -> None:
    """Without `wait` the master replies as the document says: ``{"job_id", "finished"}``."""
    call = requests.compute("42", 0)
    next(call)
    try:
        request = call.send(good({"job_id": 9, "finished": True}))
    except StopIteration as stop:
        raise AssertionError(f"{stop.value} was taken for the answer") from None
    assert request.path == "/job/9"


def test_compute_that_gives_up_says_the_whole_time_that_was_given() -> None:
    error = fail(requests.compute("1+2", 0), good(unfinished(9)), good(unfinished(9)))
    assert isinstance(error, dte.WaitTimeout)
    assert error.jobs == [9]
    assert str(error) == "job 9 has not ended within 0 s"


# map


def batch(first: int, count: int, state: Any = finished) -> Response:
    ids = range(first, first + count)
    return good({"job_ids": list(ids), "jobs": [state(number) for number in ids]})


def test_map_submits_a_few_formulas_in_one_request_and_keeps_their_order() -> None:
    response = good({"job_ids": [4, 5], "jobs": [finished(4, 3), finished(5, 12)]})
    (request,), jobs = drive(requests.map_formulas(["1+2", "3*4"], None), [response])
    assert json.loads(request.body) == {"tasks": ["1+2", "3*4"]}
    assert [job.answer for job in jobs] == [3, 12]


def test_map_of_nothing_asks_nobody() -> None:
    with pytest.raises(StopIteration) as stopped:
        next(requests.map_formulas([], None))
    assert stopped.value.value == []


def test_map_sends_many_formulas_in_batches() -> None:
    formulas = [str(number) for number in range(BATCH_FORMULAS + 1)]
    sent, jobs = drive(
        requests.map_formulas(formulas, None), [batch(1, BATCH_FORMULAS), batch(5000, 1)]
    )
    assert [json.loads(request.body)["tasks"] for request in sent] == [
        formulas[:-1],
        formulas[-1:],
    ]
    assert [job.id for job in jobs] == [*range(1, BATCH_FORMULAS + 1), 5000]


def test_map_asks_again_for_the_jobs_of_a_batch_until_all_have_ended() -> None:
    later = good([finished(4), unfinished(5)])
    last = good([finished(4), finished(5)])
    sent, jobs = drive(
        requests.map_formulas(["1+2", "3*4"], None), [batch(4, 2, unfinished), later, last]
    )
    for request in sent[1:]:
        assert (request.path, request.hold_s) == ("/jobs?ids=4-5", WAIT_S)
    assert all(job.finished for job in jobs)


def test_map_gives_up_when_the_time_is_over_and_names_the_jobs() -> None:
    error = fail(requests.map_formulas(["1+2", "3*4"], 0), batch(4, 2, unfinished))
    assert isinstance(error, dte.WaitTimeout)
    assert error.jobs == [4, 5]
    assert str(error) == "2 jobs have not ended within 0 s"


def test_map_without_time_to_wait_still_asks_how_the_jobs_stand() -> None:
    # The reply to a submission that does not wait has the ids alone.
    call = requests.map_formulas(["1+2"], 0)
    assert next(call).path == "/submit"
    accepted = Response(200, json.dumps({"job_ids": [7]}).encode())
    assert call.send(accepted).path == "/jobs?ids=7-7"


SYNTAX = {"code": "syntax", "error": "bad (formula 3, column 5)", "reason": "bad", "column": 5}


def test_map_sends_each_batch_under_a_key_of_its_own() -> None:
    formulas = ["1"] * (BATCH_FORMULAS + 1)
    (first, second), _ = drive(
        requests.map_formulas(formulas, None), [batch(1, BATCH_FORMULAS), batch(5000, 1)]
    )
    assert key_of(first) != key_of(second)


def test_map_sends_the_parts_of_a_batch_that_was_too_large_under_other_keys() -> None:
    """They are other submissions: under the same key the master would refuse them."""
    refused = Response(413, b'{"error": "too many (formulas_max)", "code": "too_large"}')
    (whole, *parts), _ = drive(
        requests.map_formulas(["1"] * 4, None), [refused, batch(1, 2), batch(3, 2)]
    )
    assert [len(json.loads(part.body)["tasks"]) for part in (whole, *parts)] == [4, 2, 2]
    assert len({key_of(part) for part in (whole, *parts)}) == 3


def test_map_counts_the_index_of_a_bad_formula_across_batches() -> None:
    refused = Response(400, json.dumps(SYNTAX | {"caret": "x\n^", "index": 3}).encode())
    call = requests.map_formulas(["1"] * (BATCH_FORMULAS + 9), None)
    error = fail(call, batch(1, BATCH_FORMULAS), refused)
    assert isinstance(error, dte.FormulaError)
    assert error.index == BATCH_FORMULAS + 3
    assert str(error) == f"bad (formula {BATCH_FORMULAS + 3}, column 5)"
    assert (error.reason, error.column, error.caret) == ("bad", 5, "x\n^")


@pytest.mark.parametrize("reply", [{"job_ids": [1]}, {"job_ids": [], "jobs": []}])
def test_map_does_not_take_a_reply_with_fewer_jobs_than_formulas(reply: dict[str, Any]) -> None:
    assert isinstance(fail(requests.map_formulas(["1", "2"], None), good(reply)), dte.MasterFault)


def test_results_raise_the_first_failure_with_its_job() -> None:
    jobs = [Job(1, True, 3), Job(2, True, error="first"), Job(3, True, error="second")]
    with pytest.raises(dte.JobFailed, match="first") as raised:
        requests.results(jobs, return_exceptions=False)
    assert raised.value.job is jobs[1]


def test_results_give_failures_in_their_places_if_asked_to() -> None:
    value, failure = requests.results(
        [Job(1, True, 3), Job(2, True, error="division by zero")], return_exceptions=True
    )
    assert value == 3
    assert isinstance(failure, dte.JobFailed)
    assert str(failure) == "division by zero"


def test_a_job_is_asked_for_by_itself_or_by_its_id() -> None:
    assert requests.number_of(Job(7, False)) == requests.number_of(7) == 7


@pytest.mark.parametrize("job", [[1, 2], "abc", 1.5, None, {"id": 1}])
def test_what_is_no_job_is_refused_before_anything_is_sent(job: Any) -> None:
    with pytest.raises(TypeError, match=r"one job is expected, as a dte\.Job or by its id, not "):
        requests.number_of(job)


@pytest.mark.parametrize("job", [7, "7", Job(7, False)])
def test_a_job_is_given_by_its_id_or_itself(job: Any) -> None:
    assert requests.number_of(job) == 7


@pytest.mark.parametrize(
    "exchange",
    [
        requests.submit(b"1+1"),  # type: ignore[arg-type]
        requests.compute(bytearray(b"1+1"), None),  # type: ignore[arg-type]
        requests.map_formulas(["1+1", b"1+1"], None),  # type: ignore[list-item]
        requests.map_formulas(["1+1", None], None),  # type: ignore[list-item]
        requests.map_formulas([1, 2], None),  # type: ignore[list-item]
    ],
)
def test_what_is_no_formula_is_refused_before_anything_is_sent(exchange: Exchange[Any]) -> None:
    with pytest.raises(TypeError, match=r"a formula is a text, such as '1\+2', not "):
        next(exchange)
