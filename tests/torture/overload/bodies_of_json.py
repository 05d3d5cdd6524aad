"""Bodies that are hard to read: megabytes of small values, of long integers, of unknown names."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress

from torture.overload.scenario import Scenario
from torture.overload.turns import HEALTH_P99_MS, TURN_S, Ask, told

BYTES = 15_000_000
REQUESTS = 10
BASE_MB = 50
FILLS = (b"[]", b"{}", b'"ref"', b'{"ref":"a"}', b'{"ref":1}', b'{"literal":[]}', b'{"a":1}')
NAMES = b",".join(b'"k%x":0' % number for number in range(1_300_000))
LONG_INTEGERS = b",".join([b"-" + b"9" * 4_300] * 3_000)


def values(fill: bytes) -> bytes:
    """A list of as many values as make up 15 MB."""
    return b"[%s]" % b",".join([fill] * (BYTES // (len(fill) + 1)))


def call(args: bytes) -> bytes:
    """A graph in which a call, which no worker does, has these arguments and a reference."""
    return (
        b'{"graph":{"a":{"handler":"nobody"},"b":{"handler":"nobody","args":[%s,{"ref":"a"}]}}}'
        % args
    )


def arguments_with_a_reference(ask: Ask) -> None:
    for fill in FILLS:
        reply = ask("POST", "/jobs", call(values(fill)))
        if "job_id" in reply:
            ask("POST", f"/job/{reply['job_id']}/cancel")
    deep = b"[" * 400 + b"]" * 400
    for args in (b"{%s}" % NAMES, b'[{"literal":%s}]' % values(b'{"ref":"a"}'), values(deep)):
        ask("POST", "/jobs", call(args))


def arguments_that_wait(ask: Ask) -> None:
    body = call(values(b"[]"))
    for _ in range(REQUESTS):
        ask("POST", "/jobs", body)


def results_of_long_integers(ask: Ask) -> None:
    for batches in (
        b'[{"lease":1,"results":[%s]}]' % LONG_INTEGERS,
        b"[%s]" % b",".join([b'{"lease":1,"results":[-%s]}' % (b"9" * 4_300)] * 3_000),
        b'[{"lease":1,"results":[%s]}]' % (b"9" * BYTES),
    ):
        ask("POST", "/result", b'{"worker":"x","batches":%s}' % batches)


def dialects(ask: Ask) -> None:
    """Each of their routes that takes a body gets what is long in any of its fields."""
    for inner in (*map(values, FILLS), b"{%s}" % NAMES):
        ask("POST", "/submit-task", b'{"task_type":"nobody","task_data":%s}' % inner)
        ask("POST", "/submit-result", b'{"task_id":1,"worker_id":"w","primes":%s}' % inner)
        ask("POST", "/add_task", b'{"func_name":"process_data","args":%s}' % inner)
        ask("POST", "/task_status", b'{"task_id":"1","status":"COMPLETED","result":%s}' % inner)
        with suppress(ValueError):  # The reply is a text.
            ask("POST", "/tasks", b'{"name":"n","handler":"nobody","metadata":%s}' % inner)
    ask("POST", "/submit-result", b'{"task_id":1,%s}' % NAMES)
    sent = b64encode(values(b"[]"))
    ask("POST", "/tasks", b'{"name":"n","handler":"echo","args":"%s"}' % sent)


SCENARIOS = [
    Scenario(name, told(story), health_p99_ms=HEALTH_P99_MS, turn_s_most=TURN_S)
    for name, story in (
        ("15 MB of small values with references", arguments_with_a_reference),
        ("results of long integers", results_of_long_integers),
        ("15 MB of small values for the dialects", dialects),
    )
] + [
    Scenario(
        "10 times 15 MB with a reference",
        told(arguments_that_wait),
        memory_mb_most=BASE_MB + 3 * REQUESTS * BYTES / 1_000_000,
        turn_s_most=TURN_S,
    )
]
