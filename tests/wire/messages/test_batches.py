"""The messages as bytes: workers of other makes rely on them."""

from __future__ import annotations

from dte.wire.codec import Decoder, encode
from dte.wire.messages.batches import Announce, Batch, BatchResult, Refusal, Single, SingleResult


def test_a_name_alone_announces_a_worker_of_the_seed() -> None:
    """Port 6000, one request at a time, one operation a request, and no word of incarnations."""
    decoder: Decoder[Announce] = Decoder(Announce)
    assert decoder.decode(b'{"worker_name": "worker-1700000000"}') == Announce(
        "worker-1700000000", port=6000, slots=1, batch_max=1, incarnation="", draining=False
    )


def test_an_announcement_may_say_what_this_version_does_not_know() -> None:
    decoder: Decoder[Announce] = Decoder(Announce)
    assert decoder.decode(b'{"worker_name": "w", "colour": [1, {}]}') == Announce("w")


def test_defaults_of_an_announcement_are_not_sent() -> None:
    assert encode(Announce("w")) == b'{"worker_name":"w"}'
    assert encode(Announce("w", port=7000, draining=True)) == (
        b'{"worker_name":"w","port":7000,"draining":true}'
    )


def test_a_single_operation_has_the_seed_s_form() -> None:
    assert encode(Single("sum", 1, 2.5)) == b'{"operation":"sum","op1":1,"op2":2.5}'


def test_of_a_single_result_only_the_result_counts() -> None:
    decoder: Decoder[SingleResult] = Decoder(SingleResult)
    echo = b'{"operation": "sum", "op1": 1, "op2": 2, "result": 3}'
    assert decoder.decode(echo) == decoder.decode(b'{"result": 3}') == SingleResult(3)


def test_a_refusal_may_say_more_than_its_error() -> None:
    decoder: Decoder[Refusal] = Decoder(Refusal)
    assert decoder.decode(b'{"error": "division by zero", "code": 7}') == Refusal(
        "division by zero"
    )


def test_a_batch_is_columns() -> None:
    assert encode(Batch(7, "+/", [1, 2], [3, 4.0])) == (
        b'{"lease":7,"operations":"+/","op1":[1,2],"op2":[3,4.0]}'
    )


def test_a_batch_without_errors_does_not_mention_them() -> None:
    assert encode(BatchResult(7, [4])) == b'{"lease":7,"results":[4]}'


def test_errors_of_a_batch_are_found_by_their_place() -> None:
    encoded = b'{"lease":7,"results":[4,0],"errors":{"1":"division by zero"}}'
    batch = BatchResult(7, [4, 0], {1: "division by zero"})
    decoder: Decoder[BatchResult] = Decoder(BatchResult)
    assert encode(batch) == encoded
    assert decoder.decode(encoded) == batch
