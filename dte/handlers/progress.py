"""How a handler says how far it is."""

from __future__ import annotations

from collections.abc import Callable

TEXT_CHARS_MAX = 500

Send = Callable[[float, str], None]

_send: Send | None = None


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
    if _send is not None:
        _send(float(fraction), str(text)[:TEXT_CHARS_MAX])


def send_by(send: Send | None) -> None:
    """Have `progress` call this from now on; None for nothing."""
    global _send
    _send = send
