"""Handlers that return and raise objects which misbehave, by a recipe in JSON.

A recipe is a list: the name of what misbehaves, and what it is made with. `RESULTS` and `ERRORS`
name all there are.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from dte.handlers.progress import progress
from dte.handlers.registry import handler
from dte.worker.processes.channel import Begin, Outcome, ProgressUpdate, packet

MB = 1_000_000


class Own(BaseException):
    """An exception that no `except Exception` catches."""


RAISED: dict[str, type[BaseException]] = {
    each.__name__: each
    for each in (
        *(SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration),
        *(AttributeError, BufferError, NotImplementedError, RecursionError, TypeError, Own),
    )
}
"""What methods of the objects raise."""


class Liar:
    """An object whose attributes and methods raise an exception."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "kind", RAISED[name])

    def _lie(self, *_: Any) -> Any:
        raise object.__getattribute__(self, "kind")("a lie")

    __class__ = property(_lie)  # type: ignore[assignment]
    __getattr__ = __str__ = __repr__ = __hash__ = __eq__ = _lie
    __len__ = __iter__ = __bool__ = __index__ = __float__ = __le__ = __ge__ = _lie


class LyingType(type):
    """A metaclass whose classes do not say their name."""

    def __getattribute__(cls, name: str) -> Any:
        raise Own(f"no {name}")


class Unnamed(metaclass=LyingType):
    pass


class Point(msgspec.Struct):
    x: int = 0


class Zone(datetime.tzinfo):
    def __init__(self, name: str) -> None:
        self._kind = RAISED[name]

    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        raise self._kind("no offset")


class Text(str):
    """A text that shows itself as something else."""

    def __getitem__(self, _: Any) -> Any:
        return 7

    def __len__(self) -> int:
        return -1

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise Own

    def __str__(self) -> str:
        return self


class Long(int):
    def bit_length(self) -> int:
        raise Own


def unset_point(_: str) -> Any:
    point = Point()
    del point.x
    return point


def endless(_: str) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep_list(_: str) -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def looped_structs(_: str) -> Any:
    point = Point()
    point.x = {"point": [point]}  # type: ignore[assignment]
    return point


def growing(_: str) -> Any:
    """A value of few objects whose JSON is long."""
    value: list[Any] = ["x" * 1000]
    for _ in range(4):
        value = [value] * 10
    return value


RESULTS: dict[str, Callable[[str], Any]] = {
    "liar": Liar,
    "unnamed": lambda _: Unnamed(),
    "strided view": lambda _: memoryview(b"abcdef")[::2],
    "struct with an unset field": unset_point,
    "broken zone": lambda name: datetime.datetime(2030, 1, 1, tzinfo=Zone(name)),
    "text": lambda _: Text("x" * 100),
    "half a pair": lambda _: "\udcff",
    "endless": endless,
    "raw rubbish": lambda _: msgspec.Raw(b"[1, }"),
    "raw latin-1": lambda _: msgspec.Raw(b'"\xff"'),
    "raw nothing": lambda _: msgspec.Raw(b""),
    "long": lambda _: Long(10**50),
    "not a number": lambda _: decimal.Decimal("sNaN"),
    "coroutine": lambda _: asyncio.sleep,
    "keys": lambda _: {(1, 2): 3, Text("x"): Liar},
    "exception": lambda name: RAISED[name]("returned"),
    "same names": lambda _: {1: 2, "1": 3},
    "generator": lambda _: (each for each in "abc"),
    "deep": deep_list,
    "infinite": lambda _: [1e400, -1e400],
    "looped structs": looped_structs,
    "growing": growing,
}


def lying_error(name: str) -> BaseException:
    kind = RAISED[name]

    class Lying(Exception):
        @property
        def __class__(self) -> Any:
            raise kind("no class")

        def _lie(self, *_: Any) -> Any:
            raise kind("a lie")

        __notes__ = args = __cause__ = __context__ = __traceback__ = property(_lie)  # type: ignore
        __str__ = __repr__ = __bool__ = __len__ = __eq__ = __hash__ = _lie

    return Lying()


def loud_error(name: str) -> BaseException:
    text = "\x01" * MB
    makers: list[Callable[[], BaseException]] = [
        lambda: ValueError(text),
        lambda: KeyError(text),
        lambda: ValueError(text, text.encode()),
        lambda: type("E" * MB, (Exception,), {})(text),
        lambda: OSError(7, text, text),
        lambda: SyntaxError(text, (text, 1, 1, text)),
    ]
    return makers[len(name) % len(makers)]()


def noted_error(name: str) -> BaseException:
    error = RAISED[name]("noted")
    error.add_note("\n" * MB)
    error.__notes__ += ["x" * MB, Liar(name), "x" * MB] * 100  # type: ignore[arg-type]
    return error


def error_without_notes(name: str) -> BaseException:
    error = RAISED[name]("noted")
    error.__notes__ = Liar(name)  # type: ignore[assignment]
    return error


def chained_errors(name: str) -> BaseException:
    error: BaseException = RAISED[name]("first")
    for _ in range(3000):
        after = ValueError("\n" * 10_000)
        after.__cause__ = error
        error = after
    error.__context__ = error.__cause__
    return error


