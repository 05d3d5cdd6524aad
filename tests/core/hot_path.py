"""Counts what the hot path costs, in figures that no other program on the machine can change.

``python -m core.hot_path``, in tests/, prints as JSON for each workload how many bytecode
instructions of dte an operation takes, all included from the text of the job to its end, and how
many leases a thousand operations take.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from dte.core.formula.formula import FormulaLimits
from dte.core.formula.templates import Templates
from dte.core.limits import SchedulerLimits
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Announcement
from dte.master.parsing import parse_all
from dte.wire.codec import Decoder, encode
from dte.wire.messages.batches import Batch, BatchResult
from dte.worker.arithmetic import compute_all

BATCH_MAX = 1024
TURN_S = 0.001
batch_decoder: Decoder[Batch] = Decoder(Batch)
result_decoder: Decoder[BatchResult] = Decoder(BatchResult)


class Instructions:
    """Counts the bytecode instructions that dte executes while it is used."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Instructions:
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._executed

    def _executed(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        self.count += event == "opcode"
        return self._executed


def run(formulas: list[str]) -> tuple[int, int, int]:
    """Have formulas computed: how many instructions, operations and leases that takes."""
    core = Scheduler(SchedulerLimits())
    for number in range(2):
        core.announce(0.0, Announcement(f"w{number}", f"w{number}:1", slots=2, batch_max=BATCH_MAX))
    for _ in core.tick(0.0).batches:
        raise AssertionError("nothing is to be done yet")
    templates = Templates(FormulaLimits())
    with Instructions() as instructions:
        parsed = _last(parse_all(formulas, templates, core.jobs.ensure_room))
        core.jobs.accept(0.0, parsed)
        operations, leases = _work_off(core)
    assert core.jobs.waiting == 0
    return instructions.count, operations, leases


def _last(slices: Iterator[None]) -> Any:
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            return stop.value


def _work_off(core: Scheduler) -> tuple[int, int]:
    now, operations, leases = 0.0, 0, 0
    while core.jobs.waiting:
        facts = core.jobs.facts()
        if facts is not None:
            core.recorded(now, facts)
        for lease in core.tick(now).batches:
            body = encode(Batch(lease.number, *lease.columns()))
            batch = batch_decoder.decode(body)
            results, errors = compute_all(batch.operations, batch.op1, batch.op2)
            reply = result_decoder.decode(encode(BatchResult(batch.lease, results, errors)))
            core.arithmetic.complete(now, lease.number, reply.results, reply.errors, TURN_S)
            operations += lease.count
            leases += 1
        now += TURN_S
    return operations, leases


def balanced_tree(first: int, last: int) -> str:
    if last - first == 1:
        return str(first)
    middle = (first + last) // 2
    return f"({balanced_tree(first, middle)}+{balanced_tree(middle, last)})"


def measure() -> dict[str, dict[str, float]]:
    """The figures of each workload, for one operation, or a thousand of them."""
    return {
        "a balanced tree of sums": _figures([balanced_tree(1, 2049)], 2047),
        "a chain of float sums": _figures(["+".join(f"{n}.5" for n in range(200))], 199),
        "formulas of one shape": _figures([f"{n}+(2*{n})/4-5" for n in range(1, 1001)], 4000),
        "formulas of many shapes": _figures([_shape(n) for n in range(200)], 800),
    }


def _shape(number: int) -> str:
    signs = [("+-*/")[number // 4**place % 4] for place in range(4)]
    spaces = " " * (number // 256)
    return "7" + "".join(f"{sign}{spaces}{place + 2}" for place, sign in enumerate(signs))


def _figures(formulas: list[str], expected: int) -> dict[str, float]:
    run(formulas[:10])  # What is only done once is not counted.
    instructions, operations, leases = run(formulas)
    assert operations == expected
    return {
        "instructions an operation": round(instructions / operations, 1),
        "leases a thousand operations": round(1000 * leases / operations, 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=4))
