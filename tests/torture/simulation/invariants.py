"""What must hold after every step, in everything that clients are shown, and in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from harness.workloads import Outcome
from torture.simulation.call_watch import CallWatch
from torture.simulation.disk import Disk
from torture.simulation.formulas import IN_VAIN, WORKERS_LOST
from torture.simulation.ledger import Ledger
from torture.simulation.outcomes import Ended, complaint
from torture.simulation.profile import Profile
from torture.simulation.world import Violation, World

from dte.core.arithmetic.lease import BatchLease
from dte.core.errors import DteError, TryAgain
from dte.core.jobs.job import Job, kept_task
from dte.core.scheduler import Scheduler, Tick
from dte.core.why import reasons
from dte.core.workers.worker import Delivery
from dte.master.api.job_handler import JobReply
from dte.master.journal.recorder import Recorder
from dte.master.master import Master

RANKS = {
    "waiting": 0,
    "running": 1,
    "cancelling": 2,
    **dict.fromkeys(("succeeded", "failed", "timed_out", "cancelled"), 3),
}
LOSSES_BEFORE_BLAME = {WORKERS_LOST: 3, IN_VAIN: 5}
"""So many leases of an innocent operation must have been lost before its job may fail for it."""
TIMES_DIFFER_S = 0.001
"""Times go through floats of another size at each restart."""


class Watch:
    """Looks at the master from within, and at all that it tells, over all its starts."""

    def __init__(
        self, world: World, disk: Disk, ledger: Ledger, profile: Profile, calls: CallWatch
    ) -> None:
        self._world = world
        self._disk = disk
        self._ledger = ledger
        self._profile = profile
        self.calls = calls
        self._forgets = profile.forgets
        self._texts: dict[int, str] = {}
        self._master: Master | None = None
        self._core: Scheduler | None = None
        self._boots = 0
        self._leases: set[int] = set()
        self._recorded: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}
        self._shown: dict[int, JobReply] = {}
        self._progress: dict[int, tuple[int, int]] = {}
        self._losses: Counter[tuple[int, int]] = Counter()

    def begin(self, master: Master) -> None:
        """A master has started."""
        self._boots += 1
        self._master, core = master, master.core
        self._core = core

        def watched_tick(now: float) -> Tick:
            tick = type(core).tick(core, now)
            self._ticked(tick)
            return tick

        vars(core)["tick"] = watched_tick
        self.calls.begin(core)
        if core.jobs._last < max(self._texts, default=0):
            raise Violation(f"after job {max(self._texts)} the next is {core.jobs._last + 1}")
        self._progress.clear()

    def end(self) -> None:
        """The master has ended."""
        if self._core is not None:
            self._world.seen["a result comes too late"] += self._core.stale_results
        self._master = self._core = None
        self.calls.end()

    # After every step

    def step(self) -> None:
        """Check the core and what surrounds it, once all that was due is done."""
        master, core = self._master, self._core
        if master is None or core is None:
            return
        core.check()
        if master._closed or master._hearing is not None:
            return
        self._check_surroundings(master, core)
        if core.arithmetic.handing_over and not core.arithmetic._more_to_match:
            _nothing_waits_without_reason(core)
            self.calls.step(core)

    def _check_surroundings(self, master: Master, core: Scheduler) -> None:
        under_way = master._dispatcher._under_way.keys()
        pushed = {
            number
            for number, lease in core.arithmetic.leases.items()
            if lease.worker.announcement.delivery is Delivery.PUSH
        }
        if under_way != pushed:
            raise Violation(f"leases {sorted(pushed)}, but requests under way {sorted(under_way)}")
        if sum(len(worker.batch_leases) for worker in core.workers()) != len(
            core.arithmetic.leases
        ):
            raise Violation("slots in use are not as many as leases")
        for number in master.waiters._by_job:
            if core.jobs.job(number).is_terminal:
                raise Violation(f"job {number} has ended, and who waits for it is not told")
        recorder = master.recorder
        is_writing = isinstance(recorder, Recorder) and recorder._writing
        may_write = not is_writing and recorder.failure is None
        jobs = core.jobs
        if may_write and jobs._outbox:
            raise Violation("there are facts, and nobody records them")
        moment = core.next_tick()
        if moment is not None and (master._timer is None or master._timer.when() > moment):
            raise Violation(f"the core wants its tick at {moment}, and nobody will call it")

    def _ticked(self, tick: Tick) -> None:
        for lease in tick.batches:
            self._handed_over(lease)
        self.calls.ticked(tick)
        ending = self._core is None or not self._core.arithmetic.handing_over
        if self._profile.pauses and not ending:  # One that ends hears no more of its workers.
            self._nobody_is_blamed(tick)
        for lease in tick.lost:
            self._world.seen["a lease is lost"] += 1
            for job, nodes in lease.parts:
                for node in nodes:
                    self._losses[job.number, node] += 1
            if self._world.tracing:
                self._note(f"lost lease {lease.number}: {lease.lost_because}")

    def _nobody_is_blamed(self, tick: Tick) -> None:
        """Check that no worker is taken for silent while only the master paused.

        A worker that pulls may give up its claim at the moment at which that is answered.
        """
        for worker in tick.gone:
            raise Violation(f"{worker.announcement.name} is gone, and nothing happened to it")
        for lease in tick.lost:
            if lease.may_come_late and lease.worker.announcement.delivery is Delivery.PUSH:
                name = lease.worker.announcement.name
                raise Violation(f"lease {lease.number} is lost, and nothing happened to {name}")

    def _handed_over(self, lease: BatchLease) -> None:
        if lease.number in self._leases:
            raise Violation(f"lease {lease.number} was given before")
        self._leases.add(lease.number)
        self.calls.troubles.handed_over(lease)
        columns = lease.columns()
        if None in columns[1] or None in columns[2]:
            raise Violation(f"lease {lease.number} has an operation without its operands")
        for job, _ in lease.parts:
            self._must_be_recorded(job.number, "is being done")
        if self._world.tracing:
            parts = ", ".join(f"{len(nodes)} of job {job.number}" for job, nodes in lease.parts)
            name = lease.worker.announcement.name
            self._note(f"lease {lease.number} for {name}: {parts or 'a question'}")

    # What is told

    def acknowledged(self, numbers: Sequence[int], texts: Sequence[str]) -> None:
        """The master is about to acknowledge formulas as these jobs."""
        self._world.seen["a submission is acknowledged"] += 1
        for number, text in zip(numbers, texts, strict=True):
            self._must_be_recorded(number, "is acknowledged")
            known = self._texts.setdefault(number, text)
            if known != text:
                raise Violation(f"job {number} is {known!r} and {text!r}")
        if self._world.tracing:
            self._note(f"acknowledges jobs {list(numbers)}: {', '.join(map(_brief, texts))}")

    def knows(self, key: str) -> bool:
        """Whether a submission with this key is recorded."""
        query = "SELECT 1 FROM submission WHERE key = ?"
        return bool(key and self._profile.journaled and self._disk.rows(query, key))

    def refused(self, key: str, error: DteError) -> None:
        """The master is about to refuse what was recorded when it was asked for."""
        readable = "the disk cannot be read" not in self._profile.accidents
        if isinstance(error, TryAgain) and readable and not self._forgets:
            raise Violation(f"{key} was recorded, and is refused: {error}")

    def shown(self, job: JobReply, inside: Job) -> None:
        """The master is about to tell how a job stands."""
        number = job.job_id
        self._must_be_recorded(number, "is shown")
        before = self._shown.get(number, job)
        self._shown[number] = job
        # Of calls it may become known only later that they are equal.
        same = before.operations == job.operations or bool(self._profile.calling)
        same = same and _agree(before.submitted_at, job.submitted_at)
        if job.finished:
            self._finished(number, (_answer(job.answer), job.error), inside)
            if before.finished:
                same = same and before.operations_done == job.operations_done
                same = same and _agree(before.started_at, job.started_at)
                same = same and _agree(before.ended_at, job.ended_at)
        elif number in self._outcomes:
            raise Violation(f"job {number} had ended, and is {job.state} again")
        elif job.answer is not None or job.error is not None or job.ended_at is not None:
            raise Violation(f"job {number} is {job.state}, and has an outcome already")
        if not same:
            raise Violation(f"job {number} was {before}, and is {job}")
        times = [at for at in (job.submitted_at, job.started_at, job.ended_at) if at is not None]
        if times != sorted(times):
            raise Violation(f"job {number} takes less than no time: {times}")
        self._must_not_go_back(number, job)

    def _must_not_go_back(self, number: int, job: JobReply) -> None:
        """Between two starts of a master, which begins unfinished jobs again."""
        progress = (RANKS[job.state], job.operations_done)
        before = self._progress.get(number, progress)
        if progress[0] < before[0] or progress[1] < before[1]:
            raise Violation(f"job {number} was at {before}, and now is at {progress}")
        self._progress[number] = progress

    def _finished(self, number: int, outcome: Outcome, inside: Job) -> None:
        if self._outcomes.get(number) == outcome:
            return
        if number in self._outcomes:
            raise Violation(f"job {number} ended as {self._outcomes[number]}, and as {outcome}")
        if self._profile.journaled:
            query = "SELECT answer, answer_json, error FROM ended WHERE number = ?"
            rows = self._disk.rows(query, number)
            if not rows and not self._forgets:
                raise Violation(f"job {number} is shown as ended, and its end is not recorded")
            if rows and (_kept_answer(*rows[0][:2]), rows[0][2]) != outcome:
                raise Violation(f"job {number} is shown as {outcome}, recorded as {rows[0]}")
        if number in self._texts:
            self._must_be_right(number, self._texts[number], outcome, inside)
        self._world.seen["a job is seen to have ended"] += 1
        self._outcomes[number] = outcome
        if self._world.tracing:
            self._note(f"shows the end of job {number}: {_brief(outcome[1] or outcome[0])}")

    def _must_be_right(
        self, number: int, text: str, outcome: Outcome, inside: Job | None = None
    ) -> None:
        if text in self.calls.plans.made:
            self._calls_must_be_right(number, text, outcome, inside)
            return
        formula = self._ledger.formula(text)
        if formula.allows(outcome) or self._is_excused(number, outcome[1], formula.innocent):
            return
        came, expected = outcome[1] or outcome[0], formula.reason or repr(formula.answer)
        raise Violation(f"job {number}, {_brief(text)}, is {came}, not {expected}")

    def _calls_must_be_right(
        self, number: int, name: str, outcome: Outcome, inside: Job | None
    ) -> None:
        """Check the end of a job with calls, as long as it is known how these ended."""
        plan, calls = self.calls.plans.made[name], self.calls
        rows = calls.rows(number, inside)
        if self._profile.journaled:
            ended = "SELECT state FROM ended WHERE number = ?"
            kept = self._disk.rows(ended, number)
            if not kept:
                return  # It is deleted.
            state = kept[0][0] or ("failed" if outcome[1] else "succeeded")
        else:
            assert inside is not None
            state = inside.state.value
        if number in calls.cancelled and state != "cancelled":
            raise Violation(f"job {number}, {name}, was cancelled, and is {state} {outcome}")
        end = Ended(
            number,
            *outcome,
            state,
            rows,
            number in calls.cancels_asked,
            calls.is_retry(number),
            any(self._failed(other) for other in plan.after),
            lambda call: calls.losses[number, call],
        )
        if plan.formula and self._is_excused(number, outcome[1], True):
            return  # It is its arithmetic that lost workers.
        wrong = complaint(plan, end, calls.executions)
        if wrong is not None:
            raise Violation(f"job {number}, {name}, is {state} {outcome}: {wrong}")

    def _failed(self, number: int) -> bool:
        """Whether a job has ended, and did not succeed."""
        if not self._profile.journaled:
            # It may be in memory no more, and nobody has asked for it before.
            return number not in self._outcomes or self._outcomes[number][1] is not None
        query = "SELECT 1 FROM ended WHERE number = ? AND error IS NOT NULL"
        return bool(self._disk.rows(query, number))

    def _is_excused(self, number: int, error: str | None, innocent: bool) -> bool:
        """Whether so many workers were lost by chance that it looks as if the job was to blame.

        A worker like the seed's that keeps its name is acquitted when it is asked after it was
        started anew. So an operation that ends such a worker again and again is ended by the
        connections that broke, not by the workers that it has cost.
        """
        if error is None:
            return False
        if self._profile.gentle:
            return IN_VAIN in error and not innocent and self._profile.restarts_unnoticed
        for reason, least in LOSSES_BEFORE_BLAME.items():
            if reason in error:
                losses = [times for (job, _), times in self._losses.items() if job == number]
                return not innocent or max(losses, default=0) >= least
        return False

    def _must_be_recorded(self, number: int, what: str) -> None:
        if number in self._recorded or not self._profile.journaled:
            return
        rows = self._disk.rows(
            "SELECT 1 FROM waiting WHERE number = ? UNION ALL SELECT 1 FROM ended WHERE number = ?",
            *(number, number),
        )
        if not rows and not self._forgets:
            raise Violation(f"job {number} {what}, and is not recorded")
        self._recorded.add(number)

    # In the end

    def all_is_done(self) -> bool:
        """Whether the master has nothing left to do."""
        core = self._core
        return core is not None and core.jobs.waiting == 0

    def explain(self) -> str:
        """Check that of every job it is known what it waits for."""
        master, core = self._master, self._core
        if master is not None and core is not None and not master._closed:
            for job in core.jobs.newest(len(core.jobs._ring)):
                self.calls.explained(job, list(reasons(core, master.clock.now(), job)))
        return ""

    def what_is_left(self) -> str:
        """Why the first job that has not ended has not."""
        core = self._core
        if core is None:
            return "no master runs"
        for job in core.jobs.newest(len(core.jobs._ring)):
            if not job.is_terminal:
                assert self._master is not None
                found = reasons(core, self._master.clock.now(), job)
                return f"job {job.number}: {'; '.join(reason.text for reason in found)}"
        return "some client is not"

    def settled(self) -> None:
        """Check that nothing is left over, and that every job is in the journal as it should be."""
        master, core = self._master, self._core
        assert master is not None
        assert core is not None
        left = {
            "jobs wait": core.jobs.waiting,
            "operations wait": core.jobs.operations_waiting,
            "operations are ready": core.jobs.ready.count,
            "submissions are being accepted": len(master.jobs._accepting),
        }
        if self._profile.journaled:
            left["jobs wait in the journal"] = len(self._disk.rows("SELECT 1 FROM waiting"))
            self._check_journal()
        for what, count in left.items():
            if count:
                raise Violation(f"in the end {count} {what}")

    def _check_journal(self) -> None:
        texts: Counter[str] = Counter()
        plans = dict(self._disk.rows("SELECT number, text FROM plan"))
        for number, answer, answer_json, error, task in self._disk.rows(
            "SELECT number, answer, answer_json, error, task FROM ended"
        ):
            outcome = (_kept_answer(answer, answer_json), error)
            if number in plans:
                task, again = self.calls.plan_of(plans[number])
                texts[task] -= again  # It may be done once more.
            texts[task] += 1
            self._must_be_right(number, task, outcome)
            if self._outcomes.get(number, outcome) != outcome:
                raise Violation(f"job {number} was {self._outcomes[number]}, and is {outcome}")
            if texts[task] > 1 and not self._forgets:
                raise Violation(f"{_brief(task)} was done twice, the second time as job {number}")
        if not self._forgets:
            for number, name in self._ledger.plans.items():
                if not self._disk.rows("SELECT 1 FROM ended WHERE number = ?", number):
                    raise Violation(f"job {number}, {name}, was acknowledged and is lost")
            for number in self._ledger.formulas:
                if kept_task(self._ledger.text(number)) not in texts:
                    raise Violation(f"job {number} was acknowledged and is lost")

    def _note(self, what: str) -> None:
        self._world.note(f"master {self._boots}", what)


def _nothing_waits_without_reason(core: Scheduler) -> None:
    """Check that what can be handed over is handed over, after a tick."""
    # One that has vanished with operations is first asked whether it is there.
    free = [worker for worker in core.workers() if worker.free_slots and not worker.suspects]
    if free and core.jobs.ready.count:
        name = free[0].announcement.name
        raise Violation(f"{core.jobs.ready.count} operations wait, and {name} has a free slot")
    idle = [worker for worker in free if not worker.batch_leases]
    if idle and any(job.graph is not None for job, _ in core.arithmetic.quarantine._line):
        raise Violation(f"a suspect waits, and {idle[0].announcement.name} has nothing to do")


def _answer(answer: Any) -> str:
    """An answer that is shown: as `repr` writes a number, or as JSON."""
    if isinstance(answer, msgspec.Raw):
        return f"json:{bytes(answer).decode()}"
    return repr(answer)


def _kept_answer(answer: str | None, json: str | bytes | None) -> str:
    """The same, of what the journal has."""
    if json is None:
        return str(answer)
    return f"json:{json.decode() if isinstance(json, bytes) else json}"


def _agree(one: datetime | None, other: datetime | None) -> bool:
    """Whether two times are the same but for rounding."""
    if one is None or other is None:
        return one is other
    return abs((one - other).total_seconds()) < TIMES_DIFFER_S


def _brief(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}…{text[-12:]}"
