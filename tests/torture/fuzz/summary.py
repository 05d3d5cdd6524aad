"""The summary of a run, as a table or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torture import runner
from torture.fuzz import blocks, contract, http, parser

PARSER, HTTP, CONTRACT = "parser", "http", "contract"
ALL = (PARSER, HTTP, CONTRACT)
SHOWN_CHARS = 2000


@dataclass(slots=True)
class Summary:
    """The parts that were done, each with its figures and with what was found, by name."""

    seed: int
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not any(part["found"] for part in self.parts.values())

    def as_json(self) -> dict[str, Any]:
        return {"seed": self.seed} | self.parts

    def table(self) -> str:
        lines = [f"seed {self.seed}"]
        for name, part in self.parts.items():
            lines += ["", name]
            for label, value in part.items():
                if label != "found":
                    lines += _rows(label, value)
            for entry in part["found"]:
                lines += ["", *(f"  {label:<10}{value}" for label, value in entry.items())]
        return "\n".join(lines)


def of_parser(seed: int, tally: blocks.Tally) -> dict[str, Any]:
    """The part about texts."""
    found = [
        {
            "input": found.number,
            "text": cut(repr(found.text)),
            "shorter": cut(repr(found.shorter)),
            "what": found.what,
            "again": runner.again("fuzz", PARSER, seed=seed, input=found.number),
        }
        for found in tally.found
    ]
    return {
        "inputs": tally.inputs,
        **{outcome: tally.outcomes[outcome] for outcome in parser.OUTCOMES},
        "differences": len(found),
        "inputs_per_s": round(tally.inputs / tally.took_s),
        "found": found,
    }


def of_http(seed: int, tally: http.Tally) -> dict[str, Any]:
    """The part about scripts."""
    found = []
    for fault in tally.found:
        entry: dict[str, Any] = {"what": fault.what}
        if fault.number is not None:
            again = runner.again("fuzz", HTTP, seed=seed, input=fault.number)
            entry = {"input": fault.number, **entry, "again": again}
        found.append(entry)
    megabytes = {
        name: [round(size / 1e6) for size in sizes] for name, sizes in tally.memory_bytes.items()
    }
    logs = {} if tally.logs is None else {"logs": str(tally.logs)}
    return {
        "requests": tally.requests,
        "connections": tally.scripts,
        "statuses": _statuses(tally.statuses),
        "memory_mb": megabytes,
        "faults": len(found),
        "requests_per_s": round(tally.requests / tally.took_s),
        "found": found,
    } | logs


def of_contract(tally: contract.Tally) -> dict[str, Any]:
    """The part about the document."""
    return {
        "requests": tally.requests,
        "statuses": _statuses(tally.statuses),
        "faults": len(tally.found),
        "requests_per_s": round(tally.requests / tally.took_s),
        "found": [{"route": fault.route, "what": fault.what} for fault in tally.found],
    }


def cut(text: str) -> str:
    """A text of bounded length for people."""
    if len(text) <= SHOWN_CHARS:
        return text
    return f"{text[: SHOWN_CHARS - 100]} … {text[-80:]} ({len(text):,} characters)"


def _statuses(counters: Mapping[str, Counter[int]]) -> dict[str, dict[str, int]]:
    return {
        of: {str(status): counts[status] for status in sorted(counts)}
        for of, counts in counters.items()
    }


def _rows(label: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        named = ((f"{label} of {of}", values) for of, values in value.items())
        return [f"  {name:<24} {_listed(values)}" for name, values in named]
    return [f"  {label:<24} {f'{value:,}' if isinstance(value, int) else value}"]


def _listed(values: Any) -> str:
    if isinstance(values, dict):
        return ", ".join(f"{count:,} x {status}" for status, count in values.items()) or "none"
    return " to ".join(map(str, values))
