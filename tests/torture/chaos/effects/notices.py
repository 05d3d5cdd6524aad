"""The accounting of webhooks: each end is told, truly, and not before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torture.chaos.accounting import Anomaly
from torture.chaos.effects.begun import Found
from torture.chaos.effects.receiver import Notice
from torture.chaos.effects.story import Story
from torture.chaos.outcome import Outcome


def untold(stories: Iterable[Story], notices: Iterable[Notice]) -> list[int]:
    """The jobs whose end nobody has taken yet."""
    taken = {notice.body["job_id"] for notice in notices if notice.taken}
    wanted = (story.number for story in stories if story.number and story.job.notify)
    return [number for number in wanted if number not in taken]


def check_notices(
    found: Found,
    stories: Iterable[Story],
    notices: Iterable[Notice],
    standing: Mapping[int, Outcome | None],
) -> int:
    """Look at every delivery, and for those that are missing; how many jobs were told of."""
    stories, notices = list(stories), list(notices)
    wanted = {story.number for story in stories if story.job.notify}
    for number in untold(stories, notices):
        found(Anomaly.UNTOLD, number, f"nobody was told of the end of job {number}")
    for notice in notices:
        number = notice.body["job_id"]
        said, state = Outcome.of_job(notice.body), notice.body["state"]
        if said is None:
            found(Anomaly.UNTOLD, number, f"a webhook told of job {number}, which is {state}")
        elif number in standing and said != standing[number]:
            text = f"a webhook told of job {number} that it is {said}, and it is {standing[number]}"
            found(Anomaly.CHANGED, number, text)
        elif said.failed != (state != "succeeded"):
            found(Anomaly.CHANGED, number, f"a webhook told of job {number}: {state} and {said}")
        if number not in wanted and number in {story.number for story in stories}:
            found(Anomaly.UNEXPECTED, number, f"a webhook told of job {number}, unasked")
    return len({notice.body["job_id"] for notice in notices if notice.taken})
