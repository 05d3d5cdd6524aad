"""When a request is sent again: failures in, attempts out, by a clock that is set by hand."""

from __future__ import annotations

from typing import Any

import pytest

import dte
from dte.client import exchange, patience, requests
from dte.client.exchange import Attempt, Deadline, Exchange, NoReply, Request, Response
from dte.client.patience import (
    PATIENCE_S,
    RETRY_AFTER_MAX_S,
    STRANGER_PATIENCE_S,
    Contact,
    Patience,
    patiently,
)
from dte.client.requests import WAIT_S

REFUSED = NoReply("no reply: Connection refused", sent=False)
BROKEN = NoReply("no reply: Connection reset by peer", sent=True)
SILENT = NoReply("no reply: timed out", sent=True, silent=True)

ENDED = Response(200, b'{"job_id": 7, "finished": true, "answer": 3}')
UNFINISHED = Response(200, b'{"job_id": 7, "finished": false}')
UNAVAILABLE = Response(503, b'{"error": "it is ending", "code": "unavailable"}', "1")
DAMAGED = Response(503, b'{"error": "it is damaged", "code": "journal_damaged"}')
STORAGE_FULL = Response(507, b'{"error": "no room", "code": "storage_full"}', "60")


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (exchange, patience, requests):
        monkeypatch.setattr(module, "time", made)
    return made


class Link:
    """Carries the attempts of a call, as a shell does, to a master that is scripted.

    Args:
        replies: what comes back, one for each attempt, the last for all further ones.
        times: how many seconds each attempt takes; 0 for those that are left out.

    Attributes:
        attempts: what was sent.
        sent_at: when, in seconds from the start.
    """

    def __init__(
        self, clock: Clock, *replies: Response | NoReply, times: tuple[float, ...] = ()
    ) -> None:
        self._clock = clock
        self._start = clock.now
        self._replies = list(replies)
        self._times = list(times)
        self.attempts: list[Attempt] = []
        self.sent_at: list[float] = []

    def run(self, call: Exchange[Any], contact: Contact) -> Any:
        """Run a call, and give its result."""
        steps = patiently(call, contact)
        try:
            attempt = next(steps)
            while True:
                reply = self._send(attempt)
                attempt = steps.throw(reply) if isinstance(reply, NoReply) else steps.send(reply)
        except StopIteration as stop:
            return stop.value

    def _send(self, attempt: Attempt) -> Response | NoReply:
        self._clock.now += attempt.pause_s
        self.attempts.append(attempt)
        self.sent_at.append(self._clock.now - self._start)
        self._clock.now += self._times.pop(0) if self._times else 0.0
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


def known() -> Contact:
    """With a master that has answered before."""
    return Contact(answered=True)


def keys(link: Link) -> set[str]:
    return {attempt.headers["Idempotency-Key"] for attempt in link.attempts}


def waits(attempt: Attempt) -> float:
    """The seconds of an attempt's ``wait=``; 0 if it has none."""
    return float(attempt.path.partition("wait=")[2] or 0)


# One submission, whatever happens on its way


@pytest.mark.parametrize("failure", [REFUSED, BROKEN, UNAVAILABLE])
@pytest.mark.parametrize("method", ["submit", "compute"])
def test_a_submission_is_sent_again_with_the_same_key_and_the_same_bytes(
    clock: Clock, failure: Response | NoReply, method: str
) -> None:
    call = requests.submit("1+2") if method == "submit" else requests.compute("1+2", None)
    replies = [UNFINISHED] if method == "submit" else [ENDED]
    link = Link(clock, failure, failure, *replies)
    assert link.run(call, Contact()).id == 7
    assert len(link.attempts) == 3
    assert len(keys(link)) == 1
    assert {attempt.body for attempt in link.attempts} == {b'{"task":"1+2"}'}


def test_a_batch_is_sent_again_with_the_same_key(clock: Clock) -> None:
    jobs = b'{"job_ids": [7], "jobs": [{"job_id": 7, "finished": true, "answer": 3}]}'
    link = Link(clock, BROKEN, Response(200, jobs))
    assert [job.answer for job in link.run(requests.map_formulas(["1+2"], None), Contact())] == [3]
    assert len(link.attempts) == 2
    assert len(keys(link)) == 1


