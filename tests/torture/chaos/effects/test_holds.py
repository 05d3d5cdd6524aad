"""Holds follow from what passes between master and workers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torture.chaos.effects.holds import SUCCEEDED, Holds
from torture.chaos.tap import Exchange

LINKS = {"master to w1": "w1", "w2 to master": "w2"}
CALL = {"lease": 7, "job_id": 3, "node": "a", "handler": "mark", "args": []}


@pytest.fixture
def holds() -> Holds:
    """A call was handed over to a worker."""
    holds = Holds(LINKS)
    holds.listen(asked("master to w1", "/compute", {"calls": [CALL]}, 1.0))
    return holds


def asked(link: str, path: str, body: Any, at: float) -> Exchange:
    return Exchange(link, path, json.dumps(body).encode(), at, at + 0.1)


def answered(link: str, path: str, body: Any, reply: Any, at: float, status: int = 200) -> Exchange:
    whole = asked(link, path, body, at)
    content = json.dumps(reply).encode()
    return Exchange(link, path, whole.body, whole.asked_at, at + 1, status, content)


def test_a_call_that_is_handed_over_is_held_from_the_request_on(holds: Holds) -> None:
    (hold,) = holds.of(3, "a")
    assert (hold.lease, hold.worker, hold.at) == (7, "w1", 1.0)
    assert holds.of(3, "b") == []


def test_arithmetic_is_not_held() -> None:
    holds = Holds(LINKS)
    batch = {"lease": 7, "operations": "+", "op1": [1], "op2": [2]}
    holds.listen(asked("master to w1", "/compute", batch, 1.0))
    assert holds.by_lease == {}


def test_a_claim_is_held_from_its_answer_on() -> None:
    holds = Holds(LINKS)
    claim = {"worker": "w2"}
    holds.listen(asked("w2 to master", "/claim", claim, 1.0))
    assert holds.by_lease == {}
    reply = {"calls": [CALL], "batches": []}
    holds.listen(answered("w2 to master", "/claim", claim, reply, 1.0))
    assert (holds.by_lease[7].worker, holds.by_lease[7].at) == ("w2", 2.0)


def test_a_lease_that_goes_on_was_renewed(holds: Holds) -> None:
    body = {"worker": "w1", "leases": [7, 8]}
    reply = {"extended": [], "lost": [8], "stop": [7], "lease_s": 2.0}
    holds.listen(answered("w2 to master", "/extend", body, reply, 4.0))
    assert holds.by_lease[7].renewed == [5.0]


def test_a_lease_is_lost_from_the_first_reply_on_that_says_so(holds: Holds) -> None:
    body = {"worker": "w1", "leases": [7]}
    reply = {"extended": [], "lost": [7], "stop": [], "lease_s": 2.0}
    holds.listen(answered("w2 to master", "/extend", body, reply, 4.0))
    holds.listen(answered("w2 to master", "/extend", body, reply, 6.0))
    assert holds.by_lease[7].lost_at == 5.0


def test_a_lease_whose_report_is_stale_is_lost(holds: Holds) -> None:
    body = {"worker": "w1", "results": [{"lease": 7, "result": 1}]}
    holds.listen(answered("w2 to master", "/result", body, {"accepted": [], "stale": [7]}, 4.0))
    assert holds.by_lease[7].lost_at == 5.0


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"result": 5}, SUCCEEDED),
        ({"error": "no"}, "failed"),
        ({"error": "gone", "state": "returned", "begun": True}, "returned"),
    ],
)
def test_a_report_that_is_accepted_is_acknowledged(
    holds: Holds, report: dict[str, Any], said: str
) -> None:
    body = {"worker": "w1", "results": [{"lease": 7} | report]}
    holds.listen(asked("w2 to master", "/result", body, 4.0))
    assert holds.by_lease[7].accepted_at is None
    holds.listen(answered("w2 to master", "/result", body, {"accepted": [7], "stale": []}, 4.0))
    assert holds.by_lease[7].said == said
    assert holds.by_lease[7].accepted_at == 5.0


@pytest.mark.parametrize(("status", "accepted"), [(200, []), (503, [7])])
def test_a_report_that_is_stale_or_refused_is_not(
    holds: Holds, status: int, accepted: list[int]
) -> None:
    body = {"worker": "w1", "results": [{"lease": 7, "result": 1}]}
    reply = {"accepted": accepted, "stale": []}
    holds.listen(answered("w2 to master", "/result", body, reply, 4.0, status))
    assert holds.by_lease[7].accepted_at is None
