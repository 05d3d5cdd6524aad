"""Messages that quote another library, Python or the system: only dte's own words are compared.

The quoted words change from version to version. ``[…]`` stands for them, so that a test still says
what comes before and after them, as a field's name: ``node 'a': […]$.timeout``.
"""

from __future__ import annotations

import re

QUOTED = "[…]"


def own(words: str) -> re.Pattern[str]:
    """A pattern of dte's own words, for anything that is quoted among them."""
    return re.compile(".+".join(map(re.escape, words.split(QUOTED))), re.DOTALL)


def has(text: str, words: str) -> bool:
    """Whether a message has dte's own words."""
    return own(words).search(text) is not None
