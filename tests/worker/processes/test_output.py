"""What handlers print and log is passed on at once, with the call that did it, and bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from harness.until import until

from dte import logs
from dte.wire.messages.calls import Call
from dte.worker.processes import output
from dte.worker.processes.output import LINE_CHARS_MAX, LINES_PER_S, _Writer, shown
from worker.rig import StartRig


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """The lines that handlers print, each with the lease of its call."""
    lines: list[tuple[int, str]] = []

    def on_line(call: Call | None, text: str) -> None:
        lines.append((0 if call is None else call.lease, text))

    monkeypatch.setattr(output, "print_line", on_line)
    return lines


async def test_all_that_a_call_prints_and_logs_is_passed_on_before_it_ends(
    rig: StartRig, printed: list[tuple[int, str]]
) -> None:
    await rig().value("print_in_all_ways")
    assert {lease for lease, _ in printed} == {1}
    assert [text for _, text in printed] == [
        "printed with spaces",
        "to stderr",
        "INFO deeds: logged 7",
        "\N{REPLACEMENT CHARACTER}written\\x1b",
        "bytes",
        "from a program",
        "from its stderr",
        "from C",
        "unfinished",
    ]


async def test_flushed_text_without_a_line_s_end_outlives_the_process(
    rig: StartRig, printed: list[tuple[int, str]]
) -> None:
    await rig().error("print_and_exit")
    assert printed == [(1, "begun ... kept")]


async def test_a_cut_line_is_followed_by_no_empty_one(
    rig: StartRig, printed: list[tuple[int, str]]
) -> None:
    await rig().value("print_a_long_line")
    first, *others = [text for _, text in printed]
    assert len(first) == LINE_CHARS_MAX
    assert others == ["next", "", "last"]


async def test_lines_left_out_are_counted_while_the_call_prints_nothing_more(
    rig: StartRig, printed: list[tuple[int, str]], tmp_path: Path
) -> None:
    one = rig()
    lease = one.start("print_too_much_and_wait", 3 * LINES_PER_S, str(tmp_path / "end"))
    await until(lambda: any("left out" in text for _, text in printed), "the note")
    assert lease not in one.reports
    (tmp_path / "end").touch()
    await one.report(lease)


async def test_lines_of_async_calls_are_told_apart(
    rig: StartRig, printed: list[tuple[int, str]]
) -> None:
    two = rig(slots=2)
    leases = {name: two.start("print_beside_others", name) for name in ("a", "b")}
    for name, lease in leases.items():
        await two.value_of(lease)
        lines = [text for of, text in printed if of == lease]
        each = [f"{name} {number}" for number in range(3)]
        in_thread = f"{name} in a thread"
        assert lines == [
            each[0],
            in_thread,
            each[1],
            in_thread,
            each[2],
            in_thread,
            f"{name} unfinished",
        ]


async def test_a_flood_of_lines_is_cut_counted_and_does_not_stop_its_call(
    rig: StartRig, printed: list[tuple[int, str]]
) -> None:
    one = rig()
    assert await one.value("print_much", 100_000) == 100_000
    await one.executor.close()
    lines = [text for _, text in printed]
    passed_on = lines.count("x" * 10)
    left_out = sum(int(text.rpartition(": ")[2]) for text in lines if "left out" in text)
    assert passed_on + left_out == 100_000
    assert left_out
    assert passed_on >= LINES_PER_S


async def test_binary_output_is_harmless(rig: StartRig, printed: list[tuple[int, str]]) -> None:
    assert await rig().value("print_rubbish") == "printed"
    assert printed
    assert all(text.replace("\t", "").isprintable() for _, text in printed)
    assert max(len(text) for _, text in printed) <= LINE_CHARS_MAX


def test_lines_are_cut_and_safe_to_print() -> None:
    assert shown(b"a\x1b[31m\r") == "a\\x1b[31m"
    assert shown(b"\xc3\xa9\tb") == "\u00e9\tb"
    text = shown(b"x" * 100_000)
    assert (len(text), text[-1]) == (LINE_CHARS_MAX, "…")


async def test_a_writer_never_waits_for_a_reader_and_counts_what_it_leaves_out() -> None:
    reader, fileno = os.pipe()
    writer = _Writer(fileno)
    line = b"x" * 999 + b"\n"
    for _ in range(5_000):
        writer.write(line)
    received = bytearray()

    os.set_blocking(reader, False)

    def read() -> bool:
        with suppress(BlockingIOError):
            received.extend(os.read(reader, 100_000))
        return not writer._waiting

    await until(read, "the lines that fit are written")
    writer.write(b"last\n")
    with suppress(BlockingIOError):
        while True:
            received += os.read(reader, 100_000)
    *lines, told, last = bytes(received).splitlines()
    assert last == b"last"
    assert told.startswith(b"lines left out, because nobody read stderr: ")
    assert len(lines) + int(told.rpartition(b" ")[2]) == 5_000
    os.close(reader)
    writer.write(b"nobody reads this\n")
    await asyncio.sleep(0)
    os.close(fileno)


@pytest.fixture
def json_log() -> Iterator[None]:
    """The log of this process is JSON meanwhile."""
    handler = logging.StreamHandler()
    handler.setFormatter(logs.JsonFormatter())
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


@pytest.mark.usefixtures("json_log")
async def test_lines_of_handlers_are_json_where_the_log_is(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    writer = _Writer(writing)
    monkeypatch.setattr(output, "_stderr", writer)
    call = Call(1, 7, "a\nb", "hello", msgspec.Raw(b"[]"), None, 1, 10.0)
    output.print_line(call, 'says "hi"')
    output.print_line(None, "of nobody")
    writer._left_out = 3
    output.print_line(None, "the last")
    os.close(writing)
    with open(reading) as file:
        lines = [json.loads(line) for line in file]
    assert [(line["message"], line.get("job"), line.get("node")) for line in lines] == [
        ('says "hi"', 7, "a\nb"),
        ("of nobody", None, None),
        ("lines left out, because nobody read stderr: 3", None, None),
        ("the last", None, None),
    ]
    assert {(line["level"], line["logger"]) for line in lines} == {("INFO", "dte.handlers")}
