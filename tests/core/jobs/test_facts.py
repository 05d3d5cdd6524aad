from core.checked import parsed
from core.disk import all_ends
from dte.core.jobs.facts import End, Facts, Submission
from dte.core.jobs.job import Job


def test_the_ends_of_facts_are_also_those_of_jobs_that_are_accepted_there() -> None:
    """In the order of the record: who reads it again sees a job before its end."""
    jobs = [Job(number, "7", 0.0, 0, parsed("7")[0].work.graph) for number in range(1, 6)]
    ends = [End(job, 1.0, 7) for job in jobs]
    first = Submission(jobs[:2], ["7", "7"], ends[:2])
    second = Submission(jobs[2:3], ["7"], ends[2:3])
    facts = Facts([first, second], ends[3:])
    assert all_ends(facts) == ends


def test_submissions_and_ends_are_told_apart_however_alike() -> None:
    """They are asked for in collections: two of the same formulas are two."""
    assert Submission([], ["7"]) != Submission([], ["7"])
    job = Job(1, "7", 0.0, 0, None)
    assert End(job, 1.0, 7) != End(job, 1.0, 7)
