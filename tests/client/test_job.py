"""A job as the client reads it from a reply."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import dte
from dte.client.job import Job, JobSummary
from dte.wire.codec import Decoder, Malformed

read_job: Decoder[Job] = Decoder(Job)


def test_a_job_that_has_ended_gives_its_answer_also_if_that_is_nothing_much() -> None:
    assert Job(1, True, 0).result() == 0
    assert repr(Job(1, True, -0.0).result()) == "-0.0"


def test_a_job_that_failed_raises_why() -> None:
    with pytest.raises(dte.JobFailed, match="division by zero"):
        Job(1, True, error="division by zero").result()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("failed", dte.JobFailed),
        ("cancelled", dte.JobCancelled),
        ("timed_out", dte.JobTimedOut),
    ],
)
def test_the_exception_tells_how_a_job_failed(state: str, kind: type[dte.JobFailed]) -> None:
    job = Job(1, True, error="why", state=state)
    with pytest.raises(dte.JobFailed, match="why") as raised:
        job.result()
    assert (type(raised.value), raised.value.job) == (kind, job)


def test_a_job_that_has_not_ended_has_no_result_and_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="job 47 has not ended; wait for it first"):
        Job(47, False).result()


def test_the_documents_own_reply_is_a_job() -> None:
    job = read_job.decode(b'{"job_id": 47, "finished": false, "answer": null}')
    assert job == Job(47, False)


def test_a_full_reply_keeps_the_times_and_the_progress() -> None:
    job = read_job.decode(
        b'{"job_id": 1, "finished": false, "state": "running", "operations": 9, '
        b'"operations_done": 4, "submitted_at": "2026-11-21T03:18:30.5Z"}'
    )
    assert (job.state, job.operations, job.operations_done) == ("running", 9, 4)
    assert job.submitted_at == datetime(2026, 11, 21, 3, 18, 30, 500_000, UTC)


def test_what_a_later_master_adds_is_passed_over() -> None:
    assert read_job.decode(b'{"job_id": 1, "finished": true, "answer": 3, "colour": "red"}') == Job(
        1, True, 3
    )


@pytest.mark.parametrize(
    ("reply", "missing"),
    [(b'{"job_id": 1}', "finished"), (b'{"id": 1, "finished": true}', "job_id")],
)
def test_a_reply_without_an_id_or_a_standing_is_no_job(reply: bytes, missing: str) -> None:
    with pytest.raises(Malformed, match=missing):
        read_job.decode(reply)


def test_replies_do_not_change_and_can_be_compared() -> None:
    with pytest.raises(AttributeError):
        Job(1, True).finished = False  # type: ignore[misc]
    assert JobSummary(1, "1+2", True, 3) == JobSummary(1, "1+2", True, 3)
