"""Facts that cannot be recorded because of what is in them, and what is recorded in their place.

A result may be too long for the journal. Then a failure is recorded in its place, so that one job
fails and all others go on.
"""

from __future__ import annotations

from itertools import chain

from dte.core.graph.call import CallRecord, CallState
from dte.core.jobs.facts import End, Facts, Step
from dte.core.jobs.job import JobState


def together(parts: list[Facts]) -> Facts:
    """The facts of several parts, in their order."""
    return Facts(
        list(chain.from_iterable(part.submissions for part in parts)),
        list(chain.from_iterable(part.ends for part in parts)),
        list(chain.from_iterable(part.steps for part in parts)),
        list(chain.from_iterable(part.cancels for part in parts)),
    )


def without(facts: Facts, some: Facts) -> Facts:
    """Facts but for some of them."""
    out = {*some.submissions, *some.ends, *some.steps, *some.cancels}
    return Facts(
        [each for each in facts.submissions if each not in out],
        [each for each in facts.ends if each not in out],
        [each for each in facts.steps if each not in out],
        [each for each in facts.cancels if each not in out],
    )


def cut_down(facts: Facts, reason: str) -> Facts:
    """Make failures of ends that were refused, so that they can be recorded.

    Returns:
        The facts in which there is nothing more to leave out. They can never be recorded.
    """
    return Facts(
        [],
        [end for end in facts.ends if not _cut_end(end, reason)],
        [step for step in facts.steps if not _cut_step(step, reason)],
        facts.cancels,
    )


def _cut_step(step: Step, reason: str) -> bool:
    record = step.record
    if record.lease:
        return False
    if record.value is None and record.trace is None and record.error == reason:
        return False
    _fail(record, reason)
    if step.call.state is CallState.ENDING:
        _fail(step.call.record, reason)
    return True


def _cut_end(end: End, reason: str) -> bool:
    if end.answer is None and end.trace is None and end.error == reason:
        return False
    if end.state is not JobState.CANCELLED:
        end.state = JobState.FAILED
    end.answer, end.error, end.trace, end.events = None, reason, None, ()
    for call in end.job.each_call():
        if call.recorded:
            continue
        if call.pure:
            call.recorded = True  # A pure call without a record is made again by a retry.
        else:
            _fail(call.record, reason)
            if call.state is CallState.SUCCEEDED:
                call.replace_end(CallState.FAILED)
                end.job.result_lost()
    return True


def _fail(record: CallRecord, reason: str) -> None:
    if record.state is CallState.SUCCEEDED:
        record.state = CallState.FAILED
    record.value, record.error, record.trace = None, reason, None
