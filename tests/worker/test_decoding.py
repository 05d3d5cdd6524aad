"""Bodies with calls: arguments that cannot be decoded affect no other call, and take no time."""

from __future__ import annotations

import json
import time

import pytest

from dte.wire.codec import Malformed
from dte.wire.messages.calls import Calls
from dte.worker.decoding import SLOW_BYTES_MAX, SLOW_CALLS_MAX, CallDecoder

CALLS = CallDecoder(Calls, lambda several: several.calls)
DEEP = b"[" * 3_000 + b"]" * 3_000


def call(lease: int, args: bytes, more: bytes = b"") -> bytes:
    return (
        b'{"lease":%d,"job_id":1,"node":"n","handler":"h","args":%s,"timeout":null,'
        b'"attempt":1,"lease_s":10%s}' % (lease, args, more)
    )


def body(*calls: bytes) -> bytes:
    return b'{"calls":[%s]}' % b",".join(calls)


@pytest.mark.parametrize(
    "args",
    [
        DEEP,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        b'["]]]",{"x":"\\\\\\"}}","args":%s,"kwargs":[1]}]' % DEEP,
        b'["\\ud800", [1, {}]]',
        b"[ nul ]",
        b"[" + b'["a",[],{"b":[{}]}],' * 20 + DEEP + b"]",
    ],
)
def test_arguments_that_cannot_be_decoded_are_kept_as_they_are(args: bytes) -> None:
    flat = b'["args", {"args": [[]]}]'
    mixed = call(
        3, b"[1]", b',"kwargs" : %s' % (args if args.startswith(b"{") else b'{"a":%s}' % args)
    )
    decoded = CALLS.decode(body(call(1, flat), call(2, args), mixed, call(4, b"{}"))).calls
    assert [each.lease for each in decoded] == [1, 2, 3, 4]
    assert [bytes(each.args) for each in decoded] == [flat, args, b"[1]", b"{}"]
    assert args in bytes(decoded[2].kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raw",
    [
        body(call(1, DEEP))[:-1],
        body(call(1, DEEP[:-1])),
        body(call(1, b'["' + b"\\" * 501)),
        b"[" * 900_000,
        b'"' * 900_000,
        b'{"args":[' * 90_000,
    ],
)
def test_a_body_that_is_no_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        CALLS.decode(raw)


def test_a_long_body_is_not_read_twice() -> None:
    for size, is_read in ((SLOW_BYTES_MAX // 2, True), (SLOW_BYTES_MAX, False)):
        raw = body(call(1, DEEP), call(2, json.dumps(["x" * size]).encode()))
        if is_read:
            assert len(CALLS.decode(raw).calls) == 2
        else:
            with pytest.raises(Malformed):
                CALLS.decode(raw)


FILLS = [
    b"[",
    b"[]",
    b'"',
    b'"\\"',
    b"\\",
    b'["[",[]],',
    b'{"a":[{}]},',
    b'"args":[0],',
    b'"args":',
    b'{"args":[{"args":',
    b'"kwargs":{"',
]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("before", [b"", b'{"calls":[{"args":[' + DEEP + b","])
def test_the_worst_of_a_megabyte_takes_no_long_time(fill: bytes, before: bytes) -> None:
    """By the square of its length, it would take minutes."""
    raw = (before + fill * SLOW_BYTES_MAX)[:SLOW_BYTES_MAX]
    began = time.process_time()
    with pytest.raises(Malformed):
        CALLS.decode(raw)
    assert time.process_time() - began < 3


def test_more_arguments_than_a_worker_ever_gets_are_malformed() -> None:
    names = b",".join([b'"args":[0]'] * (SLOW_CALLS_MAX + 1))
    with pytest.raises(Malformed):
        CALLS.decode(body(call(1, b"[]", b"," + names + b',"args":' + DEEP)))
