"""Webhooks that are missing, too early or untrue are found."""

from __future__ import annotations

from typing import Any

import pytest
from torture.chaos.accounting import Ledger
from torture.chaos.effects.jobs import EffectJob
from torture.chaos.effects.notices import check_notices, untold
from torture.chaos.effects.receiver import Notice
from torture.chaos.effects.story import Story
from torture.chaos.outcome import Outcome

STORIES = [
    Story(EffectJob("effect-1", 3, notify="http://receiver"), 1.0, 5),
    Story(EffectJob("effect-2", 4), 1.0, 6),
]
STANDING: dict[int, Outcome | None] = {5: Outcome.of_answer(3), 6: Outcome.of_answer(4)}


def notice(taken: bool = True, **more: Any) -> Notice:
    body = {"job_id": 5, "finished": True, "answer": 3, "error": None, "state": "succeeded"}
    return Notice(body | more, 2.0, taken)


def found(*notices: Notice) -> dict[str, int]:
    ledger = Ledger()
    check_notices(ledger.found, STORIES, notices, STANDING)
    return {kind.value: len(each) for kind, each in ledger.anomalies.items() if each}


def test_nothing_is_found_where_each_end_is_told() -> None:
    assert found(notice(taken=False), notice(), notice()) == {}
    assert untold(STORIES, [notice()]) == []


def test_an_end_that_nobody_took_is_untold() -> None:
    assert found() == {"untold": 1}
    assert found(notice(taken=False)) == {"untold": 1}
    assert untold(STORIES, [notice(taken=False)]) == [5]


def test_a_job_that_has_not_ended_is_not_told() -> None:
    early = notice(taken=False, finished=False, answer=None, state="running")
    assert found(early, notice()) == {"untold": 1}


@pytest.mark.parametrize(
    "more",
    [
        {"answer": 4},
        {"answer": None, "error": "cancelled", "state": "cancelled"},
        {"state": "failed"},
    ],
)
def test_what_is_told_is_what_stands(more: dict[str, Any]) -> None:
    assert found(notice(), notice(taken=False, **more)) == {"changed": 1}


def test_a_job_whose_end_nobody_wanted_to_be_told_is_found() -> None:
    assert found(notice(), notice(job_id=6, answer=4)) == {"unexpected": 1}
