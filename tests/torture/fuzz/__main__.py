"""Feeds dte with random input. See `scripts/fuzz --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture.fuzz import blocks, contract, http, parser
from torture.fuzz.cluster import FuzzedCluster

PARSER, HTTP, CONTRACT = "parser", "http", "contract"
ALL = (PARSER, HTTP, CONTRACT)
SEED_MAX = 10**9
SHOWN_CHARS = 2000

DESCRIPTION = """\
Feed dte with random input, and look for what it should not do.

parser    Texts go through the parser, and the operations through a worker's arithmetic, in any
          order. Python's own evaluation says what is right: the same number bit for bit, or refused
          by both.
http      Scripts of requests, good and bad, and bytes that are no HTTP go to a master and two
          workers in processes of their own. They must go on, answer in the form of each
          route, never with a fault of their own, and do known formulas and calls meanwhile.
contract  Requests that a master's OpenAPI document allows, and some that it does not, go to such
          processes. Each reply must be one that the document names, and fit its schema.

Without a name, all are done.
"""
EXAMPLES = """\
examples:
  scripts/fuzz                                 a million texts and 22,000 requests, three minutes
  scripts/fuzz --inputs 50000 parser           a shorter one
  scripts/fuzz --seed 7 http                   the same requests each time
  scripts/fuzz --seed 7 --input 123 parser     input 123 of seed 7 alone, as a finding names it
  scripts/fuzz --seed 7 --input 45 http        script 45 of seed 7, with what is sent and replied
  scripts/fuzz --contract-requests 50000 contract   a longer one

