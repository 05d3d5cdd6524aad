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
from dte.cli.text import say, say_json
from dte.core.printable import printable

if TYPE_CHECKING:
    from dte.master.journal.generation import Cut
    from dte.master.salvage.check import Findings
    from dte.master.salvage.outcome import Loss, Salvaged

EXIT_DAMAGED = EXIT_JOB_FAILED
RANGES_MAX = 20
"""Ranges of numbers that are printed; --json has all."""
EFFECTS = {
    "master": "; new ids follow the highest one that is known",
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


@journal_commands.command("check", short_help="Say what a journal has, and what is wrong.")
@click.argument("file", metavar="FILE")
@json_option
def check_command(file: str, as_json: bool) -> None:
    """Say what the journal FILE has, and what is wrong with it.

    The exit code is 0 for a journal that is intact, 1 for one that is damaged or that a master
    refuses for another reason, and 2 if FILE is not a journal or a master has it open.
    """
    check_system()
    from dte.master.salvage.check import check

    with _explained(file):
        found = check(file)
    if as_json:
        state = "damaged" if found.faults else "refused" if found.refused else "well"
        all_faults = {"faults": [*found.faults, *found.refused], "version": found.schema}
        say_json({"file": file, "state": state, **asdict(found), **all_faults})
    else:
        say(printable_lines(_findings(file, found)))
    if found.faults or found.refused:
        raise SystemExit(EXIT_DAMAGED)


@journal_commands.command("salvage", short_help="Write what can be read into a new journal.")
@click.argument("file", metavar="FILE")
@click.option("--to", "target", metavar="NEW", help="New file.  [default: FILE-salvaged]")
@json_option
def salvage_command(file: str, target: str | None, as_json: bool) -> None:
    """Write what can be read of the damaged journal FILE into a new one.

    Damaged pages cost the rows that are on them. The command says which jobs are lost, as far as
    their ids are known. A job fails if some of its calls may have begun without leaving a record.

    The exit code is 0 if the new journal is written, even if something is lost, and 2 if FILE is
    not a journal, a master has it open, or NEW exists. --json says what is lost.

    To go on with the new journal: dte master --journal NEW.
    """
    check_system()
    from dte.master.journal.generation import Cut
    from dte.master.journal.schema import of_foreign_log
    from dte.master.journal.wal import log_of
    from dte.master.salvage.check import open_pages
    from dte.master.salvage.salvage import salvage

    target = _target(file, target)
    for each in (target, f"{target}-wal"):
        if os.path.lexists(each):
            leave(EXIT_USAGE, f"{each} exists; choose another name: --to NEW")
    with _explained(file):
        pages, survey, cut = open_pages(file)
    with closing(pages), _removed_after_failure(target):
        done = salvage(pages, survey, target)
    if as_json:
        more = {
            "schema": done.version,
            "nothing_lost": done.is_whole and cut is None,
            "log": "read" if cut is None else cut.value,
        }
        say_json({"file": file, "to": target, **asdict(done), **more})
    else:
        say(printable_lines(_outcome(file, target, done, cut)))
        if cut is Cut.FOREIGN:
            say(f"{log_of(file)} was not read: {of_foreign_log(file)}", err=True)
        elif cut is not None:
            advice = f"put {log_of(file)} of the same copy there, or use another copy"
            lost = f"{log_of(file)} is {cut.value}, so the latest changes are lost"
            say(f"{lost}; to have them, {advice}, and salvage again", err=True)


def _target(file: str, target: str | None) -> str:
    """The name of the new file; exit if it cannot be one."""
    if target is None:
        target = f"{file}-salvaged"
    if not target:
        leave(EXIT_USAGE, "the name of the new file is empty; give one: --to NEW")
    folder = os.path.dirname(target)
    if folder and not os.path.isdir(folder):
        text = f"cannot write {target}: there is no folder {folder}"
        leave(EXIT_USAGE, f"{text}; make it, or choose another place: --to NEW")
    return target


@contextmanager
def _explained(file: str) -> Iterator[None]:
    """Exit with the reason where a file is not a journal, or is in use."""
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
            leave(EXIT_USAGE, f"cannot write {target}: {reason}; choose another place: --to NEW")
        raise


def _findings(file: str, found: Findings) -> list[str]:
    from dte.master.journal.wal import log_of

    ended = "no job has ended"
    if found.newest_end is not None:
        moment = datetime.fromtimestamp(found.newest_end, UTC)
        ended = f"the last one ended at {moment:%Y-%m-%d %H:%M:%S} UTC"
    readable = "readable: " if found.faults and not found.log_missing else ""
    lines = [
        f"schema: {found.schema or 'unknown'}, pages: {found.pages}, of them changed in the log: "
        f"{found.pages_in_log}",
        f"{readable}jobs waiting: {found.jobs_waiting}, ended: {found.jobs_ended}, highest id: "
        f"{found.last_job}; {ended}",
        f"{readable}calls: {found.calls}, keys: {found.keys}, "
        f"webhooks to be sent: {found.webhooks}",
        *found.remarks,
        *found.faults,
    ]
    if found.log_missing:
        lines.append(
            f"put {log_of(file)} of the same copy there, or use another copy; to go on without "
            f"the latest changes: dte master --journal {file} --journal-without-wal"
        )
    elif found.faults:
        lines.append(f"{file} is damaged; to save what can be read: dte journal salvage {file}")
    if found.refused:
        lines += [f"a master refuses it: {reason}" for reason in found.refused]
    if found.faults or found.refused:
        return lines
    return [*lines, f"{file} is intact"]


def _outcome(file: str, target: str, done: Salvaged, cut: Cut | None) -> list[str]:
    from dte.master.journal.wal import log_of
    from dte.master.salvage.check import damaged_pages, damaged_parts

    rows = done.rows
    lines = [f"jobs saved: waiting {rows['waiting']}, ended {rows['ended']}"]
    if done.pages < done.pages_once:
        lines.append(f"the file is cut short: {done.pages} of {done.pages_once} pages")
    if done.damaged_pages:
        lines.append(damaged_pages(done.damaged_pages))
    if done.damaged_in_log:
        lines.append(
            f"{log_of(file)}: {damaged_parts(done.damaged_in_log)}; so some of the latest changes "
            f"are lost, of jobs of any kind"
        )
    lines += [*_lost_jobs(done), *(_lost_rows(each) for each in done.losses), *_lost_plans(done)]
    if done.is_whole and cut is None:
        lines.append("nothing is lost")
    if done.mark_lost and cut is None and not log_of(file).exists():
        lines.append(
            f"the mark of the log is damaged, so there may have been a {log_of(file)}; if so, "
            f"put it beside {file}, and salvage again"
        )
    return [*lines, f"{file} is as it was; to go on: dte master --journal {target}"]


def _lost_jobs(done: Salvaged) -> Iterator[str]:
    """The jobs that are lost, or that failed as something of them is lost."""
    if len(done.lost_jobs) == 1:
        yield f"job {done.lost_jobs[0]} is lost"
    elif done.lost_jobs:
        yield f"jobs lost: {len(done.lost_jobs)}, with the ids {ranges(done.lost_jobs)}"
    if done.lost_webhooks:
        yield f"webhooks lost with their jobs: {ranges(done.lost_webhooks)}"
    if done.unknown_jobs:
        yield (
            f"ids of which nothing is known: {spans(done.unknown_jobs)}; these jobs are lost, or "
            "were deleted before, or never were"
        )
    rebuilt = {*done.rebuilt_jobs}
    failed = [each for each in done.failed_jobs if each not in rebuilt]
    if failed:
        yield (
            f"jobs that failed, as their plans or records of their calls may be lost: "
            f"{len(failed)}, with the ids {ranges(failed)}{_retry(failed, done)}"
        )
    if rebuilt:
        failed = [each for each in done.failed_jobs if each in rebuilt]
        outcome = "all of these have succeeded"
        if failed:
            outcome = f"{len(failed)} of these have failed, with the ids {ranges(failed)}"
        yield (
            f"jobs whose own rows are lost, kept by their plans and the records of their calls: "
            f"{len(rebuilt)}, with the ids {ranges(done.rebuilt_jobs)}; "
            f"{outcome}{_retry(failed, done)}"
        )


def _retry(failed: Sequence[int], done: Salvaged) -> str:
    """The next step for jobs that failed."""
    without = {*done.lost_plans}
    can_run = [each for each in failed if each not in without]
    if not can_run:
        return ""
    return f"; to run one of them: dte retry {can_run[0]}"


def _lost_rows(loss: Loss) -> str:
    from dte.master.salvage.check import damaged_pages

    state = "some are lost" if loss.is_certain else "some may be lost"
    reasons = [damaged_pages(loss.pages)] if loss.pages else []
    if loss.rows:
        reasons.append(f"damaged rows on other pages: {loss.rows}")
    reason = "; ".join(reasons) or "nothing leads to them any more"
    return f"{loss.what}: {state} ({reason}){EFFECTS.get(loss.table, '')}"


def _lost_plans(done: Salvaged) -> Iterator[str]:
    if len(done.lost_plans) == 1:
        yield f"the plan of job {done.lost_plans[0]} is lost, so it cannot be retried"
    elif done.lost_plans:
        yield (
            f"the plans of {len(done.lost_plans)} jobs are lost, so these cannot be retried: "
            f"{ranges(done.lost_plans)}"
        )


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
