"""Logs for operators: as text or as JSON, each record bounded, and few of each kind.

What clients and workers say stands in log messages. So control characters are escaped, further
lines of a message are indented, and no text can pass for a record of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from dte.core.printable import printable

FORMATS = ("text", "json")
AUDIT = "dte.audit"
"""The logger of what tokens did; its records are for programs, so they are in JSON alone."""
MESSAGE_CHARS_MAX = 4_000
FIELD_CHARS_MAX = 1_000
TRACE_CHARS_MAX = 20_000
LINES_MAX = 10
"""Records of a kind in `WINDOW_S`; more are counted and left out."""
WINDOW_S = 10.0
LIMITED = ("tornado", "asyncio", "dte.wire", "dte.worker.spool")
"""Loggers of libraries, layers and threads that cannot use `LimitedLog`."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Attributes of every record; the others are its fields."""


def configure(level: str, log_format: str = "text") -> None:
    """Log to stderr, from a level on.

    Args:
        log_format: one of `FORMATS`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(LimitedLoggers())
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger(AUDIT).setLevel(logging.INFO if log_format == "json" else logging.WARNING)


def configure_for_command() -> None:
    """Have the warnings of a command, which has no log, appear like its other messages."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(MessageFormatter())


class TextFormatter(logging.Formatter):
    """Formats a record as a line, with further lines indented."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.head(record)}: {_message_of(record)}"
        if record.exc_info:
            text += f"\n{_trace_of(record)}"
        return "\n    ".join(map(printable, text.split("\n")))

    def head(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname} {record.name}"


class MessageFormatter(TextFormatter):
    """Formats a record as a message of a command."""

    def head(self, record: logging.LogRecord) -> str:
        return "dte"


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: ``time``, ``level``, ``logger``, ``message``, fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": _message_of(record),
        }
        for name, value in vars(record).items():
            if name not in STANDARD and name not in entry:
                is_number = isinstance(value, (int, float)) or value is None
                entry[name] = value if is_number else cut(str(value), FIELD_CHARS_MAX)
        if record.exc_info:
            entry["trace"] = _trace_of(record)
        return json.dumps(entry)


def writes_json() -> bool:
    """True if the log of this process is JSON, so that all other lines on stderr have to be."""
    handlers = logging.getLogger().handlers
    return any(isinstance(handler.formatter, JsonFormatter) for handler in handlers)


class LimitedLoggers(logging.Filter):
    """Passes the first records of a logger and level in `WINDOW_S`, and counts the others.

    The number of others is logged with the first record after that time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(LIMITED):
            return True
        kind = record.name, record.levelno
        now = time.monotonic()
        since, logged = self._windows.get(kind, (now, 0))
        is_over = now - since > WINDOW_S
        self._windows[kind] = (now, 1) if is_over else (since, logged + 1)
        if is_over and logged > LINES_MAX:
            left_out = logged - LINES_MAX
            text = "%d more records of this kind were left out before"
            logging.getLogger(record.name).log(
                record.levelno, text, left_out, extra={"left_out": left_out}
            )
        return is_over or logged < LINES_MAX


class LimitedLog:
    """Logs the first records of each kind, and the number of those that were left out.

    Used on an event loop. Kinds are few: they come from the program, and not from its users.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._windows: dict[str, _Window] = {}

    def add(
        self,
        kind: str,
        level: int,
        text: str,
        *args: object,
        exception: BaseException | None = None,
        **fields: object,
    ) -> None:
        """Log a record, unless there have been too many of its kind.

        Args:
            kind: a plural noun, as in "10 failed attempts".
            exception: whose trace is logged too.
            fields: of the record, for programs.
        """
        if not self._log.isEnabledFor(level):
            return
        loop = asyncio.get_running_loop()
        window = self._windows.get(kind)
        if window is None or window.loop is not loop:
            window = self._windows[kind] = _Window(level, loop)
            loop.call_later(WINDOW_S, self._end, kind)
        window.logged += 1
        if window.logged <= LINES_MAX:
            self._log.log(level, text, *args, exc_info=exception, extra=fields)

    def _end(self, kind: str) -> None:
        window = self._windows.pop(kind, None)
        if window is not None and window.logged > LINES_MAX:
            left_out = window.logged - LINES_MAX
            text = "in %g s: %d more %s, which are left out here"
            seconds = round(time.monotonic() - window.since, 1)
            self._log.log(window.level, text, seconds, left_out, kind, extra={"left_out": left_out})

    def close(self) -> None:
        """Log now what has been left out."""
        for kind in list(self._windows):
            self._end(kind)


class _Window:
    """The records of a kind within some seconds."""

    def __init__(self, level: int, loop: asyncio.AbstractEventLoop) -> None:
        self.level = level
        self.loop = loop
        self.logged = 0
        self.since = time.monotonic()


def one_line(text: str, chars_max: int = FIELD_CHARS_MAX) -> str:
    """A text as one line of bounded length."""
    return cut(" ".join(text[: 2 * chars_max].split()), chars_max)


def cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def _message_of(record: logging.LogRecord) -> str:
    return cut(record.getMessage(), MESSAGE_CHARS_MAX)


def _trace_of(record: logging.LogRecord) -> str:
    """The trace of a record's exception; of a long one the end, which says most."""
    assert record.exc_info
    trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return trace if len(trace) <= TRACE_CHARS_MAX else f"…{trace[-TRACE_CHARS_MAX:]}"
