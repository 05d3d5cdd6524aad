from itertools import product

import pytest

from core.checked import parsed
from dte.core.jobs.job import TASK_CHARS_KEPT, TERMINAL, Job, JobState, kept_task

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
