"""Compares a journal's file with what clients were told, and with Python's own answers."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.disk.life import JOURNAL, PLAN_TASK, PLANS, SENT, URL, VALUES, expected

Told = list[dict[str, Any]]


@dataclass
class Content:
    """The content of a journal.

    Attributes:
        waiting: the formulas of jobs that have not ended, by number.
        ended: formula, answer and error of those that have.
        keys: the first number and the count of jobs of each key.
        plans: the plans of jobs that have one, by number.
        calls: state and value of each call, by job and name.
        notices: the URLs of webhooks that wait, by job.
        problems: what is wrong with the file.
    """

    waiting: dict[int, str] = field(default_factory=dict)
    ended: dict[int, tuple[str, str | None, str | None]] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    plans: dict[int, str] = field(default_factory=dict)
    calls: dict[int, dict[str, tuple[str | None, str | None]]] = field(default_factory=dict)
    notices: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read(journal: Path) -> Content:
    """Read a journal as a master would that is started now."""
    content = Content()
    try:
        with closing(sqlite3.connect(journal)) as db:
            checked = [row[0] for row in db.execute("PRAGMA integrity_check")]
            content.problems += [text for text in checked if text != "ok"]
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return content
            for number, text in db.execute("SELECT number, coalesce(formula, task) FROM waiting"):
                content.waiting[number] = text
            for number, *end in db.execute(
                "SELECT number, task, coalesce(answer, answer_json), error FROM ended"
            ):
                content.ended[number] = tuple(end)
            for key, first, count in db.execute("SELECT key, first, count FROM submission"):
                content.keys[key] = first, count
            content.plans.update(db.execute("SELECT number, text FROM plan"))
            content.notices.update(db.execute("SELECT number, url FROM notice"))
            for number, name, *call in db.execute("SELECT job, name, state, value FROM call"):
                content.calls.setdefault(number, {})[name] = tuple(call)
    except sqlite3.Error as error:
        content.problems.append(f"{type(error).__name__}: {error}")
    return content


def read_copy(folder: Path, copy: Path) -> Content:
    """Read a copy of the journal in a folder, which is left as it is."""
    copy.mkdir(exist_ok=True)
    for name in (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-journal"):
        (copy / name).unlink(missing_ok=True)
        if (folder / name).exists():
            shutil.copyfile(folder / name, copy / name)
    return read(copy / JOURNAL)


def problems(
    content: Content, told: Told, *, finished: bool = False, plans: bool = True
) -> list[str]:
    """Sentences about what is lost, doubled, changed or wrong.

    Args:
        told: what clients had been told when the file was as it is.
        finished: whether everything must have been done.
        plans: whether there were plans too.
    """
    sent = SENT | ({key: [plan] for key, plan in PLANS.items()} if plans else {})
    found = list(content.problems)
    found += [f"job {number} is twice" for number in content.waiting.keys() & content.ended.keys()]
    jobs = content.waiting.keys() | content.ended.keys()
    numbered: dict[int, str] = {}
    for key, (first, count) in content.keys.items():
        if count != len(sent[key]):
            found.append(f"{key} has {count} jobs")
        for number, task in enumerate(sent[key], first):
            if number in numbered:
                found.append(f"job {number} is of two submissions")
            numbered[number] = task
    if jobs != numbered.keys():
        found.append(f"jobs {sorted(jobs)} instead of {sorted(numbered)}")
    for number, task in content.waiting.items():
        if task != (PLAN_TASK if number in content.plans else numbered.get(number)):
            found.append(f"job {number} waits with another formula: {task[:50]}")
    for number, (_, answer, error) in content.ended.items():
        if not is_right(numbered.get(number, "0"), answer, error):
            found.append(f"job {number} has a wrong end: {answer!r:.50}, {error!r:.50}")
    found += problems_of_calls(content, numbered)
    for line in told:
        if line["what"] == "accepted" and content.keys.get(line["key"], (0,))[0] != line["first"]:
            found.append(f"{line['key']} was accepted, and is lost")
        if line["what"] == "reported":
            state, _ = content.calls.get(line["number"], {}).get(line["name"], (None, None))
            if state is None:
                found.append(f"what came of {line['name']} of job {line['number']} is lost")
        if line["what"] == "ended":
            end = content.ended.get(line["number"])
            if end is None or end[1:] != (line["answer"], line["error"]):
                found.append(f"the end of job {line['number']} is lost or changed")
    if finished and (content.waiting or content.keys.keys() != sent.keys()):
        found.append(f"not done: {sorted(content.waiting)}, {sent.keys() - content.keys.keys()}")
    return found


def problems_of_calls(content: Content, numbered: dict[int, str]) -> list[str]:
    """Sentences about wrong plans, calls and notices.

    Args:
        numbered: the formulas and plans by the numbers of their jobs.
    """
    found = []
    keys = {plan: key for key, plan in PLANS.items()}
    plans = {number: text for number, text in numbered.items() if text in keys}
    if content.plans != plans:
        found.append(f"plans of jobs {sorted(content.plans)} instead of {sorted(plans)}, or others")
    left = content.calls.keys() | content.notices.keys() | content.plans.keys()
    left -= content.waiting.keys() | content.ended.keys()
    found += [f"job {number} is not there, but something of it is" for number in left]
    for number, plan in plans.items():
        values, calls = VALUES[keys[plan]], content.calls.get(number, {})
        if number in content.ended and calls.keys() != values.keys():
            found.append(f"job {number} ended, and {sorted(calls)} are known of its calls")
        for name, (state, value) in calls.items():
            wanted = values.get(name) if state == "succeeded" else None
            wrong = (wanted is None and state == "succeeded") or value != wanted
            if wrong or (state is None and number in content.ended):
                found.append(f"{name} of job {number} is {state} with {value!r}")
        notice = URL if URL in plan and number in content.ended else None
        if content.notices.get(number) != notice:
            found.append(f"who is told of job {number} is {content.notices.get(number)}")
    return found


def is_right(task: str, answer: str | None, error: str | None) -> bool:
    """True for the end that a formula must have."""
    answer_expected, error_expected = expected(task)
    if error_expected is None:
        return (answer, error) == (answer_expected, None)
    return answer is None and error is not None and error.startswith(error_expected)