def test_a_submission_that_never_arrived_is_not_said_to_be_in_doubt(clock: Clock) -> None:
    with pytest.raises(dte.Unreachable, match=r"refused$"):
        Link(clock, REFUSED).run(requests.submit("1+2"), Contact())


def test_a_submission_that_may_have_arrived_once_is_said_to_be_in_doubt(clock: Clock) -> None:
    with pytest.raises(
        dte.Unreachable, match=r"refused; the request may or may not have been accepted$"
    ):
        Link(clock, BROKEN, REFUSED).run(requests.submit("1+2"), Contact())


def test_a_question_is_never_in_doubt(clock: Clock) -> None:
    with pytest.raises(dte.Unreachable, match=r"peer$"):
        Link(clock, BROKEN).run(requests.job(7), Contact())


def test_what_the_link_says_is_the_cause(clock: Clock) -> None:
    refused = NoReply("refused", sent=False)
    refused.__cause__ = ConnectionRefusedError()
    with pytest.raises(dte.Unreachable) as raised:
        Link(clock, refused).run(requests.job(7), Contact())
    assert raised.value.__cause__ is refused.__cause__


# For how long


def test_a_master_that_never_answered_is_tried_for_three_seconds(clock: Clock) -> None:
    link = Link(clock, REFUSED)
    with pytest.raises(dte.Unreachable):
        link.run(requests.jobs(), Contact())
    assert link.sent_at == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, STRANGER_PATIENCE_S])


def test_a_master_that_has_answered_is_tried_for_half_a_minute_with_growing_pauses(
    clock: Clock,
) -> None:
    link = Link(clock, REFUSED)
    with pytest.raises(dte.Unreachable):
        link.run(requests.jobs(), known())
    pauses = [attempt.pause_s for attempt in link.attempts]
    assert pauses[:-1] == sorted(pauses[:-1])
    assert len(link.attempts) < 20
    assert link.sent_at[-1] == pytest.approx(PATIENCE_S)


def test_an_answer_makes_a_master_known_to_later_calls(clock: Clock) -> None:
    contact = Contact()
    Link(clock, UNFINISHED).run(requests.submit("1+2"), contact)
    link = Link(clock, REFUSED)
    with pytest.raises(dte.Unreachable):
        link.run(requests.jobs(), contact)
    assert link.sent_at[-1] == pytest.approx(PATIENCE_S)


def test_a_master_that_answered_in_the_middle_of_a_call_is_known_to_the_rest_of_it(
    clock: Clock,
) -> None:
    link = Link(clock, UNFINISHED, REFUSED)
    with pytest.raises(dte.Unreachable):
        link.run(requests.compute("1+2", None), Contact())
    assert link.sent_at[-1] == pytest.approx(PATIENCE_S)


def test_a_master_that_held_the_first_request_before_it_went_away_is_known(clock: Clock) -> None:
    """The one call of many a program is a long `compute`: it shall outlive a restart too."""
    link = Link(clock, BROKEN, REFUSED, times=(5,))
    with pytest.raises(dte.Unreachable):
        link.run(requests.compute("1+2", None), Contact())
    assert link.sent_at[-1] == pytest.approx(5 + PATIENCE_S)


def test_an_address_that_never_takes_a_connection_is_no_master_that_holds(clock: Clock) -> None:
    link = Link(clock, NoReply("no reply: timed out", sent=False), times=(2, 2, 2))
    with pytest.raises(dte.Unreachable):
        link.run(requests.jobs(), Contact())
    assert link.sent_at == pytest.approx([0, 2.1, 4.3])


def test_a_client_may_have_less_patience(clock: Clock) -> None:
    for contact in (Contact(patience_s=0.5), Contact(patience_s=0.5, answered=True)):
        link = Link(clock, REFUSED)
        with pytest.raises(dte.Unreachable):
            link.run(requests.jobs(), contact)
        assert link.sent_at[-1] == pytest.approx(0.5)


