"""Idempotency keys: new ones, and those that callers give."""

from __future__ import annotations

import pytest

from dte.client.keys import key_header, new_key
from dte.wire.messages.keys import KEY_CHARS_MAX


def test_new_keys_differ_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The master keeps them in an index: neighbours in time are neighbours there."""
    assert len({new_key() for _ in range(1000)}) == 1000
    keys = []
    for now_ns in (0, 1, 10**18, 1_800_000_000_000_000_000, 2**63):
        monkeypatch.setattr("time.time_ns", lambda now_ns=now_ns: now_ns)
        keys.append(new_key())
    assert keys == sorted(keys)


def test_a_new_key_is_one_that_a_caller_could_give() -> None:
    key = new_key()
    assert key_header(key) == {"Idempotency-Key": key}


@pytest.mark.parametrize("key", ["x", "order 17", "~!\"'%,;", "k" * KEY_CHARS_MAX])
def test_a_callers_key_is_taken_as_it_is(key: str) -> None:
    assert key_header(key) == {"Idempotency-Key": key}


@pytest.mark.parametrize(
    "key", ["", " ", " x", "x ", "x\n", "x\r\nHost: y", "\x7f", "é", "k" * (KEY_CHARS_MAX + 1), 17]
)
def test_what_does_not_travel_as_a_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 200 printable ASCII characters are expected"):
        key_header(key)
