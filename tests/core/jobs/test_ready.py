from dte.core.formula.formula import FormulaLimits, parse
from dte.core.jobs.job import Job
from dte.core.jobs.ready import ReadySet


def add(ready: ReadySet, number: int, operations: int) -> Job:
    """A job with that many operations that are ready at once."""
    products = "+".join(f"{n}*{n + 1}" for n in range(1, operations + 1))
    graph = parse(products, FormulaLimits()).graph
    job = Job(number, products, 0.0, graph.remaining, graph)
    ready.add(job, len(graph.ready))
    ready.check()
    return job


def take(ready: ReadySet, count: int) -> list[tuple[int, int]]:
    """Which job gave how many."""
    taken = [(job.number, len(nodes)) for job, nodes in ready.take(count)]
    ready.check()
    return taken


def test_a_single_job_gives_all_that_is_asked_for() -> None:
    ready = ReadySet()
    add(ready, 1, 10)
    assert take(ready, 4) == [(1, 4)]
    assert take(ready, 100) == [(1, 6)]
    assert take(ready, 1) == []


def test_jobs_take_turns_in_equal_shares() -> None:
    ready = ReadySet()
    for number in (1, 2):
        add(ready, number, 100)
    assert take(ready, 20) == [(1, 10), (2, 10)]


def test_a_small_job_does_not_wait_for_a_large_one() -> None:
    ready = ReadySet()
    add(ready, 1, 1000)
    add(ready, 2, 2)
    assert take(ready, 8) == [(1, 4), (2, 2), (1, 2)]


def test_jobs_that_get_nothing_come_first_the_next_time() -> None:
    ready = ReadySet()
    for number in (1, 2, 3):
        add(ready, number, 5)
    assert [take(ready, 1) for _ in range(4)] == [[(1, 1)], [(2, 1)], [(3, 1)], [(1, 1)]]


def test_a_job_has_one_turn_however_often_it_is_added() -> None:
    ready = ReadySet()
    job = add(ready, 1, 4)
    assert job.graph is not None
    taken = job.graph.take(2)
    ready.count -= 2
    job.graph.requeue(taken)
    ready.add(job, 2)
    ready.check()
    assert take(ready, 10) == [(1, 4)]


def test_adding_nothing_gives_no_turn() -> None:
    ready = ReadySet()
    job = add(ready, 1, 1)
    take(ready, 1)
    ready.add(job, 0)
    assert not job.in_rotation


def test_what_is_dropped_is_not_given() -> None:
    ready = ReadySet()
    job = add(ready, 1, 5)
    add(ready, 2, 1)
    ready.drop(job)
    job.graph = None
    ready.drop(job)
    assert ready.count == 1
    assert take(ready, 10) == [(2, 1)]


def test_a_job_that_was_never_added_takes_nothing_with_it() -> None:
    """Such as one whose formula cannot have a value: it ends before it begins."""
    ready = ReadySet()
    add(ready, 1, 5)
    graph = parse("1e999+1", FormulaLimits()).graph
    ready.drop(Job(2, "1e999+1", 0.0, graph.remaining, graph))
    ready.check()
    assert take(ready, 10) == [(1, 5)]