def test_a_client_without_patience_asks_once(clock: Clock) -> None:
    link = Link(clock, REFUSED)
    with pytest.raises(dte.Unreachable):
        link.run(requests.jobs(), Contact(patience_s=0, answered=True))
    assert len(link.attempts) == 1


@pytest.mark.parametrize("patience_s", [-1, float("nan")])
def test_patience_that_is_no_time_is_refused(patience_s: float) -> None:
    with pytest.raises(ValueError, match=r"patience_s is .* a number of seconds from 0"):
        Contact(patience_s)


def test_each_request_has_patience_of_its_own(clock: Clock) -> None:
    away = [REFUSED] * 9
    link = Link(clock, *away, UNFINISHED, *away, UNFINISHED, *away, UNFINISHED, *away, ENDED)
    assert link.run(requests.compute("1+2", None), known()).answer == 3
    assert link.sent_at[-1] > 2 * PATIENCE_S


def test_who_is_cut_off_again_and_again_while_waiting_goes_on_to_wait(clock: Clock) -> None:
    """A proxy may close connections that are idle for ten seconds."""
    link = Link(clock, *[BROKEN] * 20, ENDED, times=(10,) * 20)
    assert link.run(requests.wait(7, None), known()).answer == 3
    assert link.sent_at[-1] == pytest.approx(20 * 10.1)


def test_a_master_that_was_silent_is_not_asked_again(clock: Clock) -> None:
    link = Link(clock, SILENT)
    with pytest.raises(dte.Unreachable, match=r"timed out$"):
        link.run(requests.wait(7, None), known())
    assert len(link.attempts) == 1


# Held requests, and the time that a caller gives


def test_a_request_outlasts_the_time_that_the_master_holds_it(clock: Clock) -> None:
    for call in (
        requests.wait(1, None),
        requests.compute("1", None),
        requests.map_formulas(["1"], None),
    ):
        attempt = next(patiently(call, Contact()))
        assert waits(attempt) == WAIT_S < attempt.timeout_s


def test_what_is_not_held_has_no_wait_in_its_path(clock: Clock) -> None:
    assert next(patiently(requests.job(7), Contact())).path == "/job/7"
    assert next(patiently(requests.wait(7, 0), Contact())).path == "/job/7"


def test_a_request_with_a_query_is_held_too(clock: Clock) -> None:
    def call() -> Exchange[Response]:
        return (yield Request("GET", "/jobs?ids=4-5", hold_s=20.0))

    assert next(patiently(call(), Contact())).path == "/jobs?ids=4-5&wait=20.0"


def test_whoever_has_little_time_is_not_kept_waiting_by_a_master_that_has_stopped(
    clock: Clock,
) -> None:
    assert next(patiently(requests.wait(7, 1), Contact())).timeout_s == 1 + patience.SILENCE_MIN_S
    assert (
        next(patiently(requests.wait(7, None), Contact())).timeout_s == WAIT_S + patience.SILENCE_S
    )


def test_a_request_that_is_held_again_is_held_for_the_time_that_is_left(clock: Clock) -> None:
    link = Link(clock, BROKEN, REFUSED, ENDED, times=(4,))
    link.run(requests.wait(7, 10), known())
    assert [waits(attempt) for attempt in link.attempts] == pytest.approx([10, 5.9, 5.7])
    assert max(attempt.timeout_s - waits(attempt) for attempt in link.attempts) <= 10


def test_a_wait_that_ends_while_the_master_is_away_is_over_in_time(clock: Clock) -> None:
    """The wait is over like any other: the job may go on, and can be asked about later."""
    link = Link(clock, BROKEN, REFUSED, times=(4,))
    with pytest.raises(dte.WaitTimeout, match="job 7 has not ended within 10 s"):
        link.run(requests.wait(7, 10), known())
    assert link.sent_at[-1] == pytest.approx(10)


