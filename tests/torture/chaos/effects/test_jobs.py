"""Jobs with effects, and what may come of them."""

from __future__ import annotations

import json
from random import Random

import pytest
from torture.chaos.effects.handlers import ON_PURPOSE
from torture.chaos.effects.jobs import EffectJob, EffectJobs, Node, values_of

from dte.master.plans import read_plan

FAILS = Node("mark", 0.1, 1, fails=2, retries=1)
SUCCEEDS = Node("mark", 0.1, 10, fails=2, retries=2)


def test_a_result_is_the_sum_of_what_it_needs() -> None:
    nodes = {
        "a": SUCCEEDS,
        "b": Node("mark", 0.1, 100, ("a",)),
        "c": Node("mark", 0, 1, ("a", "b")),
    }
    assert values_of(nodes) == {"a": 10, "b": 110, "c": 121}


def test_what_needs_a_failed_call_is_skipped_unless_it_runs_regardless() -> None:
    nodes = {
        "a": FAILS,
        "b": Node("mark", 0.1, 10, ("a",)),
        "c": Node("mark", 0.1, 100, ("b",), ("a",), regardless=True),
    }
    assert values_of(nodes) == {"a": None, "b": None, "c": 100}


@pytest.mark.parametrize("error", [None, ON_PURPOSE, "node 'b': skipped because 'a' failed"])
def test_a_job_has_its_answer_or_its_error(error: str | None) -> None:
    well, fails = EffectJob("effect-1", 3), EffectJob("effect-2", reason=ON_PURPOSE)
    answer = "3" if error is None else "None"
    assert well.allows((answer, error)) == (error is None)
    assert fails.allows((answer, error)) == (error is not None)
    assert not well.allows(("4", None))


def test_only_a_job_that_somebody_may_cancel_ends_as_cancelled() -> None:
    assert EffectJob("effect-1", 3, cancels=True).allows(("None", "cancelled"))
    assert not EffectJob("effect-1", 3).allows(("None", "cancelled"))


def test_only_a_job_that_was_hurt_fails_by_the_end_of_a_process() -> None:
    error = "call: the handler's process was killed by SIGKILL"
    hurt = {"effect-1"}
    assert EffectJob("effect-1 again", 3, hurt=hurt).allows(("None", error))
    assert not EffectJob("effect-2", 3, hurt=hurt).allows(("None", error))


def test_jobs_of_all_shapes_are_plans_of_a_master() -> None:
    jobs = EffectJobs(Random(1), "http://receiver", set(), lambda: 1.8e9)
    made = [jobs.one([7, 8]) for _ in range(300)]
    assert len({job.text for job in made}) == 300
    fields = {field for job in made for field in job.as_json()}
    assert fields == {"graph", "answer", "notify", "after", "when"}
    terms = {field for job in made for node in job.as_json()["graph"].values() for field in node}
    assert {"after", "when", "delay", "not_before", "retries"} <= terms
    assert any(job.reason for job in made)
    assert any(job.answer is not None for job in made)
    for job in made:
        assert read_plan(json.dumps(job.as_json())).graph.keys() == job.nodes.keys()
