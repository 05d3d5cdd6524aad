"""Protects: what cannot be recorded costs its own job alone."""

from __future__ import annotations

from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import Call, CallState
from dte.core.graph.calls import CallGraph
from dte.core.jobs.facts import Cancel, End, Facts, Step, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.refusals import cut_down, together, without

REASON = "it cannot be recorded: too big"


def job_of(*calls: Call) -> Job:
    job = Job(1, "job", 0.0, len(calls), Graph())
    job.calls = CallGraph()
    job.calls.calls = {call.name: call for call in calls}
    return job


def ended(name: str, *, pure: bool = False) -> Call:
    call = Call(name, "f", [], pure=pure)
    call.conclude(2.0, CallState.SUCCEEDED, b'"long"')
    return call


def lists(facts: Facts) -> tuple[list[object], ...]:
    return [*facts.submissions], [*facts.steps], [*facts.ends], [*facts.cancels]


def test_facts_that_were_tried_one_by_one_are_put_together_again() -> None:
    job = job_of()
    facts = Facts(
        [Submission([job], [""]) for _ in range(2)],
        [End(job, 1.0) for _ in range(3)],
        [],
        [Cancel(job, 1.0)],
    )
    first, *others = facts.parts(1)
    assert len(others) == 5
    assert lists(together([first, *others])) == lists(facts)
    assert lists(without(facts, first)) == lists(together(others))
    assert not without(facts, facts)


def test_a_result_that_is_refused_becomes_a_failure_of_its_call() -> None:
    call = ended("a")
    call.state = CallState.ENDING
    step = Step(call, call.record.copy())
    assert not cut_down(Facts([], [], [step]), REASON)
    for record in (step.record, call.record):
        assert (record.state, record.value, record.error) == (CallState.FAILED, None, REASON)
    again = cut_down(Facts([], [], [step]), REASON)
    assert again.steps == [step], "there is nothing more to leave out"


def test_a_trace_that_is_refused_is_left_out_and_the_call_goes_on() -> None:
    call = Call("a", "f", [])
    call.record.error, call.record.trace = "broke", "long"
    step = Step(call, call.record.copy())
    assert not cut_down(Facts([], [], [step]), REASON)
    assert (step.record.state, step.record.trace) == (None, None)
    assert call.record.error == "broke"


def test_a_hand_over_has_nothing_to_leave_out() -> None:
    step = Step(Call("a", "f", []), Call("a", "f", []).record)
    step.record.lease = 7
    assert cut_down(Facts([], [], [step]), REASON).steps == [step]
    cancel = Cancel(job_of(), 1.0)
    assert cut_down(Facts([], [], [], [cancel]), REASON).cancels == [cancel]


def test_what_can_be_cut_down_is_told_from_what_cannot() -> None:
    stuck, long = End(job_of(), 2.0, error=REASON), End(job_of(), 2.0, b'"long"')
    assert cut_down(Facts([Submission([], [])], [stuck, long]), REASON).ends == [stuck]
    assert (long.state, long.answer) == (JobState.FAILED, None)


def test_an_answer_that_is_refused_fails_the_job_with_the_calls_that_end_with_it() -> None:
    before, pure, last = ended("before"), ended("pure", pure=True), ended("last")
    before.recorded = True
    for call in (before, pure, last):
        call.finish()
    job = job_of(before, pure, last)
    assert job.calls is not None
    job.calls.succeeded = job.operations_done = 3
    end = End(job, 2.0, b'"long"')
    assert not cut_down(Facts([], [end]), REASON)
    assert (end.state, end.answer, end.error) == (JobState.FAILED, None, REASON)
    assert (last.record.state, last.record.value) == (CallState.FAILED, None)
    assert last.state is CallState.FAILED, "as after a restart"
    assert (job.calls.succeeded, job.progress) == (2, 2)
    assert (before.state, pure.state) == (CallState.SUCCEEDED, CallState.SUCCEEDED)
    assert before.record.value == b'"long"', "it is recorded already"
    assert pure.recorded, "no row is written for it, so a retry makes it again"
    assert cut_down(Facts([], [end]), REASON).ends == [end]


def test_a_cancelled_job_stays_cancelled() -> None:
    end = End(job_of(ended("a")), 2.0, None, "cancelled", JobState.CANCELLED)
    assert not cut_down(Facts([], [end]), REASON)
    assert end.state is JobState.CANCELLED