def test_a_compute_whose_master_goes_away_names_its_job_when_the_time_is_over(
    clock: Clock,
) -> None:
    with pytest.raises(dte.WaitTimeout, match="job 7 has not ended within 25 s"):
        Link(clock, UNFINISHED, REFUSED, times=(20,)).run(requests.compute("1+2", 25), Contact())


def test_a_compute_that_was_not_seen_to_be_accepted_in_time_says_that(clock: Clock) -> None:
    link = Link(clock, BROKEN, REFUSED, times=(2,))
    with pytest.raises(dte.Unreachable, match="the request may or may not have been accepted"):
        link.run(requests.compute("1+2", 5), Contact())
    assert link.sent_at[-1] == pytest.approx(5)


def test_a_wait_at_a_url_that_never_answered_says_that_nobody_is_there(clock: Clock) -> None:
    link = Link(clock, REFUSED)
    with pytest.raises(dte.Unreachable, match="refused"):
        link.run(requests.wait(7, 1), Contact())
    assert link.sent_at[-1] == pytest.approx(1)


def test_a_call_without_time_asks_once(clock: Clock) -> None:
    for call in (requests.wait(7, 0), requests.compute("1", 0), requests.map_formulas(["1"], 0)):
        link = Link(clock, REFUSED)
        with pytest.raises((dte.WaitTimeout, dte.Unreachable)):
            link.run(call, known())
        assert len(link.attempts) == 1


def test_a_pause_before_a_question_is_not_longer_than_the_time_that_is_left(clock: Clock) -> None:
    link = Link(clock, UNFINISHED, UNFINISHED, ENDED)
    assert link.run(requests.wait(7, 0.15), known()).answer == 3
    assert [attempt.pause_s for attempt in link.attempts] == pytest.approx([0, 0.1, 0.05])


# What the master says about itself


def refused_wait(wait_max_s: float) -> Response:
    body = f'{{"error": "", "code": "wait_too_long", "wait_max_s": {wait_max_s!r}}}'
    return Response(400, body.encode())


def test_a_master_that_holds_requests_for_less_is_asked_to_hold_them_for_less(
    clock: Clock,
) -> None:
    for call in (
        requests.wait(1, None),
        requests.compute("1", None),
        requests.map_formulas(["1"], None),
    ):
        steps = patiently(call, Contact())
        assert waits(next(steps)) == WAIT_S
        again = steps.send(refused_wait(1.23456789))
        assert (waits(again), again.pause_s) == (1.23456789, 0)


def test_a_submission_that_is_held_for_less_keeps_its_key(clock: Clock) -> None:
    link = Link(clock, refused_wait(1.5), ENDED)
    link.run(requests.compute("1+2", None), Contact())
    assert (len(link.attempts), len(keys(link))) == (2, 1)


def test_a_master_that_refuses_what_it_said_it_takes_is_not_asked_without_end(
    clock: Clock,
) -> None:
    link = Link(clock, refused_wait(1.5))
    with pytest.raises(dte.WaitTooLong) as raised:
        link.run(requests.wait(1, None), Contact())
    assert raised.value.wait_max_s == 1.5
    assert len(link.attempts) == 2


def test_a_master_that_cannot_accept_work_for_long_is_unavailable(clock: Clock) -> None:
    link = Link(clock, UNAVAILABLE)
    with pytest.raises(dte.Unavailable, match="it is ending") as raised:
        link.run(requests.submit("1+2"), Contact())
    assert raised.value.retry_after_s == 1
    assert link.sent_at[-1] == pytest.approx(PATIENCE_S)


def test_a_master_that_cannot_accept_work_is_asked_when_it_says(clock: Clock) -> None:
    later = Response(503, UNAVAILABLE.body, "4")
    link = Link(clock, later, UNFINISHED)
    link.run(requests.submit("1+2"), Contact())
    assert link.sent_at == pytest.approx([0, 4])


def test_a_master_that_asks_for_an_hour_is_asked_sooner(clock: Clock) -> None:
    link = Link(clock, Response(503, UNAVAILABLE.body, "3600"), UNFINISHED)
    link.run(requests.submit("1+2"), Contact())
    assert link.sent_at == pytest.approx([0, RETRY_AFTER_MAX_S])


