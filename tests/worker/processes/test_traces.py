"""Protects: a trace shows a handler's frames, and the causes, as Python does; and it is short."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dte.worker.processes.channel import TRACE_CHARS_MAX
from dte.worker.processes.tasks import SHARED_NUMBERS, _Noted
from dte.worker.processes.traces import SOURCE_BYTES_MAX, trace_of


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def trace(function: Callable[[], object]) -> str:
    return trace_of(caught(function), [caught.__code__])


def fail() -> None:
    raise ValueError("no luck")


def fail_again() -> None:
    try:
        fail()
    except ValueError as error:
        error.add_note("a note")
        raise KeyError("again") from error


def descend(levels: int) -> None:
    if levels:
        descend(levels - 1)
    fail()


def test_a_trace_begins_with_the_first_frame_of_the_handler() -> None:
    first, second, *_, last = trace(fail).splitlines()
    assert first == "Traceback (most recent call last):"
    assert second.endswith(", in fail")
    assert f'"{__file__}"' in second
    assert last == "ValueError: no luck"
    assert 'raise ValueError("no luck")' in trace(fail)


def test_the_cause_comes_first() -> None:
    lines = trace(fail_again).splitlines()
    words = "The above exception was the direct cause of the following exception:"
    order = [lines.index(line) for line in ("ValueError: no luck", "a note", words)]
    assert order == sorted(order)
    assert lines[-1] == "KeyError: 'again'"


def test_an_exception_without_frames_has_no_trace() -> None:
    assert trace_of(ValueError("no luck"), []) == ""


@pytest.mark.parametrize("kind", ["a device", "a pipe", "a folder", "a huge file", "none at all"])
def test_a_file_that_is_no_source_is_named_and_never_read(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "source.py"
    if kind == "a device":
        file = Path("/dev/zero")
    elif kind == "a pipe":
        os.mkfifo(file)
    elif kind == "a folder":
        file.mkdir()
    elif kind == "a huge file":
        file.touch()
        os.truncate(file, SOURCE_BYTES_MAX + 1)
    code = compile("1 / 0", file, "exec")
    text = trace(lambda: exec(code))
    assert f'File "{file}", line 1, in <module>' in text
    assert text.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_tasks_of_a_handler_show_no_frame_of_their_process() -> None:
    async def inner() -> None:
        fail()

    async def waits() -> None:
        await asyncio.gather(inner())

    def run() -> None:
        with asyncio.Runner() as runner:
            runner.get_loop().set_task_factory(
                lambda loop, coroutine, **more: asyncio.Task(
                    _Noted(coroutine, 1, [0] * SHARED_NUMBERS),  # type: ignore[arg-type]
                    loop=loop,
                    **more,
                )
            )
            runner.run(waits())

    text = trace(run)
    assert "in inner" in text
    assert "in fail" in text
    assert os.path.join("worker", "processes", "tasks.py") not in text


def test_the_middle_of_a_deep_stack_is_left_out() -> None:
    text = trace(lambda: descend(500))
    assert "478 frames are left out" in text
    assert text.endswith("ValueError: no luck\n")
    assert len(text) <= TRACE_CHARS_MAX


def test_the_exceptions_of_a_group_are_shown() -> None:
    def fail_twice() -> None:
        raise ExceptionGroup("two", [caught(fail), caught(fail_again)])  # type: ignore[type-var]

    text = trace(fail_twice)
    assert "ExceptionGroup: two (2 sub-exceptions)" in text
    assert "  exception 2 of 2:" in text
    assert "    KeyError: 'again'" in text


def test_of_many_causes_the_last_are_shown() -> None:
    def fail_often() -> None:
        error = caught(fail)
        for number in range(100):
            after = ValueError(str(number))
            after.__cause__ = error
            error = after
        raise error

    text = trace(fail_often)
    assert text.startswith("(Exceptions before these are left out.)")
    assert text.endswith("ValueError: 99\n")
