"""The end of a job, in a form that tells 5 from 5.0 and 0.0 from -0.0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.workloads import Formula
from torture.chaos.effects.jobs import EffectJob
from torture.chaos.formulas import HostileFormula

ERROR_CHARS_MAX = 2100
"""The longest error of a call: 2,000 characters, and the name of the handler before them."""
PROCESS_ENDED = "the handler's process"
"""The error of a call that has harmed its process, and perhaps others with it, speaks of this."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, or why there is none.

    Attributes:
        text: the answer as `repr` writes it, or the error.
        failed: whether it is an error.
    """

    text: str
    failed: bool = False

    @classmethod
    def of_answer(cls, answer: Any) -> Outcome:
        """The outcome of a job that has this answer."""
        return cls(repr(answer))

    @classmethod
    def of_error(cls, error: Any) -> Outcome:
        """The outcome of a job that failed for this reason."""
        return cls(str(error), failed=True)

    @classmethod
    def of_job(cls, job: Mapping[str, Any]) -> Outcome | None:
        """The outcome in the master's JSON about a job; None when it has not ended."""
        if not job["finished"]:
            return None
        if job["error"] is not None:
            return cls.of_error(job["error"])
        return cls.of_answer(job["answer"])

    def is_right_for(self, formula: Formula) -> bool:
        """True for the outcome that a formula must have: to the last bit, or with its reason.

        A hostile call may have any outcome that is bounded and its own.
        """
        if isinstance(formula, HostileFormula):
            has_failed = self.failed or not formula.raises
            return has_failed and self._is_bounded and PROCESS_ENDED not in self.text
        if isinstance(formula, EffectJob):
            return formula.allows(("None", self.text) if self.failed else (self.text, None))
        if formula.reason:
            return self.failed and self.text.startswith(formula.reason)
        return not self.failed and self.text == repr(formula.answer)

    @property
    def _is_bounded(self) -> bool:
        return len(self.text) <= ERROR_CHARS_MAX and len(self.text.splitlines()) == 1

    def __str__(self) -> str:
        return f"error: {self.text}" if self.failed else self.text
