"""Translates between the core and the wire: leases into messages, reports into outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import msgspec

from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.errors import InvalidRequest
from dte.core.graph import call as core
from dte.core.graph.call import NULL, CallState, filled
from dte.core.graph.handlers import HandlerPolicy, check_handler
from dte.core.graph.json_template import JsonTemplate
from dte.master.checks import check_range
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.batches import Batch
from dte.wire.messages.calls import Call, Report
from dte.wire.messages.handlers import BUILT_IN, BUILT_IN_NAMES, Handlers

HANDLERS_MAX = 1_000
RETRIES_MAX = 1_000
DECODED_BYTES_MAX = 1_000_000


class _Mix(msgspec.Struct):
    """The arguments of a call that has some by position and some by name."""

    args: msgspec.Raw
    kwargs: msgspec.Raw


_any: Decoder[Any] = Decoder(Any)
_mix: Decoder[_Mix] = Decoder(_Mix, lenient=False)


# To workers


def batch_of(lease: BatchLease) -> Batch:
    """The message that hands a batch of arithmetic to a worker."""
    return Batch(lease.number, *lease.columns())


def call_of(lease: CallLease, args: msgspec.Raw | None = None) -> Call:
    """The message that hands a call to a worker, with results in place of references.

    Args:
        args: the arguments, if they are known already.
    """
    call, worker = lease.call, lease.worker
    handler = call.handler
    if call.origin and worker is not None and handler in worker.announcement.replaced:
        handler = f"{BUILT_IN}{handler}"
    message = Call(
        lease.number,
        call.job,
        call.name,
        handler,
        json_of(call.args, call.operands) if args is None else args,
        lease.timeout_s,
        call.record.attempts,
        lease.lease_s,
    )
    if call.mixed:
        mix = _mix.decode(bytes(message.args))
        message.args, message.kwargs = mix.args, mix.kwargs
    return message


def json_of(args: Any, values: Mapping[str, bytes]) -> msgspec.Raw:
    """The JSON of a call's arguments, with values in place of references."""
    if isinstance(args, msgspec.Raw):
        return args
    if isinstance(args, JsonTemplate):
        return msgspec.Raw(args.fill(values))
    raw = {name: msgspec.Raw(value) for name, value in values.items()}
    return msgspec.Raw(encode(filled(args, raw)))


def known_json_of(call: core.Call, unknown: Callable[[str], bytes]) -> msgspec.Raw:
    """The JSON of a call's arguments, with the results that are known in place of references.

    Args:
        unknown: returns what stands for any other result, by the name of its call.
    """
    values = {name: call.operands.get(name) or unknown(name) for name in call.refs}
    return json_of(call.args, values)


def arguments(call: core.Call) -> Any:
    """The arguments of a call, with results in place of references; None if they are not JSON.

    Long ones stay JSON: to decode them would stop the loop for too long.
    """
    raw = bytes(known_json_of(call, lambda name: NULL))
    if len(raw) > DECODED_BYTES_MAX:
        return msgspec.Raw(raw)
    try:
        return _any.decode(raw)
    except Malformed:
        return None


# From workers


def policies(handlers: Handlers) -> Mapping[str, HandlerPolicy]:
    """The policies of the handlers that a worker announces."""
    if len(handlers) > HANDLERS_MAX:
        raise InvalidRequest(f"too many handlers: {len(handlers)} > {HANDLERS_MAX}")
    for name in handlers:
        check_handler(name, "handlers: ")
    if isinstance(handlers, list):
        return dict.fromkeys(handlers, HandlerPolicy())
    known = {}
    for name, info in handlers.items():
        if info.timeout is not None and not (isfinite(info.timeout) and info.timeout > 0):
            expected = f"the timeout of {name} must be more than 0"
            raise InvalidRequest(f"handlers: {expected}, not {info.timeout}")
        check_range(f"handlers: retries of {name}", info.retries, 0, RETRIES_MAX)
        known[name] = HandlerPolicy(info.timeout, info.retries, info.pure)
    return known


def replaced(handlers: Handlers, own: Mapping[str, HandlerPolicy]) -> Mapping[str, HandlerPolicy]:
    """The policies of the built-in handlers that a worker's own ones replace."""
    known = policies(handlers).items()
    return {name: policy for name, policy in known if name in own and name in BUILT_IN_NAMES}


def outcome_of_report(report: Report, bytes_max: int) -> Outcome:
    """The outcome of a call by its worker's report. A result beyond `bytes_max` is a failure."""
    if report.state == "lost":
        return Outcome(None, None, report.error, lost=True)
    if report.state == "returned":
        return Outcome(None, None, report.error, begun=report.begun)
    succeeded = report.error is None and report.state in (None, "succeeded")
    if report.result is not msgspec.UNSET and succeeded:
        return outcome_of_result(bytes(report.result), bytes_max)
    if report.error is None and report.state is None:
        raise InvalidRequest(f"lease {report.lease}: a result, an error or a state is expected")
    state = CallState(report.state or "failed")
    if state is CallState.SUCCEEDED:
        raise InvalidRequest(f"lease {report.lease} succeeded without a result")
    return Outcome(state, None, report.error or state.value, report.retry, trace=report.trace)


def outcome_of_result(result: bytes, bytes_max: int) -> Outcome:
    """The outcome of a call that returned a result; a failure if nobody could read that."""
    if len(result) > bytes_max:
        error = f"its result has {len(result)} bytes, more than {bytes_max} (value_bytes_max)"
        return Outcome(CallState.FAILED, None, error, retry=False)
    try:
        result.decode()
    except UnicodeDecodeError:
        return Outcome(CallState.FAILED, None, "its result is not in UTF-8", retry=False)
    return Outcome(CallState.SUCCEEDED, result)