Exit codes: 0 nothing found, 1 a difference or a fault, 2 the command is wrong, 130 Ctrl-C.
"""


def main() -> int:
    arguments = _arguments()
    seed: int = arguments.seed
    if arguments.input is not None:
        replay = _replay_parser if arguments.what == PARSER else _replay_http
        return replay(seed, arguments.input)
    print(f"seed {seed}", file=sys.stderr)
    summary: dict[str, Any] = {"seed": seed}
    if arguments.what in (None, PARSER):
        summary[PARSER] = _fuzz_parser(seed, arguments.inputs, arguments.processes)
    if arguments.what in (None, HTTP):
        summary[HTTP] = _fuzz_http(seed, arguments.requests)
    if arguments.what in (None, CONTRACT):
        summary[CONTRACT] = _fuzz_contract(seed, arguments.contract_requests)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        _show(summary)
    return int(any(summary[what]["found"] for what in ALL if what in summary))


def _arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("what", nargs="?", choices=ALL, help="one of them alone")
    options.add_argument(
        "--inputs", type=_count, default=1_000_000, metavar="N", help="texts for the parser [10^6]"
    )
    options.add_argument(
        "--requests", type=_count, default=20_000, metavar="N", help="requests [20,000]"
    )
    options.add_argument(
        "--contract-requests",
        type=_count,
        default=2_000,
        metavar="N",
        help="requests that are judged by the document, at most [2,000]",
    )
    options.add_argument(
        "--seed",
        type=_count,
        default=1 + secrets.randbelow(SEED_MAX),
        metavar="N",
        help="what all input follows from [another each time]",
    )
    options.add_argument(
        "--input", type=int, metavar="K", help="only input K of the seed, and tell all about it"
    )
    options.add_argument(
        "--processes",
        type=_count,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes for the parser [as many as cores]",
    )
    options.add_argument("--json", action="store_true", help="print the summary as JSON")
    arguments = options.parse_args()
    if arguments.input is not None and arguments.what not in (PARSER, HTTP):
        options.error("--input K: of parser or of http?")
    return arguments


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10**12:
        raise argparse.ArgumentTypeError(f"{number}: 1 to 10^12 are expected")
    return number


def _progress(name: str, total: int) -> Callable[[int], None]:
    """Says how far it is: again and again on a terminal, else at each tenth."""
    tenth = 0

    def say(done: int) -> None:
        nonlocal tenth
        if sys.stderr.isatty():
            print(f"\r{name}: {done:,} of {total:,} ", end="", file=sys.stderr, flush=True)
            if done >= total:
                print(file=sys.stderr)
        elif 10 * done // total > tenth:
            tenth = 10 * done // total
            print(f"{name}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return say


def _fuzz_parser(seed: int, inputs: int, processes: int) -> dict[str, Any]:
    tally = blocks.run(seed, inputs, processes=processes, progress=_progress("texts", inputs))
    found = [
        {
            "input": found.number,
            "text": _cut(repr(found.text)),
            "shorter": _cut(repr(found.shorter)),
            "what": found.what,
            "again": f"scripts/fuzz --seed {seed} --input {found.number} {PARSER}",
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


def _fuzz_http(seed: int, requests: int) -> dict[str, Any]:
    tally = http.run(seed, requests, progress=_progress("requests", requests))
    found = []
    for fault in tally.found:
        entry: dict[str, Any] = {"what": fault.what}
        if fault.number is not None:
            again = f"scripts/fuzz --seed {seed} --input {fault.number} {HTTP}"
            entry = {"input": fault.number, **entry, "again": again}
        found.append(entry)
    summary: dict[str, Any] = {
        "requests": tally.requests,
        "connections": tally.scripts,
        "statuses": {
            target: {str(status): counts[status] for status in sorted(counts)}
            for target, counts in tally.statuses.items()
        },
        "memory_mb": {
            name: [round(size / 1e6) for size in sizes]
            for name, sizes in tally.memory_bytes.items()
        },
        "faults": len(found),
        "requests_per_s": round(tally.requests / tally.took_s),
        "found": found,
    }
    if tally.logs is not None:
        summary["logs"] = str(tally.logs)
    return summary


def _fuzz_contract(seed: int, requests: int) -> dict[str, Any]:
    tally = contract.run(seed, requests, progress=_progress("requests", requests))
    return {
        "requests": tally.requests,
        "statuses": {
            route: {str(status): counts[status] for status in sorted(counts)}
            for route, counts in tally.statuses.items()
        },
        "faults": len(tally.found),
        "requests_per_s": round(tally.requests / tally.took_s),
        "found": [{"route": fault.route, "what": fault.what} for fault in tally.found],
    }


def _show(summary: dict[str, Any]) -> None:
    print(f"seed {summary['seed']}")
    for what in ALL:
        if what not in summary:
            continue
        part = summary[what]
        print(f"\n{what}")
        for name, value in part.items():
            if name == "found":
                continue
            if isinstance(value, dict):
                for of, values in value.items():
                    label = f"{name} of {of}"
                    print(f"  {label:<24} {_listed(values)}")
            else:
                shown = f"{value:,}" if isinstance(value, int) else value
                print(f"  {name:<24} {shown}")
        for entry in part["found"]:
            print()
            for name, value in entry.items():
                print(f"  {name:<10}{value}")


def _listed(values: Any) -> str:
    if isinstance(values, dict):
        return ", ".join(f"{count:,} x {status}" for status, count in values.items()) or "none"
    return " to ".join(map(str, values))


def _replay_parser(seed: int, number: int) -> int:
    text, _ = blocks.text_of(seed, number)
    tally = blocks.check_block(seed, number, number + 1)
    print(f"input {number} of seed {seed}: {text!r}")
    for found in tally.found:
        print(f"it {found.what}")
        print(f"shorter: {found.shorter!r}")
    for outcome in tally.outcomes:
        print(outcome)
    return int(bool(tally.found))


def _replay_http(seed: int, number: int) -> int:
    with tempfile.TemporaryDirectory() as folder, FuzzedCluster(Path(folder)) as cluster:
        script, exchange = asyncio.run(http.play_one(seed, number, cluster))
        print(f"script {number} of seed {seed}, to the {script.target}, {script.ending}", end="")
        print(", all requests at once" if script.pipelined else "")
        for request in script.requests:
            print(f"sent     {_cut(repr(request.raw))}")
        for reply in exchange.replies:
            print(f"replied  {reply.status} {_cut(repr(reply.body))}")
        faults = [*exchange.faults, *cluster.faults(), *cluster.idle_faults()]
    for fault in faults:
        print(f"fault    {fault}")
    print("no fault" if not faults else f"{len(faults)} faults")
    return int(bool(faults))


def _cut(text: str) -> str:
    if len(text) <= SHOWN_CHARS:
        return text
    return f"{text[: SHOWN_CHARS - 100]} … {text[-80:]} ({len(text):,} characters)"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
