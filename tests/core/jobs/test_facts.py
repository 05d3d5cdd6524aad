from core.checked import parsed
from core.disk import all_ends
from dte.core.graph.call import Call
from dte.core.jobs.facts import Cancel, End, Facts, Step, Submission
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


def kinds(part: Facts) -> tuple[int, int, int, int]:
    return len(part.submissions), len(part.cancels), len(part.steps), len(part.ends)


def test_facts_take_effect_in_parts_in_which_cancels_come_before_steps_and_ends_last() -> None:
    jobs = [Job(number, "1+1", 0.0, 1, None) for number in range(1, 8)]
    ends = [End(job, 0.0, 2, None) for job in jobs[:5]]
    steps = [Step(call, call.record) for call in (Call("a", "f", []), Call("b", "f", []))]
    facts = Facts([Submission(jobs, ["1+1"] * 7)], ends, steps, [Cancel(jobs[0], 0.0)])
    assert len(facts) == 15
    assert list(map(kinds, facts.parts(3))) == [
        (1, 0, 0, 0),
        (0, 1, 2, 0),
        (0, 0, 0, 3),
        (0, 0, 0, 2),
    ]
    assert [end for part in facts.parts(4) for end in part.ends] == ends
    assert list(facts.parts(15)) == [facts]


def test_no_facts_are_one_part() -> None:
    nothing = Facts([], [])
    assert list(nothing.parts(1)) == [nothing]
