"""Logs: as text or JSON, with nothing that a client could pass for a record of its own."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import datetime
from typing import Any

import pytest
from harness.until import until

from dte import logs
from dte.logs import (
    JsonFormatter,
    LimitedLog,
    LimitedLoggers,
    MessageFormatter,
    TextFormatter,
    one_line,
)

NASTY = (
    "x\n2030-01-01 00:00:00,000 ERROR dte.master: forged\r\x1b[31m\u2028\x85\0"
    "\u202e\u2066\u2069\x9b\u200b\ufeff\ud800"
)


def record(message: str, *args: object, exc_info: Any = None, **fields: object) -> Any:
    made = logging.LogRecord("dte.master", logging.WARNING, "", 0, message, args, exc_info)
    vars(made).update(fields)
    return made


def raised() -> Any:
    try:
        raise ValueError(NASTY)
    except ValueError:
        return sys.exc_info()


@pytest.mark.parametrize("exc_info", [None, raised()], ids=["message", "trace"])
def test_no_text_begins_a_line_of_its_own_or_controls_a_terminal(exc_info: Any) -> None:
    text = TextFormatter().format(record("it said %s", NASTY, exc_info=exc_info))
    first, *rest = text.split("\n")
    assert " WARNING dte.master: it said x" in first
    assert rest
    for line in rest:
        assert line.startswith("    ")
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b[31m" in text


def test_a_message_of_a_command_is_safe_too() -> None:
    text = MessageFormatter().format(record("it said %s", NASTY))
    first, *rest = text.split("\n")
    assert first == "dte: it said x"
    assert all(line.startswith("    ") for line in rest)
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_record_of_json_is_one_line_with_its_fields() -> None:
    text = JsonFormatter().format(record("job %d: %s", 7, NASTY, job=7, node="a", worker=None))
    assert text.isascii()
    assert text.isprintable()
    entry = json.loads(text)
    assert datetime.fromisoformat(entry.pop("time")).utcoffset() is not None
    assert entry == {
        "level": "WARNING",
        "logger": "dte.master",
        "message": f"job 7: {NASTY}",
        "job": 7,
        "node": "a",
        "worker": None,
    }


def test_a_field_cannot_replace_what_each_record_has() -> None:
    entry = json.loads(JsonFormatter().format(record("true", level="forged", time="forged")))
    assert (entry["level"], entry["message"]) == ("WARNING", "true")
    assert entry["time"] != "forged"


def test_a_trace_is_a_field_of_json() -> None:
    entry = json.loads(JsonFormatter().format(record("it failed", exc_info=raised())))
    assert entry["message"] == "it failed"
    assert "ValueError" in entry["trace"]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_record_is_cut_where_it_gets_long(formatter: logging.Formatter) -> None:
    text = formatter.format(record("%s", "x" * 1_000_000, error="y" * 1_000_000))
    assert len(text) < logs.MESSAGE_CHARS_MAX + logs.FIELD_CHARS_MAX + 300


def test_a_text_becomes_one_line() -> None:
    assert one_line("a\n b\t\u2028 c ") == "a b c"
    assert one_line("x" * 100, 10) == "xxxxxxxxx…"


async def test_of_many_records_of_a_kind_the_first_are_logged_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = LimitedLog(logging.getLogger("dte.test"))
    for number in range(logs.LINES_MAX + 7):
        log.add("failed attempts", logging.WARNING, "attempt %d", number, job=number)
    log.add("lost workers", logging.WARNING, "worker w")
    attempts = [f"attempt {number}" for number in range(logs.LINES_MAX)]
    assert caplog.messages == [*attempts, "worker w"]
    assert vars(caplog.records[3])["job"] == 3
    log.close()
    assert "7 more failed attempts" in caplog.messages[-1]
    assert len(caplog.messages) == logs.LINES_MAX + 2
    log.close()
    log.add("failed attempts", logging.WARNING, "next")
    assert caplog.messages[-1] == "next"


async def test_what_is_left_out_is_counted_by_itself_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "WINDOW_S", 0.01)
    log = LimitedLog(logging.getLogger("dte.test"))
    for _ in range(logs.LINES_MAX + 1):
        log.add("failed attempts", logging.WARNING, "attempt")
    await until(lambda: "1 more failed attempts" in caplog.text, "it is counted")
    assert not log._windows


async def test_what_the_level_excludes_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "dte.test")
    log = LimitedLog(logging.getLogger("dte.test"))
    for _ in range(100):
        log.add("retries", logging.INFO, "again")
    log.close()
    assert not caplog.messages


def test_of_many_records_of_a_library_the_first_are_logged_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that sends malformed requests must not fill the operator's disk."""
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(LimitedLoggers())
    library, own = logging.getLogger("tornado.general"), logging.getLogger("dte.test")
    for log in (library, own):
        monkeypatch.setattr(log, "handlers", [handler])
    for number in range(logs.LINES_MAX + 7):
        library.warning("malformed request %d", number)
        own.warning("own")
    lines = stream.getvalue().splitlines()
    assert lines.count("own") == logs.LINES_MAX + 7
    assert sum("malformed" in line for line in lines) == logs.LINES_MAX
    now += logs.WINDOW_S + 1
    library.warning("malformed request again")
    library.warning("and again")
    last = stream.getvalue().splitlines()[-3:]
    assert last[0].startswith("7 more ")
    assert last[1:] == ["malformed request again", "and again"]


async def test_a_limited_record_has_the_trace_of_its_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ZeroDivisionError("no")
    LimitedLog(logging.getLogger("dte.test")).add("faults", logging.ERROR, "GET /", exception=error)
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error
