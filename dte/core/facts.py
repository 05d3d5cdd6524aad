"""Facts: what must be recorded before anybody hears of it.

There are two: jobs were accepted, and a job ended. `JobBook.facts` gives those that nobody has been
told of yet; `JobBook.recorded` says that they are safe, and only then do they come into effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dte.core.job import Job
from dte.core.operations import Number


@dataclass(slots=True, eq=False)
class End:
    """A job ended.

    Attributes:
        at: when, on the core's clock.
        answer: the formula's value; None if there is none.
        error: why there is none.
    """

    job: Job
    at: float
    answer: Number | None = None
    error: str | None = None


@dataclass(slots=True, eq=False)
class Submission:
    """Jobs were accepted: all of them or none.

    Attributes:
        jobs: in the order of their numbers, which follow each other.
        texts: the whole formulas, of which the jobs may keep a part.
        ends: how those of the jobs ended that have nothing to be done for them.
        key: what the client calls this submission, so that a repeat is recognised; "" for nothing.
        digest: what tells its body from others.
    """

    jobs: list[Job]
    texts: Sequence[str]
    ends: list[End] = field(default_factory=list)
    key: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class KnownSubmission:
    """What is remembered of a submission by its key.

    Attributes:
        digest: of its body.
        first: the number of its first job.
        count: how many jobs it has.
    """

    digest: str
    first: int
    count: int


@dataclass(slots=True, eq=False)
class Facts:
    """Facts to be recorded together: all of them or none."""

    submissions: list[Submission]
    ends: list[End]

    def all_ends(self) -> list[End]:
        """The ends, also those of jobs that are accepted here."""
        ends = [end for submission in self.submissions for end in submission.ends]
        return ends + self.ends
