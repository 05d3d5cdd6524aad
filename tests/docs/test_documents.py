"""Checks sizes, links, and that what the documents name exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.processes import TESTS, run

from .markdown import DOCUMENTS, ROOT, anchors, blocks, code_spans, links

BYTES_MAX = 10_000
"""Of the documents that are read first."""
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PATH = re.compile(r"\b(?:dte|tests|scripts|docs|deploy)/[\w./-]*")
LISTED = re.compile(r"^(\S+/) +(.*)$")
ATTRIBUTE = re.compile(r"([A-Z]\w+)\.([a-z]\w+)")
SCRIPT = re.compile(r"scripts/[\w.-]+")
BENCHMARKS = ROOT / "scripts" / "benchmarks"

NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_what_is_read_first_is_short(name: str) -> None:
    assert (ROOT / name).stat().st_size <= BYTES_MAX


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in links(document):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{document.name} links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_script_that_a_document_names_is_there(document: Path) -> None:
    named = {name for span in code_spans(document) for name in SCRIPT.findall(span)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    while (
        new := {
            target
            for document in reached
            if document.suffix == ".md"
            for link in links(document)
            if (target := (document.parent / link.partition("#")[0]).resolve()).is_file()
        }
        - reached
    ):
        reached |= new
    assert set((ROOT / "docs").iterdir()) <= reached


def test_every_path_that_the_architecture_names_exists() -> None:
    paths = [path.rstrip(".") for path in PATH.findall(ARCHITECTURE.read_text())]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_file_that_the_architecture_lists_is_in_its_folder() -> None:
    files = [
        f"{listed[1]}{name}"
        for block in blocks(ARCHITECTURE)
        for line in block.text.splitlines()
        if (listed := LISTED.match(line)) is not None
        for name in re.findall(r"\w+\.py", listed[2])
    ]
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_every_class_and_method_that_the_architecture_names_exists() -> None:
    there: dict[str, set[str]] = {}
    for file in (ROOT / "dte").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                names = there.setdefault(node.name, set())
                names |= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    named = [found for span in code_spans(ARCHITECTURE) if (found := ATTRIBUTE.fullmatch(span))]
    assert named
    assert [each[0] for each in named if each[2] not in there.get(each[1], set())] == []


def test_every_figure_of_the_readme_is_one_of_the_bench() -> None:
    speed = (ROOT / "README.md").read_text().partition("\n## Speed\n")[2].partition("\n## ")[0]
    figures = [
        cell.strip()
        for line in speed.splitlines()
        if line.startswith("| ") and "---" not in line
        for cell in line.split("|")[2:]
        if cell.strip()[:1].isdigit()
    ]
    assert len(figures) >= 3
    measured = (ROOT / "docs" / "benchmarks.md").read_text()
    assert [figure for figure in figures if f" {figure} " not in measured] == []


def test_the_bench_finds_the_place_of_its_table(tmp_path: Path) -> None:
    copy = tmp_path / "benchmarks.md"
    copy.write_text((ROOT / "docs" / "benchmarks.md").read_text())
    script = "import report, sys, pathlib; report.write_into(pathlib.Path(sys.argv[1]), 'new\\n')"
    done = run(sys.executable, "-c", script, str(copy), folder=BENCHMARKS, PYTHONPATH=str(TESTS))
    assert done.returncode == 0, done.stderr
    assert "<!-- bench -->\nnew\n<!-- /bench -->\n" in copy.read_text()


def test_the_table_of_roles_is_made_from_the_routes() -> None:
    """`scripts/docs` renews it."""
    command = [sys.executable, str(ROOT / "scripts" / "roles_table.py")]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "security.md").read_text() == page


def test_the_page_of_settings_is_made_from_the_options() -> None:
    """`scripts/docs` renews it."""
    command = [sys.executable, str(ROOT / "scripts" / "settings_page.py")]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "settings.md").read_text() == page
