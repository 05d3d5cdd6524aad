"""How a handler says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

TEXT_CHARS_MAX = 500

Send = Callable[[float, str], None]

_send: Send | None = None
_send_here: ContextVar[Send | None] = ContextVar("dte_progress", default=None)


def progress(fraction: float, text: str = "") -> None:
    """Say how far the call of this handler is; outside a call it does nothing.

    It costs a few microseconds, and may be called as often as one likes: the latest counts.

    Args:
        fraction: from 0 to 1.
        text: for people; what is longer than 500 characters is cut off.

    Raises:
        ValueError: the fraction is not from 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"progress is a fraction from 0 to 1, not {fraction}")
    send = _send_here.get() or _send
    if send is not None:
        send(float(fraction), str(text)[:TEXT_CHARS_MAX])


def send_by(send: Send | None, *, here: bool = False) -> None:
    """Have `progress` call this from now on; None for nothing.

    Args:
        here: in this task alone and in those that it starts; else in all threads.
    """
    global _send
    if here:
        _send_here.set(send)
    else:
        _send = send
