"""Keys of submissions in memory, for a master without a journal."""

from __future__ import annotations

from collections.abc import Iterable

from dte.core.jobs.facts import KnownSubmission, Submission


class KeyMemory:
    """The last keys, so that a repeat is recognised.

    Args:
        capacity: how many are remembered.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._known: dict[str, KnownSubmission] = {}

    def get(self, key: str) -> KnownSubmission | None:
        """What is known of a submission by its key."""
        return self._known.get(key)

    def remember(self, submissions: Iterable[Submission]) -> dict[Submission, KnownSubmission]:
        """Take in submissions; those with keys that are known already, and what is known."""
        repeats = {}
        for submission in submissions:
            if not submission.key:
                continue
            known = self._known.get(submission.key)
            if known is not None:
                repeats[submission] = known
                continue
            jobs = submission.jobs
            self._known[submission.key] = KnownSubmission(
                submission.digest, jobs[0].number, len(jobs)
            )
            if len(self._known) > self._capacity:
                del self._known[next(iter(self._known))]
        return repeats
