from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import dte
from dte.handlers.progress import progress, send_by


@pytest.fixture
def sent() -> Iterator[list[tuple[float, str]]]:
    told: list[tuple[float, str]] = []
    send_by(lambda fraction, text: told.append((fraction, text)))
    yield told
    send_by(None)


def test_outside_a_call_it_does_nothing() -> None:
    dte.progress(0.4, "nobody hears")


def test_it_tells_the_fraction_and_the_text(sent: list[tuple[float, str]]) -> None:
    progress(0)
    dte.progress(0.4, "almost half")
    progress(1, "x" * 501)
    assert sent == [(0.0, ""), (0.4, "almost half"), (1.0, "x" * 500)]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_is_from_0_to_1(sent: list[tuple[float, str]], fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must be from 0 to 1"):
        progress(fraction)


@pytest.mark.parametrize("fraction", ["half", None, 1j])
def test_a_fraction_is_a_number(sent: list[tuple[float, str]], fraction: Any) -> None:
    with pytest.raises(TypeError, match="fraction must be a number from 0 to 1, not "):
        progress(fraction)
    assert sent == []
    assert not sent


async def test_tasks_tell_it_apart() -> None:
    sent: list[tuple[int, float]] = []

    async def work(number: int) -> None:
        send_by(lambda fraction, _: sent.append((number, fraction)), here=True)
        await asyncio.sleep(0)
        progress(0.5)
        await asyncio.to_thread(progress, 1)

    await asyncio.gather(work(1), work(2))
    progress(0.7)
    assert sorted(sent) == [(1, 0.5), (1, 1.0), (2, 0.5), (2, 1.0)]
