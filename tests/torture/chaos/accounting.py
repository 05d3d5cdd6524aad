"""Jepsen's accounting: what clients were told, compared with what the system knows afterwards.

It does no input or output. While the system runs, clients report what they submit and what replies
say. When it has come to rest, `verdict` gets its journal and the state of every job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from harness.workloads import Formula
from torture.chaos.formulas import HostileFormula
from torture.chaos.outcome import Outcome

SHOWN_CHARS = 80


class Anomaly(Enum):
    """The kinds of things that must not happen."""

    LOST = "lost"
    DOUBLED = "doubled"
    WRONG = "wrong"
    CHANGED = "changed"
    REPEATED = "repeated"
    EARLY = "early"
    CANCELLED = "cancelled"
    UNCOUNTED = "uncounted"
    UNTOLD = "untold"
    UNEXPECTED = "unexpected"

    @property
    def meaning(self) -> str:
        """An explanation in a few words."""
        return MEANINGS[self]


MEANINGS = {
    Anomaly.LOST: "acknowledged, and then not known, or never ended",
    Anomaly.DOUBLED: "submitted once, and two jobs",
    Anomaly.WRONG: "another outcome than Python's, or a job that nobody submitted",
    Anomaly.CHANGED: "an outcome was seen, and later another or none",
    Anomaly.REPEATED: "a call that was begun once more than its promise allows",
    Anomaly.EARLY: "a call that was begun before what it waits for",
    Anomaly.CANCELLED: "a cancel that was confirmed, and then not kept",
    Anomaly.UNCOUNTED: "a call that was begun more often than it has attempts",
    Anomaly.UNTOLD: "an end that no webhook told, or none that was told",
    Anomaly.UNEXPECTED: "a reply that no kill and no fault explains",
}


@dataclass(slots=True)
class _Entry:
    """A formula that was submitted, and what is known of it."""

    formula: Formula
    jobs: set[int] = field(default_factory=set)
    told: Outcome | None = None
    refused: bool = False

    @property
    def acknowledged(self) -> bool:
        return bool(self.jobs) or self.told is not None


@dataclass(slots=True)
class _Seen:
    """The outcome of a job, and the time of the first reply with it."""

    outcome: Outcome
    since: float


class Ledger:
    """Records submissions and replies. Times are seconds of any clock that goes forwards.

    Attributes:
        anomalies: what must not happen and did, as sentences.
    """

    def __init__(self) -> None:
        self.anomalies: dict[Anomaly, list[str]] = {kind: [] for kind in Anomaly}
        self._entries: dict[str, _Entry] = {}
        self._of_job: dict[int, _Entry] = {}
        self._seen: dict[int, _Seen] = {}
        self._told_of: set[tuple[Anomaly, object]] = set()

    # What clients tell

    def submitted(self, formula: Formula) -> None:
        """A formula is going to be submitted."""
        assert formula.text not in self._entries, "the text is what a formula is recognised by"
        self._entries[formula.text] = _Entry(formula)

    def acknowledged(self, formula: Formula, job: int) -> None:
        """The master gave a job's id for it."""
        entry = self._entries[formula.text]
        if formula.bad:
            self.found(Anomaly.WRONG, job, f"job {job} is {_short(formula.text)}, a syntax error")
        other = self._of_job.setdefault(job, entry)
        if other is not entry:
            texts = f"{_short(other.formula.text)} and {_short(formula.text)}"
            self.found(Anomaly.LOST, job, f"job {job} was acknowledged for two formulas: {texts}")
        entry.jobs.add(job)
        if len(entry.jobs) > 1:
            self._doubled(entry.formula.text, entry.jobs)

    def refused(self, formula: Formula) -> None:
        """The master said that it has a syntax error."""
        self._entries[formula.text].refused = True
        if not formula.bad:
            text = f"{_short(formula.text)} was refused"
            self.found(Anomaly.WRONG, formula.text, text)

    def answered(self, formula: Formula, outcome: Outcome) -> None:
        """The outcome came without the job's id."""
        entry = self._entries[formula.text]
        self._compare(formula, outcome, _short(formula.text))
        if entry.told is not None and entry.told != outcome:
            self._changed(_short(formula.text), entry.told, outcome)
        entry.told = outcome

    def observed(self, job: int, outcome: Outcome | None, asked_at: float, now: float) -> None:
        """A reply said how a job stands: its outcome, or None if it had not ended.

        Args:
            asked_at: when the request began; the reply must know all that was replied before.
        """
        entry = self._of_job.get(job)
        if outcome is not None and entry is not None:
            self._compare(entry.formula, outcome, f"job {job}")
        seen = self._seen.get(job)
        if seen is None:
            if outcome is not None:
                self._seen[job] = _Seen(outcome, now)
        elif outcome is None:
            if asked_at > seen.since:
                self._changed(f"job {job}", seen.outcome, None)
        elif outcome != seen.outcome:
            self._changed(f"job {job}", seen.outcome, outcome)

    def unknown(self, job: int) -> None:
        """The master said that it does not know a job that it has acknowledged."""
        self.found(Anomaly.LOST, job, f"job {job} was acknowledged and is not known")

    def found(self, kind: Anomaly, of: object, sentence: str) -> None:
        """Note an anomaly, once of each kind for each job or formula."""
        if (kind, of) not in self._told_of:
            self._told_of.add((kind, of))
            self.anomalies[kind].append(sentence)

    # What it comes to

    def counts(self) -> dict[str, int]:
        """The numbers of formulas that were submitted, acknowledged, answered, refused.

        Of those that were answered, some had hostile calls.
        """
        entries = self._entries.values()
        answered = [
            entry
            for entry in entries
            if entry.told is not None or not self._seen.keys().isdisjoint(entry.jobs)
        ]
        return {
            "submitted": len(entries),
            "acknowledged": sum(entry.acknowledged for entry in entries),
            "answered": len(answered),
            "hostile": sum(isinstance(entry.formula, HostileFormula) for entry in answered),
            "refused": sum(entry.refused for entry in entries),
        }

    def verdict(
        self, journal: Mapping[int, str], standing: Mapping[int, Outcome | None]
    ) -> dict[str, int]:
        """Compare with what there is when the system has come to rest.

        Args:
            journal: the text of each job on disk.
            standing: how each job of the journal stands, by the master's word after its last start:
                its outcome, or None if it has not ended. Jobs that it does not know are missing.

        Returns:
            How many formulas are in the journal that nobody was told of, and how many are not.
        """
        jobs_of: dict[str, set[int]] = {}
        for job, text in journal.items():
            jobs_of.setdefault(text, set()).add(job)
            entry = self._entries.get(text)
            if entry is None or entry.formula.bad:
                what = "which nobody submitted" if entry is None else "a syntax error"
                self.found(Anomaly.WRONG, job, f"job {job} is {_short(text)}, {what}")
            elif job in standing:
                self._judge(entry, job, standing[job])
        for text, entry in self._entries.items():
            self._balance(entry, jobs_of.get(text, set()), journal, standing)
        silent = [text for text, e in self._entries.items() if not (e.acknowledged or e.refused)]
        accepted = sum(text in jobs_of for text in silent)
        return {"accepted_untold": accepted, "neither": len(silent) - accepted}

    def _judge(self, entry: _Entry, job: int, outcome: Outcome | None) -> None:
        """Look at how a job of the journal stands at last."""
        seen = self._seen.get(job)
        for before in (seen.outcome if seen is not None else None, entry.told):
            if before is not None and outcome != before:
                self._changed(f"job {job}", before, outcome)
        if outcome is not None:
            self._compare(entry.formula, outcome, f"job {job}")

    def _balance(
        self,
        entry: _Entry,
        jobs: set[int],
        journal: Mapping[int, str],
        standing: Mapping[int, Outcome | None],
    ) -> None:
        """Look for a formula that is missing or there twice."""
        text = entry.formula.text
        if len(jobs | entry.jobs) > 1:
            self._doubled(text, jobs | entry.jobs)
        for job in sorted(entry.jobs):
            if job not in journal:
                self.found(Anomaly.LOST, job, f"job {job} was acknowledged and is not on disk")
            elif journal[job] != text:
                other = f"{_short(text)} and is {_short(journal[job])}"
                self.found(Anomaly.LOST, job, f"job {job} was acknowledged as {other}")
            elif job not in standing:
                self.unknown(job)
            elif standing[job] is None:
                self.found(Anomaly.LOST, job, f"job {job} was acknowledged and never ended")
        if entry.told is not None and not jobs:
            self.found(Anomaly.LOST, text, f"{_short(text)} was answered and is not on disk")

    def _compare(self, formula: Formula, outcome: Outcome, what: str) -> None:
        if not formula.bad and not outcome.is_right_for(formula):
            expected = formula.reason or repr(formula.answer)
            if isinstance(formula, HostileFormula):
                expected = "an error of one line that is the call's own"
            is_what = f"{_short(str(outcome))} instead of {_short(expected)}"
            sentence = f"{what} came to {is_what}, for {_short(formula.text)}"
            self.found(Anomaly.WRONG, formula.text, sentence)

    def _changed(self, what: str, before: Outcome, after: Outcome | None) -> None:
        now = "has not ended" if after is None else f"is {_short(str(after))}"
        sentence = f"{what} was {_short(str(before))}, and later it {now}"
        self.found(Anomaly.CHANGED, what, sentence)

    def _doubled(self, text: str, jobs: set[int]) -> None:
        numbers = ", ".join(map(str, sorted(jobs)))
        sentence = f"{_short(text)} was submitted once and is the jobs {numbers}"
        self.found(Anomaly.DOUBLED, text, sentence)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"