def test_a_master_that_cannot_accept_work_is_not_asked_beyond_the_callers_time(
    clock: Clock,
) -> None:
    link = Link(clock, Response(503, UNAVAILABLE.body, "4"))
    with pytest.raises(dte.Unavailable):
        link.run(requests.compute("1+2", 5), Contact())
    assert link.sent_at == pytest.approx([0, 4, 5])


def test_a_wait_is_over_in_time_also_at_a_master_that_says_that_it_cannot(clock: Clock) -> None:
    with pytest.raises(dte.WaitTimeout):
        Link(clock, UNAVAILABLE).run(requests.wait(7, 5), Contact())


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (STORAGE_FULL, dte.StorageFull),
        (DAMAGED, dte.JournalDamaged),
        (Response(429, b'{"error": "full", "code": "busy"}', "1"), dte.Busy),
        (Response(409, b'{"error": "used", "code": "conflict"}'), dte.Conflict),
        (Response(503, b"<html>Service Unavailable</html>"), dte.MasterFault),
    ],
)
def test_any_other_refusal_is_raised_at_once(
    clock: Clock, response: Response, expected: type[dte.DteError]
) -> None:
    link = Link(clock, response)
    with pytest.raises(dte.DteError) as raised:
        link.run(requests.submit("1+2"), known())
    assert type(raised.value) is expected
    assert len(link.attempts) == 1


@pytest.mark.parametrize("status", [502, 504])
def test_a_proxy_whose_master_restarts_is_asked_again(clock: Clock, status: int) -> None:
    link = Link(clock, *[Response(status, b"<html>Bad Gateway</html>")] * 3, UNFINISHED)
    link.run(requests.submit("1+2"), known())
    assert link.sent_at == pytest.approx([0, 0.1, 0.3, 0.7])


def test_a_proxy_that_never_reached_a_master_is_given_up_soon(clock: Clock) -> None:
    link = Link(clock, Response(502, b"<html>Bad Gateway</html>"))
    with pytest.raises(dte.Unreachable, match="status 502") as raised:
        link.run(requests.submit("1+2"), Contact())
    assert "may or may not have been accepted" in str(raised.value)
    assert link.sent_at[-1] == pytest.approx(STRANGER_PATIENCE_S)


def test_pauses_start_anew_after_a_connection_that_lasted() -> None:
    failing = Patience(known(), Deadline(None).at)
    assert [failing.pause_s(REFUSED, now, 0) for now in (0.0, 1.0, 2.0)] == [0.1, 0.2, 0.4]
    assert failing.pause_s(BROKEN, 40.0, 5.0) == 0.1


# Waiting is explained


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "dte.client"]


@pytest.mark.parametrize(
    ("failure", "words"),
    [(REFUSED, "Connection refused"), (BROKEN, "reset"), (UNAVAILABLE, "it is ending")],
)
def test_a_retry_that_takes_long_is_logged_with_its_reason_and_its_end(
    clock: Clock, caplog: pytest.LogCaptureFixture, failure: Response | NoReply, words: str
) -> None:
    link = Link(clock, *[failure] * 6, ENDED)
    link.run(requests.compute("1+2", None), known())
    (text,) = logged(caplog)
    assert text.startswith("retrying for up to 2")
    assert words in text


def test_a_retry_that_goes_on_is_logged_now_and_then(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    contact = known()
    for _ in range(2):
        with pytest.raises(dte.Unreachable):
            Link(clock, REFUSED).run(requests.jobs(), contact)
    assert 4 <= len(logged(caplog)) <= 7


def test_a_retry_that_is_soon_over_is_not_logged(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    Link(clock, REFUSED, REFUSED, REFUSED, ENDED).run(requests.compute("1+2", None), known())
    with pytest.raises(dte.Unreachable):
        Link(clock, REFUSED).run(requests.jobs(), Contact())
    assert logged(caplog) == []
