"""The idempotency key, by which a master recognises a submission that it has accepted before."""

from __future__ import annotations

import re

KEY_CHARS_MAX = 200
KEY_PATTERN = f"[ -~]{{1,{KEY_CHARS_MAX}}}"
"""A value of the header ``Idempotency-Key``: printable ASCII characters."""
KEY = re.compile(KEY_PATTERN)
