"""Who else may change what a master and its workers trust on disk: journals, spools and tokens."""

from __future__ import annotations

import os
import stat

ROOT = 0
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def is_foreign(found: os.stat_result) -> bool:
    """True for what belongs to another user than this one and root, who may change all anyway."""
    return found.st_uid not in (os.geteuid(), ROOT)


def is_open_to_all(found: os.stat_result) -> bool:
    """True for what every user may write; in a folder, if they may replace files of others too."""
    is_protected = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    return bool(found.st_mode & stat.S_IWOTH) and not is_protected


def mode_of(found: os.stat_result) -> int:
    return stat.S_IMODE(found.st_mode)
