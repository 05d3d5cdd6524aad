"""The locked versions are those of setup.cfg and pyproject.toml: `scripts/lock` renews them."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKED = re.compile(r"([\w.-]+)==([^\s;]+)( ; .+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def ranges() -> dict[str, list[str]]:
    """What each file of the folder requirements has to admit."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]
    run = setup["options"]["install_requires"].split("\n")
    extras = {name: more.split("\n") for name, more in setup["options.extras_require"].items()}
    return {"build": build["requires"], "run": run} | {
        name: [*run, *more] for name, more in extras.items()
    }


RANGES = ranges()


def lines(name: str) -> list[str]:
    """A file's lines that are no comments."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_there_is_a_file_for_each_set_and_no_other() -> None:
    found = {path.name for path in (ROOT / "requirements").iterdir()}
    assert found == {f"{name}.txt" for name in RANGES}


@pytest.mark.parametrize("name", RANGES)
def test_the_locked_versions_are_within_the_ranges(name: str) -> None:
    locked = dict(match.groups()[:2] for line in lines(name) if (match := LOCKED.fullmatch(line)))
    for text in filter(None, RANGES[name]):
        wanted = Requirement(text)
        assert locked[canonicalize_name(wanted.name)] in wanted.specifier, text


@pytest.mark.parametrize("name", RANGES)
def test_every_line_is_a_version_or_a_hash(name: str) -> None:
    """No line tells an address, so they are installed from wherever this machine installs."""
    assert lines(name)
    for line in lines(name):
        assert LOCKED.fullmatch(line) or HASH.fullmatch(line), line
