"""The outbox: facts that wait to be recorded, in the order in which they must be.

The steps of a call are recorded before the end of its job, or with it, so that an end is never
known without the steps before it.
"""

from __future__ import annotations

from collections import deque

from dte.core.jobs.facts import Cancel, End, Facts, Step, Submission

FACTS_MAX = 10_000
"""Most facts in one group, so that recording it is short."""


class Outbox:
    """The facts that have not been taken yet."""

    def __init__(self) -> None:
        self.submissions: deque[Submission] = deque()
        self.steps: deque[Step] = deque()
        self.ends: deque[End] = deque()
        self.cancels: deque[Cancel] = deque()

    def __bool__(self) -> bool:
        return bool(self.submissions or self.ends or self.steps or self.cancels)

    def take(self, most: int | None = None) -> Facts | None:
        """The facts to be recorded next, if there are any."""
        if not self:
            return None
        facts = Facts([], [])
        room = FACTS_MAX if most is None else most
        while self.submissions and room > 0:
            facts.submissions.append(self.submissions.popleft())
            room -= len(facts.submissions[-1].jobs)
        while self.steps and room > 0:
            facts.steps.append(self.steps.popleft())
            room -= 1
        while self.ends and room > 0:
            facts.ends.append(self.ends.popleft())
            room -= 1
        while self.cancels and room > 0:
            facts.cancels.append(self.cancels.popleft())
            room -= 1
        return facts

    def put_back(self, facts: Facts) -> None:
        """Take facts back that could not be recorded; submissions and hand-overs are void."""
        self.steps.extendleft(step for step in reversed(facts.steps) if not step.record.lease)
        self.ends.extendleft(reversed(facts.ends))
        self.cancels.extendleft(reversed(facts.cancels))
