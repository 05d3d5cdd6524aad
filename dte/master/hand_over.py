"""Makes the messages that hand calls over, unless nobody could read their arguments."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import LONG_BYTES, CallState
from dte.core.graph.call import Call as GraphCall
from dte.core.graph.json_template import JsonTemplate
from dte.master.messages import call_of
from dte.master.slices import Slices
from dte.wire.messages.calls import Call
from dte.wire.nesting import ARGUMENT_LEVELS_MAX, search_deeper

TOO_DEEP = Outcome(
    CallState.FAILED,
    None,
    f"arguments nest more than {ARGUMENT_LEVELS_MAX} levels deep once results are filled in",
    retry=False,
)


async def message_of(lease: CallLease, slices: Slices) -> Call | None:
    """The message that hands a call over; None if its outcome is `TOO_DEEP`.

    A worker could not decode such a message, nor the other calls in the same request.
    """
    call = lease.call
    if lease.unsent > LONG_BYTES:  # The messages of many calls are made one at a time.
        filled = await slices.run(_filling(call))
    else:
        filled = _filled(call)
    if filled is None:
        return call_of(lease)  # What a client sent was measured when it came.
    levels_max = ARGUMENT_LEVELS_MAX + call.mixed
    if len(filled) > levels_max and await slices.run(search_deeper(filled, levels_max)):
        return None
    return call_of(lease, msgspec.Raw(filled))


def _filled(call: GraphCall) -> bytes | None:
    """The arguments of a call with its operands in them; None if none go in."""
    if not call.operands or not isinstance(call.args, JsonTemplate):
        return None
    return call.args.fill(call.operands)


def _filling(call: GraphCall) -> Generator[None, None, bytes | None]:
    filled = _filled(call)
    yield  # What is done with it takes as long again.
    return filled
