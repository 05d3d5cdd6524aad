from itertools import product

import pytest

from core.checked import parsed
from core.plans import built, call
from dte.core.graph.call import Ref
from dte.core.graph.calls import CallGraph
from dte.core.jobs.job import (
    CALL_BYTES,
    EDGES_KEPT,
    PLAN_BYTES_KEPT,
    TASK_CHARS_KEPT,
    TERMINAL,
    Job,
    JobState,
    forget_large_plan,
    kept_bytes,
    kept_task,
)

ACCEPTING, WAITING, RUNNING, CANCELLING, ENDING, SUCCEEDED, FAILED, TIMED_OUT, CANCELLED = JobState
WAYS = {
    (ACCEPTING, WAITING),
    (WAITING, RUNNING),
    (WAITING, CANCELLING),
    (WAITING, ENDING),
    (RUNNING, CANCELLING),
    (RUNNING, ENDING),
    (CANCELLING, ENDING),
    (ENDING, SUCCEEDED),
    (ENDING, FAILED),
    (ENDING, TIMED_OUT),
    (ENDING, CANCELLED),
}


def make_job(text: str, state: JobState = ACCEPTING) -> Job:
    graph = parsed(text)[0].work.graph
    return Job(1, text, 0.0, graph.remaining, graph, state)


@pytest.mark.parametrize(("state", "following"), list(product(JobState, repeat=2)))
def test_a_state_follows_only_from_those_before_it(state, following) -> None:
    job = make_job("1+2", state)
    if (state, following) in WAYS:
        job.enter(following)
        assert job.state is following
    else:
        with pytest.raises(ValueError, match=f"job 1 is {state.value} and cannot become"):
            job.enter(following)
        assert job.state is state, "an illegal change changes nothing"


def test_a_new_job_is_not_accepted_yet() -> None:
    graph = parsed("1+2")[0].work.graph
    assert Job(1, "1+2", 0.0, 1, graph).state is ACCEPTING


@pytest.mark.parametrize("state", JobState)
def test_a_job_is_finished_when_its_end_is_recorded(state) -> None:
    ends = (SUCCEEDED, FAILED, TIMED_OUT, CANCELLED)
    assert make_job("1+2", state).is_terminal == (state in TERMINAL) == (state in ends)


def test_progress_counts_operations_done() -> None:
    job = make_job("(1+2)*(3+4)")
    assert (job.progress, job.operations) == (0, 3)
    assert job.graph is not None
    job.graph.done(job.graph.take(2), [7, 3])
    assert job.progress == 2


def test_progress_of_an_ended_job_is_what_it_was() -> None:
    job = make_job("1+2", ENDING)
    job.graph, job.operations_done = None, 1
    assert job.progress == 1


def test_jobs_are_told_apart_however_alike() -> None:
    assert make_job("1+2") != make_job("1+2")


def test_the_text_of_a_long_formula_is_cut() -> None:
    assert kept_task("1+2") == "1+2"
    assert kept_task("1" * TASK_CHARS_KEPT) == "1" * TASK_CHARS_KEPT
    assert kept_task("1" * (TASK_CHARS_KEPT + 1)) == "1" * TASK_CHARS_KEPT + "…"


def ended_job(calls: CallGraph | None, size: int = 0, plan: str | None = "{}") -> Job:
    return Job(1, "f", 0.0, 1, None, SUCCEEDED, calls=calls, size=size, plan=plan)


def test_an_ended_job_counts_its_plan_its_calls_their_results_and_its_answer() -> None:
    least = kept_bytes(ended_job(None, plan=None))
    assert kept_bytes(ended_job(None, plan="x" * 1_000)) == least + 1_000
    job = ended_job(built({"a": call("f"), "b": call("f", Ref("a"))}), size=5_000)
    assert kept_bytes(job) == least + 5_000 + 2 * CALL_BYTES
    job.answer, job.trace = b"1" * 700, "t" * 30
    assert kept_bytes(job) == least + 5_000 + 2 * CALL_BYTES + 730


GRAPH = {"a": call("f"), "b": call("f", Ref("a"))}


@pytest.mark.parametrize(
    ("calls", "size", "forgotten"),
    [
        (built(GRAPH), PLAN_BYTES_KEPT, True),
        (built(GRAPH), PLAN_BYTES_KEPT // 2, False),
        (built({f"n{number}": call("f") for number in range(2_000)}), 100, True),
        (built({"call": call("f")}), PLAN_BYTES_KEPT, False),
    ],
    ids=["large", "small", "many calls", "one call, which may be a task"],
)
def test_a_large_graph_is_forgotten_if_the_journal_has_it(calls, size, forgotten) -> None:
    job = ended_job(calls, size)
    assert forget_large_plan(job, is_recorded=False) is None
    assert job.calls is calls
    assert (forget_large_plan(job, is_recorded=True) is calls) == forgotten
    assert (job.calls is None, job.plan is None) == (forgotten, forgotten)


def test_the_calls_of_a_formula_stay_as_the_journal_has_only_its_beginning() -> None:
    job = ended_job(built(GRAPH), PLAN_BYTES_KEPT, plan=None)
    assert forget_large_plan(job, is_recorded=True) is None
    assert job.calls is not None


def test_a_long_formula_with_options_is_forgotten_if_the_journal_has_it() -> None:
    job = ended_job(None, plan="1" * (PLAN_BYTES_KEPT + 1))
    forget_large_plan(job, is_recorded=False)
    assert job.plan is not None
    forget_large_plan(job, is_recorded=True)
    assert job.plan is None


def test_many_edges_of_an_ended_job_are_freed_in_any_case() -> None:
    names = [f"n{number}" for number in range(100)]
    graph = built({name: call("f", after=names[:at]) for at, name in enumerate(names)})
    assert graph.edges > EDGES_KEPT
    job = ended_job(graph, plan=None)
    assert forget_large_plan(job, is_recorded=False) is graph
    assert job.calls is graph
