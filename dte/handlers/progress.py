"""Progress reports of handlers."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

TEXT_CHARS_MAX = 500

Send = Callable[[float, str], None]

_send: Send | None = None
_send_here: ContextVar[Send | None] = ContextVar("dte_progress", default=None)


def progress(fraction: float, text: str = "") -> None:
    """Report the progress of the current call. Outside a call this does nothing.

    A report costs a few microseconds, so a handler may report often; the latest report counts.

    Args:
        fraction: the progress, from 0 to 1.
        text: a text for people, cut off after 500 characters.

    Raises:
        TypeError, ValueError: the fraction is not a number from 0 to 1.
    """
    try:
        fits = 0 <= fraction <= 1
    except TypeError:
        text = f"fraction must be a number from 0 to 1, not {fraction!r:.50}"
        raise TypeError(text) from None
    if not fits:
        raise ValueError(f"fraction must be from 0 to 1, not {fraction!r:.50}")
    send = _send_here.get() or _send
    if send is not None:
        # A subclass of str may return anything as a part of itself.
        part = str.__getitem__(str(text), slice(TEXT_CHARS_MAX))
        send(min(1.0, max(0.0, float(fraction))), part.encode(errors="replace").decode())


def send_by(send: Send | None, *, here: bool = False) -> None:
    """Set the function that `progress` calls: in all threads, or in this task and its own tasks."""
    global _send
    if here:
        _send_here.set(send)
    else:
        _send = send
