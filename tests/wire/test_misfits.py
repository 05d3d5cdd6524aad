"""A part of JSON that does not have its type is named in words of dte, with its place."""

from __future__ import annotations

from typing import Any

import pytest

from dte.master.api.submission import JobSubmission
from dte.wire import misfits
from dte.wire.messages.batches import Announce
from dte.wire.messages.calls import Claim, Extend, Reports
from dte.wire.misfits import explained

MOMENT = "a time such as 2030-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            b'{"graph": {"a": {"handler": "x", "arg": [1]}}}',
            "node 'a': unknown field 'arg'; did you mean 'args'?",
        ),
        (
            b'{"graph": {"a": {"handler": "x", "when": "dne"}}}',
            """node 'a': when must be "done" or "success", not "dne\"""",
        ),
        (
            b'{"graph": {"a": {"handler": "x", "not_before": "tomorrow"}}}',
            f"""node 'a': not_before must be {MOMENT}, not "tomorrow\"""",
        ),
        (
            b'{"jobs": [{"formula": "1"}, {"graph": {"a": {"args": []}}}]}',
            "job 1 of the request: node 'a': the field 'handler' is missing",
        ),
        (b'{"jobs": [{"formula": 1}]}', "job 0 of the request: formula must be a text, not 1"),
        (b'{"graph": {"a": 5}}', "node 'a': must be an object, not 5"),
        (b'{"graph": []}', "graph must be an object, not a list"),
        (b'{"after": ["1"]}', 'after[0] must be an integer, not "1"'),
        (b'{"priority": 1.5}', "priority must be an integer, not 1.5"),
        (b'{"priority": true}', "priority must be an integer, not true"),
        (b'{"timeout": "5"}', 'timeout must be a number, not "5"'),
        (b'{"colour": 1}', "unknown field 'colour'"),
        (b"[1]", "the JSON must be an object, not a list"),
        (b'{"graph": ', "the JSON ends too soon (line 1, column 11)"),
        (b'{"formula": "\xff"}', "not UTF-8: byte 0xff at position 13"),
    ],
)
def test_a_fault_of_a_job_names_the_node_and_the_field(raw: bytes, text: str) -> None:
    assert explained(raw, JobSubmission) == text


@pytest.mark.parametrize(
    ("shape", "raw", "text"),
    [
        (Announce, b"{}", "the field 'worker_name' is missing"),
        (
            Extend,
            b'{"worker": "w", "progress": {"a": {}}}',
            'progress has the key "a"; keys are integers',
        ),
        (Claim, b'{"worker": "w", "handlers": 5}', "handlers must be an object or a list, not 5"),
        (
            Claim,
            b'{"worker": "w", "handlers": {"a": {"timeout": "x"}}}',
            'handlers.a.timeout must be a number, not "x"',
        ),
        (
            Reports,
            b'{"worker": "w", "results": [{"lease": 1}, {"lease": null}]}',
            "results[1].lease must be an integer, not null",
        ),
    ],
)
def test_a_fault_of_a_worker_s_message_names_the_field(shape: Any, raw: bytes, text: str) -> None:
    assert explained(raw, shape) == text


def test_long_values_are_cut() -> None:
    raw = b'{"formula": ["' + b"x" * 1_000 + b'"], "' + b"y" * 1_000 + b'": 1}'
    text = explained(raw, JobSubmission)
    assert text is not None
    assert len(text) < 100


def test_what_fits_has_no_explanation() -> None:
    raw = b'{"graph": {"a": {"handler": "x", "args": [{"b": 1}], "when": "done", "delay": 1}}}'
    assert explained(raw, JobSubmission) is None


def test_long_json_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misfits, "READ_BYTES_MAX", 10)
    assert explained(b'{"formula": 1}', JobSubmission) is None
