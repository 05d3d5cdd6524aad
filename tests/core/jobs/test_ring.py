import pytest

from dte.core.graph.arithmetic import Graph
from dte.core.jobs.job import JOB_BYTES, Job, JobState
from dte.core.jobs.ring import JobRing


def add(ring: JobRing, number: int, task: str = "1+1", owner: str = "") -> Job:
    job = Job(number, task, 0.0, 1, Graph(), owner=owner)
    ring.add(job)
    return job


def end(ring: JobRing, job: Job, answer: int = 2) -> None:
    job.graph, job.answer, job.state = None, answer, JobState.SUCCEEDED
    ring.ended(job)
    ring.check()


def test_the_newest_come_first() -> None:
    ring = JobRing(10, 10**6)
    for number in range(1, 6):
        add(ring, number)
    assert [job.number for job in ring.newest(3)] == [5, 4, 3]
    assert len(ring) == 5


def test_ended_jobs_beyond_the_capacity_are_forgotten_in_the_order_of_their_ends() -> None:
    ring = JobRing(2, 10**6)
    jobs = [add(ring, number) for number in range(1, 5)]
    for job in (jobs[2], jobs[0], jobs[1]):
        end(ring, job)
    assert ring.get(3) is None
    assert ring.get(1) is jobs[0]
    assert ring.get(2) is jobs[1]


def test_a_job_that_has_not_ended_is_never_forgotten() -> None:
    ring = JobRing(1, 10**6)
    waiting = add(ring, 1)
    for number in range(2, 50):
        end(ring, add(ring, number))
    assert ring.get(1) is waiting
    assert ring.get(49) is not None
    assert len(ring) == 2


def test_ended_jobs_are_forgotten_when_they_take_too_many_bytes() -> None:
    ring = JobRing(100, 3 * JOB_BYTES)
    for number in range(1, 5):
        end(ring, add(ring, number, "1" * 1000))
    assert [job.number for job in ring.newest(10)] == [4], "two of them are more than the bound"


def test_a_long_answer_counts() -> None:
    ring = JobRing(100, 3 * JOB_BYTES)
    end(ring, add(ring, 1), 10**4000)
    end(ring, add(ring, 2))
    assert ring.get(1) is None


def test_the_last_job_to_end_is_kept_however_large() -> None:
    ring = JobRing(100, 1)
    end(ring, add(ring, 1, "1" * 1000))
    assert ring.get(1) is not None


def test_a_job_that_was_not_accepted_after_all_is_taken_out() -> None:
    ring = JobRing(10, 10**6)
    add(ring, 1)
    void = add(ring, 2)
    add(ring, 3)
    ring.remove(void)
    ring.check()
    assert [job.number for job in ring.newest(3)] == [3, 1]
    assert ring.get(2) is None


def test_check_notices_a_job_that_ended_unnoticed() -> None:
    ring = JobRing(10, 10**6)
    add(ring, 1).state = JobState.FAILED
    with pytest.raises(AssertionError, match="misplaced"):
        ring.check()


# Owners


def kept(ring: JobRing) -> list[int]:
    return sorted(job.number for job in ring.newest(100))


def test_an_owner_beyond_half_of_the_jobs_loses_its_own_oldest_first() -> None:
    ring = JobRing(6, 10**6)
    end(ring, add(ring, 1))
    end(ring, add(ring, 2, owner="b"))
    for number in range(3, 50):
        end(ring, add(ring, number, owner="a"))
    assert kept(ring) == [1, 2, 47, 48, 49]


def test_an_owner_beyond_half_of_the_bytes_loses_its_own_oldest_first() -> None:
    ring = JobRing(100, 8 * (JOB_BYTES + 1_000))
    end(ring, add(ring, 1, "1" * 1_000))
    for number in range(2, 30):
        end(ring, add(ring, number, "1" * 1_000, "a"))
    assert kept(ring) == [1, 26, 27, 28, 29]
    end(ring, add(ring, 30, "1" * 9_000, "a"))
    assert kept(ring) == [1, 30], "its last one is kept"


def test_the_machine_s_own_user_may_fill_all_and_others_keep_the_newest() -> None:
    ring = JobRing(4, 10**6)
    end(ring, add(ring, 1, owner="a"))
    for number in range(2, 20):
        end(ring, add(ring, number))
    assert kept(ring) == [16, 17, 18, 19]
    for number in range(20, 30):
        end(ring, add(ring, number, owner="ab"[number % 2]))
    assert kept(ring) == [26, 27, 28, 29]


def test_an_owner_of_whom_nothing_is_kept_is_forgotten() -> None:
    ring = JobRing(2, 10**6)
    for number in range(1, 50):
        end(ring, add(ring, number, owner=f"10.0.0.{number}"))
    assert len(ring._owned) == 2
