"""What must hold of calls after every step, when they are handed over, and in what is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torture.simulation.disk import Disk
from torture.simulation.executions import Executions
from torture.simulation.outcomes import CallRow
from torture.simulation.plans import HANDLERS, PlanMaker, tag_of
from torture.simulation.profile import Profile
from torture.simulation.trouble_watch import TroubleWatch
from torture.simulation.world import Violation, World

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import Call, CallState
from dte.core.jobs.job import Job
from dte.core.scheduler import LEASES_OF_A_BOOT, Scheduler, Tick
from dte.core.why import Reason
from dte.core.workers.worker import Worker
from dte.master.clock import LOOK_S
from dte.master.plans import read_plan

WAITS_FOR = frozenset(
    {
        *("operands", "jobs", "worker", "slot", "delay"),
        *("retry", "journal", "restart", "stop", "result", "silence"),
    }
)
CLOCKS_DIFFER_S = 0.002
OVERDUE_S = LOOK_S + 0.1
ROWS = "SELECT name, state, attempts, failures, lost, value, error FROM call WHERE job = ?"


class CallWatch:
    """Looks at calls from within, over all starts of the master.

    Attributes:
        cancelled: the jobs of which a client was told that they are cancelled.
        cancels_asked: the jobs that somebody wanted cancelled.
    """

    def __init__(
        self,
        world: World,
        disk: Disk,
        profile: Profile,
        plans: PlanMaker,
        executions: Executions,
        troubles: TroubleWatch,
    ) -> None:
        self._world = world
        self._disk = disk
        self._profile = profile
        self.plans = plans
        self.executions = executions
        self.troubles = troubles
        self._core: Scheduler | None = None
        self._began_at = 0.0
        self._due_since: dict[tuple[int, str], float] = {}
        self._leases: set[int] = set()
        self._ends: dict[tuple[int, str], tuple[str, bytes | None]] = {}
        self._retries: set[int] = set()
        self.cancelled: set[int] = set()
        self.cancels_asked: set[int] = set()
        self.losses: Counter[tuple[int, str]] = Counter()

    def begin(self, core: Scheduler) -> None:
        """A master has started."""
        self._core, self._began_at = core, self._world.now
        self._due_since.clear()
        calls, attempts = core.calls, core.calls._attempts

        def watched_hand_over(now: float, worker: Worker, call: Call) -> None:
            self._highest_first(core, worker, call)
            if not call.record.attempts:
                self._time_has_come(f"{call.name} of job {call.job}", call)
            self.troubles.hand_over(worker, call)
            type(calls)._hand_over(calls, now, worker, call)

        def watched_lose(now: float, lease: CallLease, reason: str) -> None:
            if self._profile.pauses and reason.startswith("silent"):
                self._nobody_was_silent(core, lease, reason)
            self.troubles.lose(lease, reason)
            if lease.sent:
                self._world.seen["a call is lost"] += 1
                self.losses[lease.call.job, lease.call.name] += 1
            type(attempts).lose(attempts, now, lease, reason)

        if self._profile.troubles:
            self.troubles.begin(core)
        vars(calls)["_hand_over"] = watched_hand_over
        vars(attempts)["lose"] = watched_lose

    def end(self) -> None:
        """The master has ended."""
        if self._core is not None:
            self._world.seen["a report comes too late"] += self._core.calls.stale_results
        self._core = None

    # After every step

    def step(self, core: Scheduler) -> None:
        """Check that no call has two leases, and none waits too long or beside a free slot."""
        self._nothing_is_overdue(core)
        if self._profile.troubles:
            self.troubles.step(core)
        calls = core.calls
        leased = [lease.call for lease in calls.leases]
        if len(set(map(id, leased))) != len(leased):
            raise Violation("a call has two leases")
        if calls.jobs.ready.count and calls.handing_over and not calls._more_to_match:
            for worker in core.workers():
                if not worker.free_call_slots:
                    continue
                able = calls._prefetch.allowed(worker, list(calls.jobs.ready.handlers()))
                waiting = [name for name in calls.jobs.ready.handlers() if name in able]
                if waiting and not core._workers.calls:
                    raise Violation(
                        f"{waiting} wait, and {worker.announcement.name} has a free slot"
                    )

    def _nothing_is_overdue(self, core: Scheduler) -> None:
        """Check that a call whose time has come by the clock on the wall goes on soon."""
        wall_s, now, before = self._world.wall_s, self._world.now, self._due_since
        self._due_since = {}
        for job in core.jobs.newest(len(core.jobs._ring)):
            for call in job.each_call() if job.graph is not None else ():
                not_before = call.terms.not_before
                if call.state is not CallState.PAUSED or not_before is None:
                    continue
                if call.resumes_at is None and not_before <= wall_s:
                    key = job.number, call.name
                    since = self._due_since[key] = before.get(key, now)
                    if now > since + OVERDUE_S:
                        raise Violation(f"{call.name} of job {job.number} is not begun in time")

    def _nobody_was_silent(self, core: Scheduler, lease: CallLease, reason: str) -> None:
        """Check the loss of a call while only the master paused: it may not have got to its worker.

        That is so if a master ended after it had recorded the hand-over, or if a worker gave up its
        claim at the moment at which that was answered.
        """
        of_this_start = lease.number // LEASES_OF_A_BOOT == core._last_lease // LEASES_OF_A_BOOT
        arrived = of_this_start and lease.claim is None
        if arrived or lease.number in self.executions.by_lease:
            what = f"lease {lease.number}, {lease.call.name} of job {lease.call.job}"
            name = lease.worker_name
            raise Violation(f"{what}, is lost: {name} is {reason}, and nothing happened to it")

    # When calls are handed over

    def ticked(self, tick: Tick) -> None:
        """The core has handed calls over to workers that are called."""
        for lease in tick.calls:
            self.handed_over(lease)

    def handed_over(self, lease: CallLease) -> None:
        """A worker is about to get a call."""
        call, number = lease.call, lease.call.job
        what = f"lease {lease.number}, {call.name} of job {number}"
        if self._world.tracing:
            self._note(f"{what}, for {lease.worker_name}, attempt {call.record.attempts}")
        if lease.number in self._leases:
            raise Violation(f"{what}, was given before")
        self._leases.add(lease.number)
        if number in self.cancelled:
            raise Violation(f"{what}: the job was cancelled")
        record = call.record
        if record.attempts != record.failures + record.lost + 1:
            raise Violation(
                f"{what}: attempt {record.attempts}, {record.failures} failures, {record.lost} lost"
            )
        self._operands_are_known(what, call)
        self.executions.handed_over(what, number, call.args, record.attempts)
        if not call.pure and self._profile.journaled:
            rows = self._disk.rows(
                "SELECT 1 FROM call WHERE job = ? AND name = ? AND lease = ? AND attempts = ?",
                *(number, call.name, lease.number, record.attempts),
            )
            if not rows:
                raise Violation(f"{what}, is not recorded")

    def _time_has_come(self, what: str, call: Call) -> None:
        """Check that a call is not begun too early."""
        _, node = self.plans.by_tag[tag_of(call.args)]
        if self._world.wall_s < node.not_before - CLOCKS_DIFFER_S:
            raise Violation(f"{what}, begins {node.not_before - self._world.wall_s:.3f} s early")
        # While no master runs, a delay can only go by the clock on the wall.
        made_at = self.plans.made[self.plans.by_tag[node.tag][0].name].made_at
        known = made_at >= self._began_at and call.job not in self._retries
        if known and self._world.now < node.not_before_s - CLOCKS_DIFFER_S:
            raise Violation(f"{what}, begins {node.not_before_s - self._world.now:.3f} s early")
        if node.not_before and "the clock steps" in self._profile.accidents:
            self._world.seen["a call begins by a clock that steps"] += 1

    def _operands_are_known(self, what: str, call: Call) -> None:
        assert self._core is not None
        calls = self._core.jobs.job(call.job).calls
        assert calls is not None
        if call.operands.keys() != set(call.refs):
            raise Violation(f"{what}: {sorted(call.operands)} is known of {call.refs}")
        for name in (*call.refs, *call.after):
            other = calls.get(name)
            if other is None:
                continue  # Arithmetic.
            if not other.is_terminal or not (
                other.recorded or other.pure or not other.record.attempts
            ):
                raise Violation(f"{what}: {name}, before it, is {other.state}")
            if name in call.operands and call.operands[name] != (other.record.value or b"null"):
                raise Violation(
                    f"{what}: {name} gave {other.record.value!r}, not {call.operands[name]!r}"
                )

    def _highest_first(self, core: Scheduler, worker: Worker, call: Call) -> None:
        """Check that nothing of a higher priority waits that the worker could do now."""
        allowed = core.calls._prefetch.allowed(worker, worker.announcement.handlers)
        for job in core.jobs.newest(len(core.jobs._ring)):
            if job.calls is None or job.graph is None:
                continue
            for other in job.calls.calls.values():
                waits = other.state is CallState.READY and other.handler in allowed
                if waits and other.priority > call.priority:
                    raise Violation(
                        f"{call.name} goes before {other.name} of priority {other.priority}"
                    )

    # What workers report

    def before_reports(
        self, outcomes: Sequence[tuple[int, Outcome]], being_recorded: Collection[int]
    ) -> set[int]:
        """Reports have come: the leases among them that go on, or whose end is being recorded."""
        assert self._core is not None
        live = {
            number
            for number, _ in outcomes
            if (lease := self._core.calls.leases.get(number)) is not None and lease.sent
        }
        self.executions.returned(
            number for number, outcome in outcomes if number in live and outcome.state is None
        )
        return live | {number for number, _ in outcomes if number in being_recorded}

    def reported(self, live: set[int], reports: Sequence[int], accepted: Iterable[int]) -> None:
        """The master is about to say which reports count."""
        for number in accepted:
            if number in reports and number not in live:
                raise Violation(f"a report under lease {number} counts, which had ended")

    # What clients ask for

    def cancel_asked(self, number: int) -> None:
        """Somebody wants a job cancelled."""
        self.cancels_asked.add(number)

    def cancel_accepted(self, number: int) -> None:
        """The master is about to say that a job is cancelled."""
        self._world.seen["a job is cancelled"] += 1
        if self._world.tracing:
            self._note(f"says that job {number} is cancelled")
        self.cancelled.add(number)

    def retried(self, old: Job, new: int) -> None:
        """The master is about to say that a job does the failed part of another again."""
        self._world.saw("a master", "a job is retried")
        self._retries.add(new)
        rows = self.rows(old.number, old).values()
        if not rows:
            return  # They are deleted since the retry has read them.
        failed = {row.name for row in rows if row.state in ("failed", "timed_out", "skipped")}
        self.executions.taken_over(old.number, new, failed)

    def explained(self, job: Job, found: Sequence[Reason]) -> Any:
        """The master is about to say what a job waits for."""
        what = f"job {job.number}, {job.state.value}"
        if bool(found) == job.is_terminal:
            raise Violation(f"{what}, is explained by {found}")
        for reason in found:
            if reason.waits_for not in WAITS_FOR or not reason.text:
                raise Violation(f"{what}, is explained by {reason}")
        named = {reason.node for reason in found if reason.node}
        if job.graph is not None and job.calls is not None:
            unfinished = {call.name for call in job.calls.calls.values() if not call.is_terminal}
            if named != unfinished:
                raise Violation(f"{what}: {named} is explained, {unfinished} waits")
            for reason in found:
                self._agrees(what, job, reason)
        return {"reasons": len(found)}

    def _agrees(self, what: str, job: Job, reason: Reason) -> None:
        """Check a reason against how things stand."""
        core = self._core
        assert core is not None
        assert job.calls is not None
        call = job.calls.get(reason.node) if reason.node else None
        if call is None:
            return
        able = [
            worker
            for worker in core.workers()
            if call.handler in worker.announcement.handlers
            and worker.state not in ("gone", "draining", "pausing", "unreachable", "failing")
            and worker.silent_since <= worker.last_seen_at
        ]
        lease = core.calls.leases.get(call.record.lease)
        wrong = {
            "worker": bool(able) or call.state not in (CallState.READY, CallState.PAUSED),
            "slot": not able or call.state is not CallState.READY,
            "result": lease is None,
            "silence": lease is None,
            "stop": lease is None or not lease.stop,
            "delay": call.state is not CallState.PAUSED,
            "retry": call.record.resumes_at is None,
        }
        if wrong.get(reason.waits_for, False):
            raise Violation(f"{what}: {reason} is said of {call}")

    def nodes_shown(self, job: Job, calls: Sequence[Call]) -> Any:
        """The master is about to say how calls stand: an end never changes."""
        for call in calls:
            if job.is_terminal and not call.is_terminal:
                raise Violation(f"job {job.number} has ended, and {call.name} is {call.state}")
            state = call.shown_state
            if call.pure or HANDLERS[call.handler].pure:
                continue
            key = job.number, call.name
            if state is call.state and call.is_terminal:
                end = state.value, call.record.value
                if self._ends.setdefault(key, end) != end:
                    raise Violation(f"{call.name} of job {job.number}: {self._ends[key]}, {end}")
            elif key in self._ends:
                raise Violation(f"{call.name} of job {job.number} had ended, and is {state.value}")
        return {"nodes": len(calls)}

    def rows(self, number: int, job: Job | None) -> dict[str, CallRow]:
        """How the calls of a job ended, by name."""
        if self._profile.journaled:
            rows = self._disk.rows(ROWS, number)
        else:
            rows = [
                (c.name, c.state.value, r.attempts, r.failures, r.lost, r.value, r.error)
                for c, r in ((c, c.record) for c in (job.each_call() if job is not None else ()))
            ]
        return {row[0]: CallRow(*row) for row in rows}

    def is_retry(self, number: int) -> bool:
        """Whether a job does the failed part of another again."""
        if number in self._retries or not self._profile.journaled:
            return number in self._retries
        plans = self._disk.rows("SELECT text FROM plan WHERE number = ?", number)
        return any(self.plan_of(text)[1] for (text,) in plans)

    def plan_of(self, text: str) -> tuple[str, bool]:
        """The name of the job that was submitted as a plan, and whether it is a retry."""
        plan = read_plan(text)
        if plan.formula is not None:
            return self.plans.made[plan.formula].name, plan.retry_of is not None
        first = next(iter(plan.graph.values()))
        return self.plans.by_tag[tag_of(first.args)][0].name, plan.retry_of is not None

    def _note(self, what: str) -> None:
        self._world.note("master", what)
