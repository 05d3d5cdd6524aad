"""Reads the arguments of calls: they stay JSON, in which references become gaps for results."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from dte.core.errors import InvalidRequest
from dte.core.graph.json_template import JsonTemplate
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.nesting import search_deeper
from dte.wire.references import has_marks, template_of

ARGS_EXPECTED = "args must be a list (positional) or an object (named)"
COMPACTED_BYTES_MAX = 10_000
"""Longer JSON stays as it was written. So longer arguments of pure handlers are not compared."""
LONG_BYTES = 1_000_000

_any: Decoder[Any] = Decoder(Any, lenient=False)


def read_arguments(
    raw: bytes,
    references_max: int,
    levels_max: int,
    *,
    is_mixed: bool = False,
    is_pure: bool = False,
) -> Generator[None, None, msgspec.Raw | JsonTemplate]:
    """Read arguments, in slices.

    Args:
        is_mixed: they are an object of positional and of named arguments.
        is_pure: equal calls become one, so equal arguments are written alike to compare them.

    Raises:
        InvalidRequest: they are neither a list nor an object, or nest too deep.
        TooLarge: they have too many references.
    """
    if raw.lstrip()[:1] not in (b"[", b"{"):
        raise InvalidRequest(ARGS_EXPECTED)
    template = None
    is_long = len(raw) > LONG_BYTES  # Then each step takes some 10 ms.
    try:
        raw.decode()
        if is_long:
            yield
        marked = has_marks(raw)
        if is_long:
            yield
        if is_pure and len(raw) <= COMPACTED_BYTES_MAX:
            raw = compact(raw)
            template = JsonTemplate(raw)
        if marked:
            template = (yield from template_of(raw, references_max)) or template
    except UnicodeDecodeError:
        raise InvalidRequest("args are not in UTF-8") from None
    if is_long:
        yield
    text = raw if template is None else template.text
    if template is not None and not _is_whole(template):
        raise InvalidRequest(ARGS_EXPECTED)
    if (yield from search_deeper(text, levels_max + is_mixed)):
        raise InvalidRequest(f"args nest more than {levels_max} levels deep")
    return msgspec.Raw(raw) if template is None else template


def compact(raw: bytes) -> bytes:
    """JSON in the one way in which dte writes its value, unless it is long or has none."""
    if len(raw) > COMPACTED_BYTES_MAX:
        return raw
    try:
        return encode(_any.decode(raw))
    except Malformed:
        return raw


def _is_whole(template: JsonTemplate) -> bool:
    """True if arguments are a list or an object even where they were marked as a whole."""
    return template.text.lstrip()[:1] in (b"[", b"{")
