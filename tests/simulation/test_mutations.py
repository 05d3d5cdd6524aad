"""That the simulation finds what it is for: dte is broken on purpose, in one way at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from dte.core.availability import AvailabilityQueue
from dte.core.facts import End, Facts, Submission
from dte.core.formula import Formula
from dte.core.job import Job, JobState
from dte.core.jobs import JobBook
from dte.core.lease import Lease
from dte.core.operations import Number
from dte.core.scheduler import Scheduler
from dte.core.suspects import Suspects
from dte.master.journal import Journal
from simulation.simulation import simulate

SEEDS_MAX = 150
"""Within so many seeds each is found; most are within the first few."""

Patch = pytest.MonkeyPatch


def accepts_stale_results(patch: Patch) -> None:
    make, complete = Scheduler._lease, Scheduler.complete
    known: dict[tuple[int, int], Lease] = {}

    def remembering(core: Scheduler, *arguments: Any) -> Lease:
        lease = make(core, *arguments)
        known[id(core), lease.number] = lease
        return lease

    def forgiving(
        core: Scheduler, now: float, number: int, results: Sequence[Number], errors: Any
    ) -> bool:
        lease = known.get((id(core), number))
        if number not in core._leases and lease is not None:
            core._leases[number] = lease
        return complete(core, now, number, results, errors)

    patch.setattr(Scheduler, "_lease", remembering)
    patch.setattr(Scheduler, "complete", forgiving)


def hands_over_what_is_not_recorded(patch: Patch) -> None:
    submit, recorded = JobBook.submit, JobBook.recorded

    def hasty(book: JobBook, *arguments: Any) -> Submission:
        submission = submit(book, *arguments)
        for job in submission.jobs:
            if job.graph is not None and job.graph.ready:
                job.enter(JobState.WAITING)
                book.ready.add(job, len(job.graph.ready))
        return submission

    def late(book: JobBook, facts: Facts, void: Any) -> None:
        for submission in facts.submissions:
            for job in submission.jobs:
                if job.state is not JobState.ACCEPTING and job.graph is not None:
                    job.state = JobState.ACCEPTING
                    book.ready.drop(job)
        recorded(book, facts, void)

    patch.setattr(JobBook, "submit", hasty)
    patch.setattr(JobBook, "recorded", late)


def forgets_lost_operations(patch: Patch) -> None:
    def forgetful(core: Scheduler, now: float, lease: Lease, reason: str, taken: bool) -> None:
        core._release(lease)
        core._workers.offer(lease.worker)
        core._lost.append(lease)

    patch.setattr(Scheduler, "_lose", forgetful)


def keeps_the_slot_of_a_lost_lease(patch: Patch) -> None:
    def forgetful(core: Scheduler, lease: Lease) -> None:
        del core._leases[lease.number]

    patch.setattr(Scheduler, "_release", forgetful)


def shows_ends_that_are_not_recorded(patch: Patch) -> None:
    end, close = JobBook.end, JobBook._close

    def hasty(book: JobBook, now: float, job: Job, **how: Any) -> None:
        end(book, now, job, **how)
        close(book, book._ends[-1])

    def once(book: JobBook, fact: End) -> None:
        if not fact.job.finished:
            close(book, fact)

    patch.setattr(JobBook, "end", hasty)
    patch.setattr(JobBook, "_close", once)


def forgets_ends_that_could_not_be_recorded(patch: Patch) -> None:
    unrecorded = JobBook.unrecorded

    def forgetful(book: JobBook, facts: Facts) -> None:
        unrecorded(book, Facts(facts.submissions, []))

    patch.setattr(JobBook, "unrecorded", forgetful)


def accepts_what_could_not_be_recorded(patch: Patch) -> None:
    def hopeful(book: JobBook, facts: Facts) -> None:
        book.recorded(facts)

    patch.setattr(JobBook, "unrecorded", hopeful)


def numbers_leases_alike_after_each_start(patch: Patch) -> None:
    begin = Scheduler.__init__

    def without_boot(core: Scheduler, limits: Any, boot: int = 0, seed: int = 0) -> None:
        begin(core, limits, 0, seed)

    patch.setattr(Scheduler, "__init__", without_boot)


def takes_repeats_for_new(patch: Patch) -> None:
    insert = Journal._insert_keys

    def forgetful(journal: Journal, submissions: Sequence[Submission]) -> Mapping[Any, Any]:
        insert(journal, submissions)
        return {}

    patch.setattr(Journal, "_insert_keys", forgetful)


def does_not_go_on_after_a_restart(patch: Patch) -> None:
    def lazy(book: JobBook, now: float, job: Job, formula: Formula) -> None:
        pass

    patch.setattr(JobBook, "resume", lazy)


def numbers_jobs_anew_after_a_restart(patch: Patch) -> None:
    def only_waiting(journal: Journal) -> int:
        (last,) = journal._db.execute("SELECT max(number) FROM waiting").fetchone()
        return last or 0

    patch.setattr(Journal, "_find_last_job", only_waiting)


def leaves_workers_idle_after_a_pause(patch: Patch) -> None:
    resume = AvailabilityQueue.resume

    def idle(queue: AvailabilityQueue, now: float) -> None:
        vars(queue)["offer"] = lambda worker: None
        resume(queue, now)
        del vars(queue)["offer"]

    patch.setattr(AvailabilityQueue, "resume", idle)


def hands_out_suspects_together(patch: Patch) -> None:
    take = Suspects.take

    def greedy(suspects: Suspects) -> list[Any]:
        parts: list[Any] = []
        while part := take(suspects):
            parts += part
        return parts

    patch.setattr(Suspects, "take", greedy)


def charges_nobody_for_lost_workers(patch: Patch) -> None:
    patch.setattr(Scheduler, "_charge", lambda core, now, worker: worker.accused.clear())


MUTATIONS: list[Callable[[Patch], None]] = [
    accepts_stale_results,
    hands_over_what_is_not_recorded,
    forgets_lost_operations,
    keeps_the_slot_of_a_lost_lease,
    shows_ends_that_are_not_recorded,
    forgets_ends_that_could_not_be_recorded,
    accepts_what_could_not_be_recorded,
    numbers_leases_alike_after_each_start,
    takes_repeats_for_new,
    does_not_go_on_after_a_restart,
    numbers_jobs_anew_after_a_restart,
    leaves_workers_idle_after_a_pause,
    hands_out_suspects_together,
    charges_nobody_for_lost_workers,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_core_that_is_wrong_is_found(
    mutation: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    mutation(monkeypatch)
    assert any(simulate(seed).failure is not None for seed in range(SEEDS_MAX))
