"""The commands `dte journal check` and `dte journal salvage`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dte.cli.options import json_option
from dte.cli.output import EXIT_JOB_FAILED, EXIT_USAGE, leave
from dte.cli.servers import check_system
from dte.cli.text import printable
from dte.client.exact import encode

if TYPE_CHECKING:
    from dte.master.journal.generation import Cut
    from dte.master.salvage.check import Findings
    from dte.master.salvage.salvage import Salvaged

EXIT_DAMAGED = EXIT_JOB_FAILED
RANGES_MAX = 20
"""Ranges of numbers that are printed; --json has all."""
EFFECTS = {
    "notice": "; they are not sent",
    "submission": "; a repeated request may make a second job",
    "worker": "; start them again",
}
"""The effect of the loss of some tables' rows."""


@click.group("journal", short_help="Check a journal, or save what a damaged one has.")
def journal_commands() -> None:
    """Check a master's journal, or save what a damaged one has.

    No master may have the journal open. The journal itself is never changed.
    """


@journal_commands.command("check")
@click.argument("file", metavar="FILE")
@json_option
def check_command(file: str, as_json: bool) -> None:
    """Say what the journal FILE has, and what is wrong with it.

    The exit code is 0 for a journal that is intact, 1 for one that is damaged, and 2 if FILE is no
    journal or a master has it open.
    """
    check_system()
    from dte.master.salvage.check import check

    with _explained(file):
        found = check(file)
    if as_json:
        state = "damaged" if found.faults else "well"
        click.echo(encode({"file": file, "state": state, **asdict(found)}))
    else:
        click.echo(printable_lines(_findings(file, found)))
    if found.faults:
        raise SystemExit(EXIT_DAMAGED)


@journal_commands.command("salvage")
@click.argument("file", metavar="FILE")
@click.option("--to", "target", metavar="NEW", help="New file.  [default: FILE-salvaged]")
@json_option
def salvage_command(file: str, target: str | None, as_json: bool) -> None:
    """Write what can be read of the damaged journal FILE into a new one.

    Damaged pages cost the rows that are on them. The command says which jobs are lost, as far as
    their ids are known. A job fails if calls of it may have begun of which no record is left.

    The exit code is 0 if the new journal is written, even if something is lost, and 2 if FILE is
    no journal, a master has it open, or NEW exists. --json says what is lost.

    To go on with the new journal: dte master --journal NEW.
    """
    check_system()
    from dte.master.journal.wal import log_of
    from dte.master.salvage.check import open_pages
    from dte.master.salvage.salvage import salvage

    target = target or f"{file}-salvaged"
    for each in (target, f"{target}-wal"):
        if os.path.lexists(each):
            leave(EXIT_USAGE, f"{each} exists; choose another name: --to NEW")
    with _explained(file):
        pages, survey, cut = open_pages(file)
    with closing(pages), _removed_after_failure(target):
        done = salvage(pages, survey, target)
    if as_json:
        log = {"log": "read" if cut is None else cut.value}
        click.echo(encode({"file": file, "to": target, **asdict(done), **log}))
    else:
        click.echo(printable_lines(_outcome(file, target, done, cut)))
        if cut is not None:
            advice = f"put {log_of(file)} of the same copy there, or use another copy"
            lost = f"{log_of(file)} is {cut.value}, so the latest changes are lost"
            click.echo(f"{lost}; to have them, {advice}, and salvage again", err=True)


@contextmanager
def _explained(file: str) -> Iterator[None]:
    """Exit with the reason where a file is no journal, or is in use."""
    from dte.master.salvage.check import NoJournal
    from dte.master.salvage.pages import InUse

    try:
        yield
    except NoJournal as error:
        leave(EXIT_USAGE, str(error))
    except InUse:
        leave(EXIT_USAGE, f"{file} is in use: a master has it open; end that master first")


@contextmanager
def _removed_after_failure(target: str) -> Iterator[None]:
    """Leave no half of a new file, and exit with the reason."""
    try:
        yield
    except BaseException as error:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                Path(f"{target}{suffix}").unlink()
        if isinstance(error, OSError | sqlite3.Error):
            reason = error.strerror if isinstance(error, OSError) else str(error)
            leave(EXIT_USAGE, f"cannot write {target}: {reason}")
        raise


