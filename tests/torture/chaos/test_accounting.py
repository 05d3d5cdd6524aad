"""The accounting finds what went wrong, and only that."""

from __future__ import annotations

import pytest
from harness.workloads import ZERO, Formula
from torture.chaos.accounting import Anomaly, Ledger
from torture.chaos.formulas import HostileFormula
from torture.chaos.outcome import Outcome

SUM = Formula("1+2", 3)
QUOTIENT = Formula("6/2", 3.0)
FAILURE = Formula("5/0", reason=ZERO)
BAD = Formula("1+*2", bad=True)
HOSTILE = HostileFormula("1+misbehave(2)", raises=True)


def found(ledger: Ledger) -> dict[str, int]:
    """The number of anomalies, by kind."""
    return {kind.value: len(each) for kind, each in ledger.anomalies.items() if each}


@pytest.fixture
def ledger() -> Ledger:
    """A ledger in which two formulas were acknowledged, and one of them was seen to end."""
    ledger = Ledger()
    for job, formula in enumerate((SUM, QUOTIENT), 1):
        ledger.submitted(formula)
        ledger.acknowledged(formula, job)
    ledger.observed(1, None, asked_at=1.0, now=2.0)
    ledger.observed(1, Outcome.of_answer(3), asked_at=3.0, now=4.0)
    return ledger


JOURNAL = {1: "1+2", 2: "6/2"}
STANDING: dict[int, Outcome | None] = {1: Outcome.of_answer(3), 2: Outcome.of_answer(3.0)}


