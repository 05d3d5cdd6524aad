from dte.core.formula import FormulaLimits, parse
from dte.core.job import TASK_CHARS_KEPT, Job, kept_task


def make_job(text: str) -> Job:
    graph = parse(text, FormulaLimits()).graph
    return Job(1, text, 0.0, graph.remaining, graph)


def test_progress_counts_operations_done() -> None:
    job = make_job("(1+2)*(3+4)")
    assert (job.progress, job.operations, job.finished) == (0, 3, False)
    assert job.graph is not None
    job.graph.done(job.graph.take(2), [7, 3])
    assert job.progress == 2


def test_progress_of_an_ended_job_is_what_it_was() -> None:
    job = make_job("1+2")
    job.graph, job.operations_done = None, 1
    assert (job.progress, job.finished) == (1, True)


def test_the_text_of_a_long_formula_is_cut() -> None:
    assert kept_task("1+2") == "1+2"
    assert kept_task("1" * TASK_CHARS_KEPT) == "1" * TASK_CHARS_KEPT
    assert kept_task("1" * (TASK_CHARS_KEPT + 1)) == "1" * TASK_CHARS_KEPT + "…"
