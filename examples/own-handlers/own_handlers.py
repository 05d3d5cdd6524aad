"""Handlers that need a package which dte does not have."""

from __future__ import annotations

import humanize

import dte


@dte.handler("spell_size", pure=True)
def spell_size(size_bytes: int) -> str:
    """Return a number of bytes for people, such as "2.0 MB"."""
    return humanize.naturalsize(size_bytes)