def _findings(file: str, found: Findings) -> list[str]:
    from dte.master.journal.wal import log_of

    ended = "no job has ended"
    if found.newest_end is not None:
        moment = datetime.fromtimestamp(found.newest_end, UTC)
        ended = f"the last one ended at {moment:%Y-%m-%d %H:%M:%S} UTC"
    lines = [
        f"schema: {found.schema or 'unknown'}, pages: {found.pages}, of them changed in the log: "
        f"{found.pages_in_log}",
        f"jobs waiting: {found.jobs_waiting}, ended: {found.jobs_ended}, highest id: "
        f"{found.last_job}; {ended}",
        f"calls: {found.calls}, keys: {found.keys}, webhooks to be sent: {found.webhooks}",
        *found.remarks,
        *(f"damaged: {fault}" for fault in found.faults),
    ]
    if found.log_missing:
        lines.append(
            f"put {log_of(file)} of the same copy there, or use another copy; to go on without "
            f"the latest changes: dte master --journal {file} --journal-without-wal"
        )
    elif found.faults:
        lines.append(f"to save what can be read: dte journal salvage {file}")
    if found.faults:
        return lines
    return [*lines, f"{file} is intact"]


def _outcome(file: str, target: str, done: Salvaged, cut: Cut | None) -> list[str]:
    from dte.master.salvage.tables import CONTENTS

    rows = done.rows
    lines = [f"jobs saved: waiting {rows['waiting']}, ended {rows['ended']}"]
    if done.pages < done.pages_once:
        lines.append(f"the file is cut short: {done.pages} of {done.pages_once} pages")
    if done.damaged_pages:
        lines.append(f"damaged pages: {ranges(done.damaged_pages)}")
    if done.lost_jobs:
        lines.append(
            f"jobs lost: at least {len(done.lost_jobs)}, with the ids {ranges(done.lost_jobs)}"
        )
    if done.unknown_jobs:
        lines.append(
            f"ids of which nothing is known: {spans(done.unknown_jobs)}; these jobs are lost, or "
            "were deleted before, or never were"
        )
    for name, (count, pages) in done.lost_rows.items():
        what, effect = CONTENTS[name], EFFECTS.get(name, "")
        known = f"damaged pages: {pages}, damaged rows on other pages: {count}"
        known = known if pages or count else "nothing leads to them any more"
        lines.append(f"lost, at least in part: {what} ({known}){effect}")
    if done.lost_webhooks:
        lines.append(f"webhooks lost with their jobs: {ranges(done.lost_webhooks)}")
    if done.lost_plans:
        lines.append(
            f"plans lost: at most {len(done.lost_plans)}, of the jobs {ranges(done.lost_plans)}; "
            f"none of them can be retried"
        )
    if done.failed_jobs:
        lines.append(
            f"jobs that failed, as their plans or records of their calls may be lost: "
            f"{len(done.failed_jobs)}, with the ids {ranges(done.failed_jobs)}"
        )
    if done.rebuilt_jobs:
        lines.append(
            f"jobs whose own rows are lost, kept by their plans and the records of their calls: "
            f"{len(done.rebuilt_jobs)}, with the ids {ranges(done.rebuilt_jobs)}; they have failed "
            f"unless all of their calls had succeeded"
        )
    if done.is_whole and cut is None:
        lines.append("nothing is lost")
    return [*lines, f"{file} is as it was; to go on: dte master --journal {target}"]


def printable_lines(lines: Sequence[str]) -> str:
    return "\n".join(printable(line) for line in lines)


def ranges(numbers: Sequence[int]) -> str:
    """Rising numbers as a text: ``3, 7 to 9``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return spans(found)


def spans(found: Sequence[Sequence[int]]) -> str:
    """Pairs of a lowest and a highest number as a text: ``3, 7 to 9``."""
    shown = [str(low) if low == high else f"{low} to {high}" for low, high in found[:RANGES_MAX]]
    return ", ".join([*shown, *(["…"] if len(found) > RANGES_MAX else [])])
