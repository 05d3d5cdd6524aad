"""The report of a run, as a table or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torture.chaos.accounting import Anomaly

SHOWN = 20
"""How many sentences of a kind are shown."""


@dataclass(slots=True)
class Report:
    """The harms that were done, the counts, and what went wrong.

    Attributes:
        seed: what the plan was made of.
        anomalies: what must not happen to a job and did, as sentences.
        took_s: the whole run.
        kills: how often each node was killed, by name.
        ends: how often each was ended with SIGTERM.
        stops: how often each was stopped with SIGSTOP.
        process_kills: how many processes of handlers were killed.
        faults: how often each fault was switched on.
        clock_settings: how often the clock was set wrong.
        connections_hurt: how many connections a fault met.
        counts: of formulas and jobs.
        causes: how often calls were begun again, by what explains it.
        rest_s: how long it took from the end of all harm to the end of all jobs.
        stale_results: how many results came too late, by the process id of a master, as far as
            they were asked.
        problems: everything else that must not happen, as sentences.
    """

    seed: int
    anomalies: Mapping[Anomaly, Sequence[str]]
    took_s: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    process_kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    clock_settings: int = 0
    connections_hurt: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    rest_s: float = 0.0
    stale_results: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing happened that must not."""
        return not self.problems and not any(self.anomalies.values())

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "good": self.good,
            "seed": self.seed,
            "took_s": round(self.took_s, 1),
            "kills": dict(self.kills),
            "ends": dict(self.ends),
            "stops": dict(self.stops),
            "process_kills": self.process_kills,
            "faults": dict(self.faults),
            "clock_settings": self.clock_settings,
            "connections_hurt": self.connections_hurt,
            "counts": self.counts,
            "causes": dict(self.causes),
            "anomalies": {kind.value: list(found) for kind, found in self.anomalies.items()},
            "problems": self.problems,
            "rest_s": round(self.rest_s, 1),
            "stale_results": sum(self.stale_results.values()),
        }

    def table(self) -> str:
        """Everything, for people."""
        counts = Counter(self.counts)
        rows = [
            ("kills by SIGKILL", f"{self.kills.total():,}", _parts(self.kills)),
            ("ends by SIGTERM", f"{self.ends.total():,}", _parts(self.ends)),
            ("stops by SIGSTOP", f"{self.stops.total():,}", _parts(self.stops)),
            ("processes killed", f"{self.process_kills:,}", "each in the midst of a call"),
            ("network faults", f"{self.faults.total():,}", _parts(self.faults)),
            ("settings of the clock", f"{self.clock_settings:,}", "by up to 400 days"),
            ("connections hurt", f"{self.connections_hurt:,}", ""),
            ("results too late", f"{sum(self.stale_results.values()):,}", "and ignored"),
            ("jobs submitted", f"{counts['submitted']:,}", ""),
            ("  acknowledged", f"{counts['acknowledged']:,}", ""),
            ("  answered", f"{counts['answered']:,}", "to a client, while it lasted"),
            ("    hostile", f"{counts['hostile']:,}", "of these, with handlers that misbehave"),
            ("  refused", f"{counts['refused']:,}", "for a syntax error"),
            ("  accepted, no reply", f"{counts['accepted_untold']:,}", "the reply never arrived"),
            ("  neither", f"{counts['neither']:,}", "the client gave up"),
            ("jobs on disk", f"{counts['jobs']:,}", "each was asked for at the end"),
            ("effects begun", f"{counts['effects_begun']:,}", "by calls that leave marks"),
            ("  again", f"{counts['begun_again']:,}", _parts(self.causes)),
            ("  ended", f"{counts['effects_ended']:,}", ""),
            ("  acknowledged", f"{counts['effects_acknowledged']:,}", "as far as was seen"),
            ("cancels kept", f"{counts['cancelled']:,}", ""),
            ("ends reported", f"{counts['told']:,}", "by webhooks"),
            ("seconds to rest", f"{self.rest_s:.1f}", "from the last harm to the last answer"),
        ]
        for kind, found in self.anomalies.items():
            rows.append((kind.value, str(len(found)), kind.meaning))
        rows.append(("other problems", str(len(self.problems)), ""))
        lines = [f"{label:<22}{figure:>9}   {note}".rstrip() for label, figure, note in rows]
        for title, sentences in self._sentences():
            lines += ["", f"{title}:", *(f"  {sentence}" for sentence in sentences[:SHOWN])]
            if len(sentences) > SHOWN:
                lines.append(f"  and {len(sentences) - SHOWN:,} more")
        return "\n".join(lines)

    def _sentences(self) -> list[tuple[str, Sequence[str]]]:
        found = [(kind.value, sentences) for kind, sentences in self.anomalies.items()]
        return [each for each in [*found, ("other problems", self.problems)] if each[1]]


def _parts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items()))