def grouped_errors(name: str) -> BaseException:
    group: BaseException = RAISED[name]("x" * MB)
    for _ in range(20):
        group = BaseExceptionGroup("y" * 10_000, [group] * 50)
    return group


def deep_error(_: str) -> BaseException:
    def descend() -> None:
        descend()

    try:
        descend()
    except RecursionError as error:
        return error
    return ValueError("bottomless")


def surrogate_error(_: str) -> BaseException:
    return ValueError("\udcff\ud800" * 1000)


def looped_errors(name: str) -> BaseException:
    errors: list[BaseException] = [RAISED[name]("x" * 10_000) for _ in range(3)]
    for each, after in zip(errors, [*errors[1:], errors[0]], strict=True):
        each.__cause__ = each.__context__ = after
    return errors[0]


def looped_groups(name: str) -> BaseException:
    member = RAISED[name]("member")
    group = BaseExceptionGroup("group", [member])
    member.__cause__ = group
    return group


def growing_error(name: str) -> BaseException:
    """An exception whose text is long although its objects are few."""
    value: Any = name
    for _ in range(5):
        value = [value] * 8
    return ValueError(value, {"value": value})


ERRORS: dict[str, Callable[[str], BaseException]] = {
    "plain": lambda name: RAISED[name]("plain"),
    "lying": lying_error,
    "loud": loud_error,
    "noted": noted_error,
    "without notes": error_without_notes,
    "chained": chained_errors,
    "grouped": grouped_errors,
    "deep": deep_error,
    "surrogates": surrogate_error,
    "looped": looped_errors,
    "looped groups": looped_groups,
    "growing": growing_error,
    "text": lambda _: ValueError(Text("x" * 100)),
    "with a liar": lambda name: ValueError(Liar(name), Unnamed()),
    "exit with a liar": lambda name: SystemExit(Liar(name)),
}

DEEDS = ("return", "raise", "progress")


def do(deed: str, name: str, raised: str) -> Any:
    """Return, raise or report by a recipe."""
    if deed == "raise":
        raise ERRORS[name](raised)
    value = RESULTS[name](raised)
    if deed == "progress":
        progress(0.5, value)
        progress(value, "x")
    return value


@handler("hostile")
def hostile(deed: str, name: str, raised: str) -> Any:
    return do(deed, name, raised)


@handler("hostile_async")
async def hostile_async(deed: str, name: str, raised: str) -> Any:
    await asyncio.sleep(0)
    return do(deed, name, raised)


@handler("hostile_coroutine")
def hostile_coroutine(deed: str, name: str, raised: str) -> Any:
    return hostile_async(deed, name, raised)


def sockets() -> list[int]:
    """The descriptors of this process's sockets; the first is the channel to the worker."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # The descriptor of the folder itself.
            if os.readlink(each).startswith("socket:"):
                found.append(int(each.name))
    return sorted(found)


RUBBISH = {
    "text": b"Traceback (most recent call last)" * 100,
    "long": (10**12).to_bytes(8, "little"),
    "many": packet([ProgressUpdate(1, 0.5, "")] * 5000),
    "deep": (10_000).to_bytes(8, "little") + b"\x91" * 10_000,
    "other": packet([Begin(1, "pid", b"[]")]),
    "long text": packet([Outcome(1, None, "x" * 100_000)]),
    "half a character": (9).to_bytes(8, "little") + b"\x91\x94\x03\x01\xca\x00\x00\x00\x00",
}


UNFINISHED = {
    "a length alone": (1_000_000).to_bytes(8, "little"),
    "a part of a length": b"\x40",
}


@handler("write_rubbish")
def write_rubbish(name: str) -> None:
    for each in sockets():
        with suppress(OSError):
            os.write(each, (RUBBISH | UNFINISHED)[name])
    time.sleep(1000)


@handler("write_a_length")
def write_a_length() -> str:
    """Return a result, which then counts as a part of what the length announces."""
    for each in sockets():
        with suppress(OSError):
            os.write(each, (1_000_000).to_bytes(8, "little"))
    return "done"


@handler("write_to_all_files")
def write_to_all_files(data: str) -> None:
    for each in range(3, 1_024):
        with suppress(OSError):
            os.write(each, data.encode("latin-1"))


@handler("replace_all_files")
def replace_all_files() -> None:
    devices = os.open("/dev/zero", os.O_RDWR)
    for each in [int(name) for name in os.listdir("/proc/self/fd")]:
        if each > 2 and each != devices:
            with suppress(OSError):
                os.dup2(devices, each)


@handler("hold_the_channel")
def hold_the_channel() -> int:
    """End, and leave a copy of this process that has the channel."""
    other = os.fork()
    if not other:
        os.setsid()
        time.sleep(20)
    os.kill(os.getpid(), signal.SIGKILL)
    return other


@handler("write_rubbish_async")
async def write_rubbish_async(name: str) -> None:
    write_rubbish(name)


@handler("close_all_files")
def close_all_files() -> None:
    os.closerange(3, 10_000)
    time.sleep(1000)


@handler("stop_the_loop")
async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(1000)


@handler("cancel_itself")
async def cancel_itself() -> int:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return 1
