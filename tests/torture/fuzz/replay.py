"""Tries one input again, and tells all about it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from torture.fuzz import blocks, http
from torture.fuzz.cluster import FuzzedCluster
from torture.fuzz.summary import cut


def replay_parser(seed: int, number: int) -> int:
    """Put an input of a seed to the test; the exit code."""
    text, _ = blocks.text_of(seed, number)
    tally = blocks.check_block(seed, number, number + 1)
    print(f"input {number} of seed {seed}: {text!r}")
    for found in tally.found:
        print(f"it {found.what}")
        print(f"shorter: {found.shorter!r}")
    for outcome in tally.outcomes:
        print(outcome)
    return int(bool(tally.found))


def replay_script(seed: int, number: int) -> int:
    """Play a script of a seed against a cluster of its own; the exit code."""
    with tempfile.TemporaryDirectory() as folder, FuzzedCluster(Path(folder)) as cluster:
        script, exchange = asyncio.run(http.play_one(seed, number, cluster))
        print(f"script {number} of seed {seed}, to the {script.target}, {script.ending}", end="")
        print(", all requests at once" if script.pipelined else "")
        for request in script.requests:
            print(f"sent     {cut(repr(request.raw))}")
        for reply in exchange.replies:
            print(f"replied  {reply.status} {cut(repr(reply.body))}")
        faults = [*exchange.faults, *cluster.faults(), *cluster.idle_faults()]
    for fault in faults:
        print(f"fault    {fault}")
    print("no fault" if not faults else f"{len(faults)} faults")
    return int(bool(faults))