def test_nothing_is_found_where_all_is_well(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.answered(FAILURE, Outcome.of_error("division by zero: 5 / 0"))
    ledger.submitted(BAD)
    ledger.refused(BAD)
    standing = STANDING | {3: Outcome.of_error("division by zero: 5 / 0")}
    assert ledger.verdict(JOURNAL | {3: "5/0"}, standing) == {"accepted_untold": 0, "neither": 0}
    assert found(ledger) == {}
    assert ledger.counts() == {
        "submitted": 4,
        "acknowledged": 3,
        "answered": 2,
        "hostile": 0,
        "refused": 1,
    }


def test_what_nobody_was_told_of_may_be_there_or_not(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.submitted(Formula("7", 7))
    standing = STANDING | {3: Outcome.of_error("division by zero: 5 / 0")}
    assert ledger.verdict(JOURNAL | {3: "5/0"}, standing) == {"accepted_untold": 1, "neither": 1}
    assert found(ledger) == {}


def test_an_acknowledged_job_that_is_not_on_disk_is_lost(ledger: Ledger) -> None:
    ledger.verdict({1: "1+2"}, {1: Outcome.of_answer(3)})
    assert found(ledger) == {"lost": 1}


def test_an_acknowledged_job_that_the_last_master_does_not_know_is_lost(ledger: Ledger) -> None:
    ledger.verdict(JOURNAL, {1: Outcome.of_answer(3)})
    assert found(ledger) == {"lost": 1}


def test_an_acknowledged_job_that_never_ends_is_lost(ledger: Ledger) -> None:
    ledger.verdict(JOURNAL, STANDING | {2: None})
    assert found(ledger) == {"lost": 1}


def test_an_acknowledged_job_that_some_master_does_not_know_is_lost(ledger: Ledger) -> None:
    ledger.unknown(2)
    ledger.verdict(JOURNAL, STANDING)
    assert found(ledger) == {"lost": 1}


def test_an_answer_without_a_job_on_disk_is_lost(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.answered(FAILURE, Outcome.of_error("division by zero"))
    ledger.verdict(JOURNAL, STANDING)
    assert found(ledger) == {"lost": 1}


def test_a_job_id_that_is_given_to_two_formulas_loses_one(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.acknowledged(FAILURE, 2)
    assert found(ledger) == {"lost": 1}


def test_a_job_that_is_another_formula_on_disk_is_lost(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.verdict({1: "1+2", 2: "5/0"}, {1: Outcome.of_answer(3), 2: Outcome.of_error("division")})
    assert "lost" in found(ledger)


def test_a_formula_that_is_two_jobs_on_disk_is_doubled(ledger: Ledger) -> None:
    ledger.verdict(JOURNAL | {3: "1+2"}, STANDING | {3: Outcome.of_answer(3)})
    assert found(ledger) == {"doubled": 1}


def test_a_formula_that_is_acknowledged_with_two_ids_is_doubled(ledger: Ledger) -> None:
    ledger.acknowledged(SUM, 3)
    assert found(ledger) == {"doubled": 1}


def test_a_repeat_that_gives_the_same_id_is_not_doubled(ledger: Ledger) -> None:
    ledger.acknowledged(SUM, 1)
    ledger.verdict(JOURNAL, STANDING)
    assert found(ledger) == {}


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.of_answer(4),
        Outcome.of_answer(3.0),
        Outcome.of_answer("3"),
        Outcome.of_answer(None),
        Outcome.of_error("gave up after 5 unusable replies"),
    ],
)
def test_another_outcome_than_pythons_is_wrong(outcome: Outcome) -> None:
    ledger = Ledger()
    ledger.submitted(SUM)
    ledger.acknowledged(SUM, 1)
    ledger.observed(1, outcome, asked_at=1.0, now=2.0)
    ledger.verdict({1: "1+2"}, {1: outcome})
    assert found(ledger) == {"wrong": 1}


@pytest.mark.parametrize("outcome", [Outcome.of_answer(1), Outcome.of_error("overflow")])
def test_a_failure_that_is_another_than_pythons_is_wrong(outcome: Outcome) -> None:
    ledger = Ledger()
    ledger.submitted(FAILURE)
    ledger.answered(FAILURE, outcome)
    assert found(ledger) == {"wrong": 1}


@pytest.mark.parametrize("text", ["misbehave@2: ValueError: " + "x" * 2000, "x"])
def test_a_hostile_call_may_end_with_any_error_of_its_own(text: str) -> None:
    ledger = Ledger()
    ledger.submitted(HOSTILE)
    ledger.answered(HOSTILE, Outcome.of_error(text))
    assert found(ledger) == {}
    assert ledger.counts()["hostile"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "misbehave@2: ValueError: " + "x" * 2100,
        "misbehave@2: ValueError: two\nlines",
        "misbehave@2: the handler's process ended with exit code 15",
        "",
    ],
    ids=["long", "two lines", "the process ended", "empty"],
)
def test_an_error_of_a_hostile_call_that_is_not_bounded_or_its_own_is_wrong(text: str) -> None:
    ledger = Ledger()
    ledger.submitted(HOSTILE)
    ledger.answered(HOSTILE, Outcome.of_error(text))
    assert found(ledger) == {"wrong": 1}


def test_a_hostile_call_that_raises_and_has_an_answer_is_wrong() -> None:
    ledger = Ledger()
    ledger.submitted(HOSTILE)
    ledger.answered(HOSTILE, Outcome.of_answer(1))
    assert found(ledger) == {"wrong": 1}


def test_a_wrong_outcome_that_no_client_was_told_is_found_at_the_end(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.verdict(JOURNAL | {3: "5/0"}, STANDING | {3: Outcome.of_answer(5)})
    assert found(ledger) == {"wrong": 1}


def test_a_job_that_nobody_submitted_is_wrong(ledger: Ledger) -> None:
    ledger.verdict(JOURNAL | {3: "9+9"}, STANDING | {3: Outcome.of_answer(18)})
    assert found(ledger) == {"wrong": 1}


def test_a_syntax_error_that_is_accepted_is_wrong(ledger: Ledger) -> None:
    ledger.submitted(BAD)
    ledger.acknowledged(BAD, 3)
    ledger.verdict(JOURNAL | {3: "1+*2"}, STANDING | {3: Outcome.of_answer(3)})
    assert found(ledger) == {"wrong": 1}


def test_a_formula_that_is_refused_is_wrong(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.refused(FAILURE)
    assert found(ledger) == {"wrong": 1}


def test_an_outcome_that_changes_is_found(ledger: Ledger) -> None:
    ledger.submitted(FAILURE)
    ledger.acknowledged(FAILURE, 3)
    ledger.observed(3, Outcome.of_error("division by zero: 5 / 0"), asked_at=1.0, now=2.0)
    ledger.observed(3, Outcome.of_error("division by zero: 6 / 0"), asked_at=3.0, now=4.0)
    assert found(ledger) == {"changed": 1}


def test_an_outcome_that_is_another_at_the_end_is_found() -> None:
    ledger = Ledger()
    ledger.submitted(FAILURE)
    ledger.answered(FAILURE, Outcome.of_error("division by zero: 5 / 0"))
    ledger.verdict({1: "5/0"}, {1: Outcome.of_error("division by zero: 6 / 0")})
    assert found(ledger) == {"changed": 1}


def test_a_job_that_had_ended_and_has_not_later_is_found(ledger: Ledger) -> None:
    ledger.observed(1, None, asked_at=5.0, now=6.0)
    assert found(ledger) == {"changed": 1}


def test_a_reply_that_was_asked_for_before_the_end_may_not_know_it(ledger: Ledger) -> None:
    ledger.observed(1, None, asked_at=3.5, now=6.0)
    ledger.verdict(JOURNAL, STANDING)
    assert found(ledger) == {}


def test_each_anomaly_of_a_job_is_told_once(ledger: Ledger) -> None:
    ledger.observed(1, None, asked_at=5.0, now=6.0)
    ledger.observed(1, None, asked_at=7.0, now=8.0)
    assert len(ledger.anomalies[Anomaly.CHANGED]) == 1
