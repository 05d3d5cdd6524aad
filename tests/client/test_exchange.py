"""Decoding of responses, and deadlines of callers."""

from __future__ import annotations

import json
from typing import Any

import pytest

import dte
from dte.client.exchange import Deadline, NoReply, Response, read
from dte.client.job import Job
from dte.wire.codec import Decoder

job: Decoder[Job] = Decoder(Job)


def fail(response: Response) -> dte.DteError:
    with pytest.raises(dte.DteError) as raised:
        read(job, response)
    return raised.value


def refusal(status: int, retry_after: str | None = None, **reply: Any) -> Response:
    return Response(status, json.dumps(reply).encode(), retry_after)


# What the master says is wrong, and what is no master


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid", dte.InvalidRequest),
        (400, "tls", dte.TlsFailed),
        (401, "unauthorized", dte.Unauthorized),
        (403, "forbidden", dte.Forbidden),
        (404, "not_found", dte.NotFound),
        (409, "conflict", dte.Conflict),
        (413, "too_large", dte.TooLarge),
        (429, "busy", dte.Busy),
        (503, "unavailable", dte.Unavailable),
        (503, "journal_damaged", dte.JournalDamaged),
        (507, "storage_full", dte.StorageFull),
        (500, "internal", dte.MasterFault),
        (500, "http", dte.MasterFault),
        (503, "http", dte.MasterFault),
        (404, "", dte.MasterFault),
        (400, "a code of a later version", dte.MasterFault),
    ],
)
def test_an_error_is_raised_as_what_its_code_says_with_the_masters_words(
    status: int, code: str, expected: type[dte.DteError]
) -> None:
    error = fail(refusal(status, error="the master's words", code=code))
    assert type(error) is expected
    assert str(error) == "the master's words"


def test_a_syntax_error_keeps_its_column_and_its_caret() -> None:
    error = fail(refusal(400, code="syntax", error="", reason="bad", column=5, caret="1+\n  ^"))
    assert isinstance(error, dte.FormulaError)
    assert (error.column, error.caret, error.index) == (5, "1+\n  ^", None)
    assert str(error) == "bad (column 5)"


@pytest.mark.parametrize(
    ("status", "code"), [(429, "busy"), (503, "unavailable"), (507, "storage_full")]
)
@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [("7", 7), (None, 1), ("", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("²", 1), ("9" * 5000, 1)],
)
def test_what_will_pass_says_after_how_many_seconds_to_try_again(
    status: int, code: str, retry_after: str | None, expected: int
) -> None:
    error = fail(refusal(status, retry_after, error="", code=code))
    assert isinstance(error, dte.Busy | dte.Unavailable)
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
    error = fail(Response(200, body))
    assert isinstance(error, dte.MasterFault)
    assert str(error).startswith("not a reply of a dte master: ")


def test_an_error_page_of_something_else_is_quoted_but_not_at_length() -> None:
    error = fail(Response(502, b"<html>Bad Gateway</html>" + b"x" * 10_000))
    assert isinstance(error, dte.MasterFault)
    assert "status 502" in str(error)
    assert "Bad Gateway" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, dte.Unauthorized), (403, dte.Forbidden), (413, dte.TooLarge)],
)
def test_a_proxy_that_demands_a_login_is_told_from_a_broken_master(
    status: int, kind: type[dte.DteError]
) -> None:
    error = fail(Response(status, b"<html>Authorization Required</html>"))
    assert type(error) is kind
    assert f"status {status}" in str(error)
    assert "not from a dte master" in str(error)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (301, b"<html>Moved Permanently</html>"),
        (308, b""),
        (400, b"<html>The plain HTTP request was sent to HTTPS port</html>"),
    ],
)
def test_a_proxy_that_wants_tls_is_an_error_with_the_next_step(status: int, body: bytes) -> None:
    error = fail(Response(status, body))
    assert isinstance(error, dte.MasterFault)
    assert str(error).endswith("perhaps its URL begins with https://")


def test_an_answer_is_read_bit_for_bit_and_in_its_type() -> None:
    long = "-" + "9" * 4300
    for text in ("-0.0", "4", "4.0", "5e-324", "1.7976931348623157e+308", long):
        body = f'{{"job_id": 1, "finished": true, "answer": {text}}}'.encode()
        assert str(read(job, Response(200, body)).answer) == text


# The time that a caller gives


def test_a_deadline_has_less_and_less_time_left_but_never_less_than_none() -> None:
    assert 4 < Deadline(5).left_s() <= 5
    assert Deadline(0).left_s() == 0
    assert Deadline().left_s() == Deadline(None).left_s() == float("inf")


def test_a_deadline_that_was_missed_names_the_jobs_and_the_time_that_was_given() -> None:
    error = Deadline(1.5).missed((4, 5))
    assert (error.jobs, error.timeout_s) == ([4, 5], 1.5)


@pytest.mark.parametrize("timeout_s", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="a number of seconds from 0 is expected"):
        Deadline(timeout_s)


def test_what_has_no_reply_says_whether_it_may_have_arrived() -> None:
    error = NoReply("no reply: refused", sent=False)
    assert (str(error), error.sent, error.silent) == ("no reply: refused", False, False)
