"""What a salvage saved, and what is lost."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Loss:
    """Rows of a table that are lost, or may be.

    Attributes:
        what: what the rows are, for people.
        table: the name of the table.
        pages: the damaged pages that had some of them.
        rows: the damaged rows on other pages.
        is_certain: some are lost for sure.
    """

    what: str
    table: str
    pages: list[int]
    rows: int
    is_certain: bool


@dataclass
class Salvaged:
    """The outcome.

    Attributes:
        version: the version of the journal; None if it is not known.
        rows: the number of rows that were saved, by table.
        lost_rows: tables of which rows are lost, each with the number of rows and of pages that are
            known to be damaged.
        losses: the same, for people; without the rows that are all named by the ids of their jobs.
        lost_jobs: the ids of jobs that are known to be lost.
        unknown_jobs: ranges of ids that no table has: these jobs are lost, or were deleted before,
            or such an id was never given.
        failed_jobs: the ids of jobs that failed, as they were in doubt or their rows are lost.
        rebuilt_jobs: the ids of jobs whose own rows are lost, and that were kept by what their
            plans and the records of their calls say.
        lost_webhooks: the ids of lost jobs that had webhooks.
        lost_plans: the ids of jobs whose plans are lost, or may be.
        last_job: the highest id that is known.
        damaged_pages: their numbers.
        pages: the number of pages that the file has.
        pages_once: the number of pages that it had before it was cut short, if it was.
    """

    version: int | None
    rows: dict[str, int] = field(default_factory=dict)
    lost_rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    lost_jobs: list[int] = field(default_factory=list)
    unknown_jobs: list[tuple[int, int]] = field(default_factory=list)
    failed_jobs: list[int] = field(default_factory=list)
    rebuilt_jobs: list[int] = field(default_factory=list)
    lost_webhooks: list[int] = field(default_factory=list)
    lost_plans: list[int] = field(default_factory=list)
    last_job: int = 0
    damaged_pages: list[int] = field(default_factory=list)
    damaged_in_log: int = 0
    mark_lost: bool = False
    pages: int = 0
    pages_once: int = 0

    @property
    def is_whole(self) -> bool:
        jobs = self.lost_jobs or self.unknown_jobs or self.lost_plans or self.failed_jobs
        jobs = jobs or self.rebuilt_jobs
        rows = self.lost_rows or self.damaged_in_log or self.pages < self.pages_once
        return not (jobs or rows)
