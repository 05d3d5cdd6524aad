"""Exceptions of the client: texts for people, types and attributes for programs."""

from __future__ import annotations

import pickle

import pytest

import dte
from dte.client.job import Job

FAILED = Job(7, True, error="division by zero: 1 / 0")

ERRORS = [
    dte.InvalidRequest("give task or tasks, not both"),
    dte.FormulaError("bad", 5, "1+2*)\n    ^", 3),
    dte.Unauthorized("a token is needed"),
    dte.Forbidden("a reader may not submit"),
    dte.NotFound("Job not found"),
    dte.Conflict("the key was used for another formula"),
    dte.TooLarge("too long"),
    dte.Busy("too much waits", 7),
    dte.Unavailable("it is ending", 7),
    dte.StorageFull("its disk is full", 60),
    dte.JobFailed(FAILED),
    dte.WaitTimeout([7], 1.5),
    dte.Unreachable("no reply"),
    dte.TlsFailed("its certificate is not for master"),
    dte.MasterFault("no master"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_is_a_dte_error_with_a_code_of_its_own(error: dte.DteError) -> None:
    assert isinstance(error, dte.DteError)
    assert [type(other) for other in ERRORS if other.code == error.code] == [type(error)]


def test_a_failure_says_why_and_has_the_job() -> None:
    error = dte.JobFailed(FAILED)
    assert str(error) == "division by zero: 1 / 0"
    assert error.job is FAILED


def test_a_failure_that_nobody_explained_still_says_something() -> None:
    assert str(dte.JobFailed(Job(7, True))) == "the job failed"


def test_a_timeout_counts_what_it_waited_for() -> None:
    assert str(dte.WaitTimeout([7], 1.5)) == "job 7 has not ended within 1.5 s"
    assert str(dte.WaitTimeout([7, 8, 9], 2.0)) == "3 jobs have not ended within 2 s"
    assert dte.WaitTimeout([7, 8, 9], 2.0).jobs == [7, 8, 9]


def test_a_timeout_is_caught_as_pythons_own_too() -> None:
    with pytest.raises(TimeoutError):
        raise dte.WaitTimeout([7], 1)


@pytest.mark.parametrize(
    "error",
    ERRORS,
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_whole_out_of_another_process(error: dte.DteError) -> None:
    """A process pool pickles what its calls raise; what it cannot unpickle breaks the pool."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
