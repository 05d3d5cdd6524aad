"""What clients have submitted, been promised and been shown, over all starts of the master."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.workloads import Formula
from torture.simulation.world import Violation

from dte.core.jobs.job import kept_task


@dataclass(slots=True, eq=False)
class Submitted:
    """Formulas that a client submits together.

    Attributes:
        key: the idempotency key; "" for none.
        numbers: of their jobs, once the client knows them.
    """

    formulas: Sequence[Formula]
    key: str
    numbers: list[int] | None = None


class Ledger:
    """Holds clients' knowledge against what they are told next.

    Args:
        forgets: the journal keeps few keys, so that a repeat may rightly be taken for new.

    Attributes:
        plans: the jobs with calls that were acknowledged, with their names.
    """

    def __init__(self, forgets: bool) -> None:
        self._forgets = forgets
        self.submitted: list[Submitted] = []
        self._formulas: dict[str, Formula] = {}
        self._texts: dict[int, str] = {}
        self.plans: dict[int, str] = {}

    def submits(self, formulas: Sequence[Formula], key: str) -> Submitted:
        """A client is about to submit formulas."""
        submitted = Submitted(formulas, key)
        self.submitted.append(submitted)
        for formula in formulas:
            self._formulas[formula.text] = self._formulas[kept_task(formula.text)] = formula
        return submitted

    def acknowledged(self, submitted: Submitted, numbers: list[int]) -> None:
        """The client was told the numbers of its jobs."""
        if submitted.numbers not in (None, numbers) and not self._forgets:
            raise Violation(f"{submitted.key}: first jobs {submitted.numbers}, then {numbers}")
        if len(numbers) != len(submitted.formulas):
            raise Violation(f"{len(submitted.formulas)} formulas became jobs {numbers}")
        submitted.numbers = numbers
        for number, formula in zip(numbers, submitted.formulas, strict=True):
            if self._texts.setdefault(number, formula.text) != formula.text:
                raise Violation(f"job {number} is {self._texts[number]!r} and {formula.text!r}")

    def accepted(self, plan: str, number: int) -> None:
        """The client was told the number of a job with calls."""
        if number in self._texts or self.plans.setdefault(number, plan) != plan:
            raise Violation(f"job {number} is {plan}, and something else")

    def text(self, number: int) -> str:
        """What is to be computed as a job that was acknowledged."""
        return self._texts[number]

    def formula(self, text: str) -> Formula:
        """What was submitted with this text, or with one that begins so."""
        if text not in self._formulas:
            raise Violation(f"nobody has submitted {text!r}")
        return self._formulas[text]

    @property
    def numbers(self) -> list[int]:
        """All jobs that were acknowledged."""
        return sorted([*self._texts, *self.plans])

    @property
    def formulas(self) -> list[int]:
        """Those of them that are formulas without calls."""
        return sorted(self._texts)
