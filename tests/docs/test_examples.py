"""Runs every command and program of the documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.processes import Processes

from .commands import of_console
from .markdown import DOCUMENTS, ROOT, blocks
from .session import UNRUN, Session

WITH_EXAMPLES = [document for document in DOCUMENTS if any(blocks(document))]


@pytest.mark.parametrize(
    "document", WITH_EXAMPLES, ids=[str(each.relative_to(ROOT)) for each in WITH_EXAMPLES]
)
def test_a_reader_who_does_what_a_document_says_gets_what_it_shows(
    document: Path, tmp_path: Path
) -> None:
    with Processes(tmp_path) as processes:
        Session(tmp_path, processes).run(document)


def test_what_is_not_run_stands_in_a_document() -> None:
    commands = {
        command.text
        for document in DOCUMENTS
        for block in blocks(document)
        if block.language == "console"
        for command in of_console(block)
    }
    assert set(UNRUN) <= commands
