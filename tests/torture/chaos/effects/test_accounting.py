"""The accounting of effects finds each kind of violation in false histories, and only that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from torture.chaos.accounting import Ledger
from torture.chaos.effects.accounting import EffectAccounts
from torture.chaos.effects.cancels import check_cancels
from torture.chaos.effects.clock import ClockHistory
from torture.chaos.effects.holds import SUCCEEDED, Hold, Holds
from torture.chaos.effects.jobs import AGAIN, CANCELLED, EffectJob, Node, values_of
from torture.chaos.effects.marks import Mark, What
from torture.chaos.effects.story import Story
from torture.chaos.harms import MASTER, Harms, Kind
from torture.chaos.outcome import Outcome
from torture.chaos.tap import Exchange

NODES = {"a": Node("mark", 0.1, 1), "b": Node("mark", 0.1, 2, ("a",))}
NOON = 1_000_000.0
PID = 99


def job_of(nodes: Mapping[str, Node], text: str = "effect-1") -> EffectJob:
    return EffectJob(text, values_of(nodes)[[*nodes][-1]], nodes=nodes, cancels=True)


@dataclass
class History:
    """A job of two calls, the second of which adds to the first, done by two workers."""

    nodes: Mapping[str, Node] = field(default_factory=lambda: NODES)
    marks: list[Mark] = field(default_factory=list)
    holds: Holds = field(default_factory=lambda: Holds({name: name for name in ("w1", "w2")}))
    harms: Harms = field(default_factory=Harms)
    clock: ClockHistory = field(default_factory=lambda: ClockHistory(NOON, 0.0))
    attempts: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        self.story = Story(job_of(self.nodes), asked_at=1.0, number=5)
        self.stories = [self.story]

    def hand(self, lease: int, node: str, worker: str, at: float, job: int = 5) -> Hold:
        """A call is handed over."""
        calls = [{"lease": lease, "job_id": job, "node": node}]
        body = json.dumps({"calls": calls}).encode()
        self.holds.listen(Exchange(worker, "/compute", body, at, at))
        return self.holds.by_lease[lease]

    def mark(self, lease: int, node: str, what: What, at: float, worker: str = "w1") -> None:
        """A call leaves a mark."""
        self.marks.append(Mark(f"effect-1/{node}", what, at, lease, worker, PID))

    def do(
        self, lease: int, node: str, at: float, worker: str = "w1", said: str = SUCCEEDED
    ) -> Hold:
        """A call is handed over, done in a second, and its end is acknowledged."""
        hold = self.hand(lease, node, worker, at)
        self.mark(lease, node, What.BEGUN, at + 0.1, worker)
        self.mark(lease, node, What.ENDED if said == SUCCEEDED else What.RAISED, at + 1.1, worker)
        hold.said, hold.accepted_at = said, at + 1.2
        self.attempts[node] = self.attempts.get(node, 0) + 1
        self.states[node] = said
        return hold

    def found(self) -> dict[str, int]:
        """The number of anomalies, by kind."""
        told: dict[str, Mapping[str, Any]] = {
            node: {"attempts": number, "state": self.states.get(node, SUCCEEDED)}
            for node, number in self.attempts.items()
        }
        self.accounts = EffectAccounts(
            self.ledger.found,
            self.marks,
            self.holds,
            self.harms,
            self.clock,
            {story.number: told for story in self.stories if story.job.name == "effect-1"},
            lease_s=2.0,
        )
        self.accounts.verdict(self.stories)
        return {kind.value: len(each) for kind, each in self.ledger.anomalies.items() if each}


@pytest.fixture
def history() -> History:
    """Both calls are done, one after the other."""
    history = History()
    history.do(1, "a", 10.0)
    history.do(2, "b", 12.0, "w2")
    return history


def test_nothing_is_found_where_all_is_well(history: History) -> None:
    assert history.found() == {}
    assert history.accounts.counts() == {
        "effects_begun": 2,
        "effects_ended": 2,
        "effects_acknowledged": 2,
        "begun_again": 0,
    }


def test_a_call_that_is_begun_again_for_no_reason_is_repeated() -> None:
    history = History()
    history.hand(1, "a", "w1", 10.0)
    history.mark(1, "a", What.BEGUN, 10.1)
    history.do(2, "a", 14.0, "w2")
    history.attempts["a"] = 2
    assert history.found() == {"repeated": 1}


def test_a_lost_call_that_begins_late_is_not_taken_for_another() -> None:
    history = History()
    history.hand(1, "a", "w1", 10.0)
    history.harms.over(history.harms.begin(Kind.STOPPED, "w1", 10.0), 15.0)
    history.do(2, "a", 14.0, "w2")
    history.mark(1, "a", What.BEGUN, 15.1)
    history.attempts["a"] = 2
    assert history.found() == {}
    assert history.accounts.causes == {"worker silent": 1}


def test_a_call_whose_worker_was_killed_may_be_begun_again() -> None:
    history = History()
    history.hand(1, "a", "w1", 10.0)
    history.mark(1, "a", What.BEGUN, 10.1)
    history.harms.begin(Kind.KILLED, "w1", 11.0)
    history.do(2, "a", 14.0, "w2")
    history.attempts["a"] = 2
    assert history.found() == {}
    assert history.accounts.causes == {"worker lost": 1}


def test_a_pause_of_the_master_is_no_reason() -> None:
    history = History()
    history.hand(1, "a", "w1", 10.0)
    history.mark(1, "a", What.BEGUN, 10.1)
    history.harms.over(history.harms.begin(Kind.STOPPED, MASTER, 10.5), 20.0)
    history.do(2, "a", 20.1, "w2")
    history.attempts["a"] = 2
    assert history.found() == {"repeated": 1}


def test_a_call_that_is_begun_after_its_end_was_acknowledged_is_repeated(history: History) -> None:
    history.harms.begin(Kind.KILLED, "w1", 11.0)
    history.do(3, "a", 20.0, "w2")
    history.attempts["a"] = 2
    assert history.found()["repeated"] >= 1


def test_a_call_that_is_begun_twice_under_one_lease_is_repeated(history: History) -> None:
    history.mark(2, "b", What.BEGUN, 12.5, "w2")
    history.attempts["b"] = 2
    assert history.found() == {"repeated": 1}


def test_a_call_that_nobody_handed_over_is_repeated(history: History) -> None:
    history.mark(3, "b", What.BEGUN, 12.5, "w3")
    history.attempts["b"] = 2
    assert history.found() == {"repeated": 1}


@pytest.mark.parametrize(("retries", "found"), [(1, {}), (0, {"repeated": 1})])
def test_a_call_that_fails_is_begun_again_as_often_as_it_may_be_retried(
    retries: int, found: dict[str, int]
) -> None:
    history = History({"a": Node("mark", 0.1, 1, fails=1, retries=retries)})
    history.do(1, "a", 10.0, said="failed")
    history.do(2, "a", 20.0)
    assert history.found() == found


def test_a_job_that_is_run_again_does_only_what_was_not_done(history: History) -> None:
    again = Story(job_of(NODES, "effect-1" + AGAIN), 20.0, 6, first=history.story)
    history.stories.append(again)
    history.hand(3, "b", "w1", 21.0, job=6)
    history.mark(3, "b", What.BEGUN, 21.1)
    history.mark(3, "b", What.ENDED, 22.1)
    assert history.found() == {"repeated": 1}, "its end was acknowledged in the first job"
    other = History()
    other.do(1, "a", 10.0)
    other.stories.append(Story(again.job, 20.0, 6, first=other.story))
    other.hand(3, "b", "w1", 21.0, job=6)
    other.mark(3, "b", What.BEGUN, 21.1)
    other.mark(3, "b", What.ENDED, 22.1)
    assert other.found() == {}


def test_a_call_that_is_begun_before_its_operand_has_ended_is_early() -> None:
    history = History()
    history.do(1, "a", 10.0)
    history.do(2, "b", 10.5, "w2")
    assert history.found() == {"early": 1}


def test_an_operand_that_is_handed_over_after_its_reader_has_begun_is_early(
    history: History,
) -> None:
    history.hand(3, "a", "w2", 12.5)
    assert history.found() == {"early": 1}


@pytest.mark.parametrize(("at", "found"), [(15.0, {"early": 2}), (9.0, {})])
def test_a_job_that_begins_before_the_one_that_it_waits_for_has_ended_is_early(
    history: History, at: float, found: dict[str, int]
) -> None:
    other = EffectJob("effect-2", 1, nodes={"a": Node("mark", 0.1, 1)})
    history.stories.append(Story(other, 1.0, number=4))
    history.story.job = dataclasses.replace(history.story.job, after=4)
    awaited = history.hand(0, "a", "w2", 8.0, job=4)
    awaited.said, awaited.accepted_at = SUCCEEDED, at
    assert history.found() == found


def test_a_call_that_runs_regardless_may_follow_a_failure() -> None:
    nodes = {"a": Node("mark", 0.1, 1, fails=9), "b": Node("mark", 0.1, 2, (), ("a",), True)}
    history = History(nodes)
    history.do(1, "a", 10.0, said="failed")
    history.do(2, "b", 12.0)
    assert history.found() == {}


def delayed(at: float) -> History:
    """A call with a delay of ten seconds, asked for at 1 and begun at a moment."""
    history = History({"a": Node("mark", 0.1, 1, delay_s=10.0)})
    history.do(1, "a", at)
    return history


def test_a_call_that_is_begun_before_its_delay_is_over_is_early() -> None:
    assert delayed(10.5).found() == {"early": 1}
    assert delayed(11.0).found() == {}


def test_the_clock_counts_for_a_delay_only_while_the_master_is_away() -> None:
    history = delayed(8.0)
    history.clock.set(3600.0, now=3.0)
    assert history.found() == {"early": 1}
    history = delayed(8.0)
    history.clock.set(3600.0, now=3.0)
    history.harms.over(history.harms.begin(Kind.KILLED, MASTER, 4.0), 5.0)
    assert history.found() == {}


def test_a_call_that_is_begun_before_its_moment_is_early() -> None:
    nodes = {"a": Node("mark", 0.1, 1, not_before=NOON + 20)}
    history = History(nodes)
    history.do(1, "a", 10.0)
    assert history.found() == {"early": 1}
    history = History(nodes)
    history.clock.set(60.0, now=5.0)
    history.clock.set(0.0, now=6.0)
    history.do(1, "a", 10.0)
    assert history.found() == {}


def test_a_call_that_is_handed_over_after_a_confirmed_cancel_is_found(history: History) -> None:
    history.story.cancelled_at = 11.4
    assert history.found() == {"cancelled": 1}


def test_a_call_whose_worker_is_reached_late_may_be_handed_over_after_a_cancel(
    history: History,
) -> None:
    history.story.cancelled_at = 11.4
    history.harms.over(history.harms.begin(Kind.SLOW, "w2", 11.0), 12.0)
    assert history.found() == {}


def test_a_call_that_was_on_its_way_when_the_cancel_was_confirmed_may_begin() -> None:
    history = History()
    history.story.cancelled_at = 10.05
    history.do(1, "a", 10.0)
    assert history.found() == {}


def test_a_call_that_begins_after_its_job_has_ended_as_cancelled_is_found() -> None:
    history = History()
    history.story.cancelled_at = history.story.gone_at = 10.05
    history.do(1, "a", 10.0)
    assert history.found() == {"cancelled": 1}
    history = History()
    history.story.cancelled_at = history.story.gone_at = 10.05
    history.harms.over(history.harms.begin(Kind.CUT, "w1", 9.5), 10.02)
    history.do(1, "a", 10.0)
    assert history.found() == {}, "nobody could tell its worker"


def test_a_call_that_was_begun_more_often_than_it_has_attempts_is_found(history: History) -> None:
    history.attempts["b"] = 0
    assert history.found() == {"uncounted": 1}


def test_a_call_that_has_succeeded_and_was_never_done_is_found(history: History) -> None:
    history.marks = [mark for mark in history.marks if mark.call != "effect-1/b"]
    assert history.found() == {"wrong": 1}


@pytest.mark.parametrize(
    ("outcome", "found"),
    [(Outcome.of_error(CANCELLED), 0), (Outcome.of_answer(3), 1), (None, 1)],
)
def test_a_confirmed_cancel_that_was_not_kept_is_found(outcome: Outcome | None, found: int) -> None:
    ledger = Ledger()
    story = Story(job_of(NODES), 1.0, 5, cancelled_at=2.0)
    others: Sequence[Story] = [story, Story(job_of(NODES), 1.0, 6)]
    assert check_cancels(ledger.found, others, {5: outcome}) == 1
    assert sum(map(len, ledger.anomalies.values())) == found
