"""No version that is locked, and no Tornado that setup.cfg admits, has a known advisory.

The advisories are those that were known when a release was made: `advisories.toml` says when, and
from what they were compiled. Before a release, look for new ones and renew that file.
"""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from datetime import date
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
KNOWN = tomllib.loads((ROOT / "tests" / "advisories.toml").read_text("utf-8"))
ADVISORIES = KNOWN["advisory"]
ID = re.compile(r"(GHSA(-[0-9a-z]{4}){3}|CVE-\d{4}-\d{4,})")
LOCKED = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)


def locked() -> set[tuple[str, str]]:
    """The names and the versions that are locked, in all files."""
    files = (ROOT / "requirements").glob("*.txt")
    return {pair for path in files for pair in LOCKED.findall(path.read_text("utf-8"))}


def advisories_of(package: str, version: str) -> list[str]:
    """The advisories of a version."""
    return [
        each["id"]
        for each in ADVISORIES
        if each["package"] == canonicalize_name(package)
        and SpecifierSet(each["affected"]).contains(version, prereleases=True)
    ]


def test_no_locked_version_has_a_known_advisory() -> None:
    versions = locked()
    assert len(versions) > 50
    assert {pair: found for pair in versions if (found := advisories_of(*pair))} == {}


def test_the_oldest_tornado_that_is_admitted_has_no_known_advisory() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = map(Requirement, filter(None, setup["options"]["install_requires"].split("\n")))
    (tornado,) = (each for each in wanted if each.name == "tornado")
    (oldest,) = (each.version for each in tornado.specifier if each.operator == ">=")
    assert advisories_of("tornado", oldest) == []
    assert advisories_of("tornado", "6.6"), "it is the first without one"


@pytest.mark.parametrize("advisory", ADVISORIES, ids=lambda advisory: advisory["id"])
def test_an_advisory_names_a_locked_package_a_range_and_a_source(
    advisory: dict[str, str],
) -> None:
    assert advisory.keys() == {"id", "package", "affected", "source"}
    assert ID.fullmatch(advisory["id"])
    assert advisory["package"] in {canonicalize_name(name) for name, _ in locked()}
    assert SpecifierSet(advisory["affected"])
    assert advisory["source"].startswith("https://")


def test_each_advisory_is_named_once() -> None:
    names = [each["id"] for each in ADVISORIES]
    assert len(set(names)) == len(names)
    assert isinstance(KNOWN["compiled"], date)
