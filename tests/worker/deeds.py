"""Handlers that tests of the executor call."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dte.handlers.progress import progress
from dte.handlers.registry import handler

if multiprocessing.parent_process() is not None:
    match os.environ.get("DEEDS_FAIL_IN_CHILDREN"):
        case "raise":
            raise RuntimeError("not in children")
        case "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "hang":
            time.sleep(1000)


def note(path: str, text: object) -> None:
    """Write a file, so that a reader finds all of it or none."""
    beside = Path(f"{path}.new")
    beside.write_text(str(text))
    beside.rename(path)


@handler("pid")
def pid() -> int:
    return os.getpid()


@handler("pid_async")
async def pid_async() -> int:
    await asyncio.sleep(0)
    return os.getpid()


@handler("touch")
def touch(path: str) -> None:
    note(path, os.getpid())


@handler("wait_for_file")
def wait_for_file(mine: str, other: str) -> str:
    note(mine, os.getpid())
    while not Path(other).exists():
        time.sleep(0.005)
    return "seen"


@handler("spin")
def spin(path: str, ignore: bool = False) -> None:
    if ignore:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(path, os.getpid())
    while True:
        pass


@handler("hold_the_lock")
def hold_the_lock(path: str) -> int:
    note(path, os.getpid())
    return 3 ** (10**9)


@handler("start_program")
def start_program(path: str) -> None:
    with subprocess.Popen(["sleep", "1000"]) as program:
        note(path, program.pid)


@handler("exit")
def exit_at_once(code: int) -> None:
    os._exit(code)


@handler("signal")
def signal_itself(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(1000)


@handler("ends_of_programs")
def ends_of_programs() -> list[int]:
    """Give the exit codes of programs and processes that each get a signal."""
    codes = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as program:
            program.send_signal(number)
        codes.append(program.returncode)
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    forked.start()
    forked.terminate()
    forked.join()
    return [*codes, forked.exitcode or 0]


@handler("handle_signals")
def handle_signals(path: str) -> list[int]:
    """Give the signals that this handler's own functions got, SIGTERM as the last."""
    got: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, frame: got.append(number))
    note(path, os.getpid())
    while signal.SIGTERM not in got:
        time.sleep(0.005)
    return got


@handler("print_in_all_ways")
def print_in_all_ways() -> None:
    print("printed", "with spaces")
    print("to stderr", file=sys.stderr)
    logging.getLogger("deeds").info("logged %d", 7)
    logging.getLogger("deeds").debug("not shown")
    os.write(1, b"\xffwritten\x1b\n")
    sys.stdout.buffer.write(b"bytes\n")
    subprocess.run(["/bin/sh", "-c", "echo from a program; echo from its stderr >&2"], check=True)
    ctypes.CDLL(None).puts(b"from C")
    print("unfinished", end="")


@handler("print_beside_others")
async def print_beside_others(name: str) -> None:
    for number in range(3):
        print(name, end=" ")
        await asyncio.sleep(0.01)
        print(number)
        await asyncio.to_thread(print, f"{name} in a thread")
    print(name, "unfinished", end="")


@handler("print_much")
def print_much(lines: int, bytes_per_line: int = 10) -> int:
    for _ in range(lines):
        print("x" * bytes_per_line)
    return lines


@handler("print_rubbish")
def print_rubbish() -> str:
    for _ in range(50):
        sys.stdout.buffer.write(os.urandom(100_000))
    return "printed"


@handler("fail")
def fail(text: str) -> None:
    raise ValueError(text)


@handler("fail_by_half_a_pair")
def fail_by_half_a_pair() -> None:
    raise ValueError("\udcff")


@handler("leave")
def leave() -> None:
    raise SystemExit("enough")


@handler("allocate")
def allocate(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


@handler("give")
def give(what: str) -> Any:
    return {
        "object": object(),
        "infinity": [1.0, {"a": float("inf")}],
        "none": [None, "null"],
        "half a pair": "\ud800",
        "long": 7**20_000,
        "text": "x" * 2000,
        "deep": eval("[" * 90 + "]" * 90),
    }[what]


@handler("go_on")
def go_on(steps: int) -> str:
    for step in range(steps):
        progress((step + 1) / steps, f"step {step + 1}")
    return "done"


@handler("leave_tasks")
async def leave_tasks() -> int:
    before = len(asyncio.all_tasks())
    task = asyncio.create_task(asyncio.sleep(1000))
    task.add_done_callback(lambda _: None)
    return before


@handler("meet")
async def meet(folder: str, name: int, count: int) -> int:
    """Wait until so many of them are there at the same time."""
    note(f"{folder}/{name}", os.getpid())
    while sum(each.suffix != ".new" for each in Path(folder).iterdir()) < count:
        await asyncio.sleep(0.005)
    return os.getpid()


@handler("wait_async")
async def wait_async(mine: str, other: str) -> str:
    """Wait for a file; a note says when it is cancelled."""
    note(mine, os.getpid())
    try:
        while not Path(other).exists():
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        note(f"{mine}.cancelled", os.getpid())
        raise
    return "seen"


@handler("wait_in_another_task")
async def wait_in_another_task(mine: str, other: str) -> str:
    task = asyncio.create_task(wait_async(mine, other))
    return await asyncio.shield(task)


@handler("never_stop")
async def never_stop(path: str) -> None:
    note(path, os.getpid())
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


@handler("block_the_loop")
async def block_the_loop(mine: str, other: str) -> int:
    await asyncio.sleep(0)
    wait_for_file(mine, other)
    return os.getpid()


@handler("exit_async")
async def exit_async(other: str, code: int) -> None:
    while not Path(other).exists():
        await asyncio.sleep(0.005)
    os._exit(code)


@handler("exit_in_another_task")
async def exit_in_another_task(other: str, code: int) -> None:
    await asyncio.gather(exit_async(other, code), asyncio.sleep(1000))


@handler("go_on_async")
async def go_on_async(steps: int) -> str:
    for step in range(steps):
        await asyncio.to_thread(progress, (step + 1) / steps, f"step {step + 1} of {steps}")
    return "done"


@handler("echo_async")
async def echo_async(value: Any) -> Any:
    return value


@handler("leave_a_stubborn_task", pure=True)
async def leave_a_stubborn_task() -> str:
    """Give a result, and leave a task that does not end."""

    async def stubborn() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    return type(task).__name__


@handler("exit_in_a_task")
async def exit_in_a_task() -> None:
    """End the process from a task of its own."""

    async def leave() -> None:
        sys.exit(3)

    await asyncio.create_task(leave())


@handler("exit_in_a_callback")
async def exit_in_a_callback() -> None:
    """End the process, where nobody sees by which call."""
    asyncio.get_running_loop().call_soon(os._exit, 3)
    await asyncio.sleep(60)


@handler("print_and_exit")
def print_and_exit() -> None:
    print("begun ...", end="", flush=True)
    print(" kept", end="", flush=True)
    os._exit(3)


@handler("print_a_long_line")
def print_a_long_line() -> None:
    print("x" * 1_000_000)
    print("next")
    print()
    print("last")


@handler("print_too_much_and_wait")
def print_too_much_and_wait(lines: int, end: str) -> None:
    print("line\n" * lines)
    while not os.path.exists(end):
        time.sleep(0.01)
