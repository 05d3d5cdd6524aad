"""What the routes of calls, and of workers that do them, do around the master, without HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torture.simulation.network import Call

from dte.core.errors import Conflict
from dte.core.why import reasons
from dte.core.workers.worker import Announcement, Delivery
from dte.master.api.submission import JobSubmission
from dte.master.master import Master
from dte.master.messages import batch_of, call_of, outcome_of_report, policies
from dte.master.sessions import digest_of
from dte.wire.codec import Decoder
from dte.wire.messages.calls import Claim, Claimed, Extend, ExtendReply, Reports, ReportsReply

if TYPE_CHECKING:
    from torture.simulation.call_watch import CallWatch

_submission: Decoder[JobSubmission] = Decoder(JobSubmission, lenient=False)
_claim: Decoder[Claim] = Decoder(Claim, lenient=False)
_reports: Decoder[Reports] = Decoder(Reports)
_extend: Decoder[Extend] = Decoder(Extend, lenient=False)


async def reply(master: Master, watch: CallWatch, call: Call) -> Any:
    """Do what a request asks for, and give what its reply says."""
    arguments = call.arguments
    match call.route:
        case "cancel":
            return await _cancel(master, watch, arguments[0])
        case "retry":
            (job,) = await master.archive.find([arguments[0]])
            again = await master.jobs.retry(job)
            watch.retried(job, again.number)
            return {"job_id": again.number}
        case "why":
            (job,) = await master.archive.find([arguments[0]])
            return watch.explained(job, list(reasons(master.core, master.clock.now(), job)))
        case "nodes":
            (job,) = await master.archive.find([arguments[0]])
            return watch.nodes_shown(job, await master.archive.calls_of(job))
        case "claim":
            return await _claimed(master, watch, call)
        case "result":
            return await _results(master, watch, *arguments[1:])
        case _:
            said, session = _extend.decode(arguments[1]), digest_of(arguments[2])
            leases = master.workers.extend(said.worker, said.leases, {}, session)
            return ExtendReply(*leases, master.settings.lease_s)


async def submit(master: Master, body: bytes, key: str) -> Any:
    """Accept a job with calls; a formula as any other, if there is nothing else to be said."""
    plan = _submission.decode(body).plan()
    digest = body.decode() if key else ""
    if plan.formula is not None and not plan.priority:
        return await master.jobs.submit(plan.formula, key, digest)
    return await master.jobs.submit_plan(plan, key, digest)


async def _cancel(master: Master, watch: CallWatch, number: int) -> Any:
    (job,) = await master.archive.find([number])
    watch.cancel_asked(number)
    if job.is_terminal or not await master.jobs.cancel(job):
        raise Conflict(f"job {job.number} has ended")
    watch.cancel_accepted(number)
    return {"job_id": number}


async def _claimed(master: Master, watch: CallWatch, call: Call) -> Claimed:
    claim = _claim.decode(call.arguments[1])
    said = Announcement(
        claim.worker,
        "",
        1,
        max(1, claim.batch_max),
        claim.incarnation,
        claim.draining,
        policies(claim.handlers),
        claim.slots,
        claim.batch_max > 0,
        Delivery.PULL,
        failing=claim.failing,
    )
    shown, session = call.arguments[2], ""
    if claim.sessions:
        said, session = master.workers.open_session(said, shown)
    if claim.draining:
        await master.workers.stop_claiming(said)
        return Claimed([], [])
    assert call.gone is not None
    leases, batch = await master.workers.claim(
        said, claim.slots, claim.wait, call.gone, begins=not shown
    )
    for lease in leases:
        watch.handed_over(lease)
    batches = [batch_of(batch)] if batch else []
    return Claimed([call_of(lease) for lease in leases], batches, session)


async def _results(master: Master, watch: CallWatch, body: bytes, shown: str) -> ReportsReply:
    reports = _reports.decode(body)
    outcomes = [
        (report.lease, outcome_of_report(report, master.settings.value_bytes_max))
        for report in reports.results
    ]
    live = watch.before_reports(outcomes, master.awaited.reported)
    session = digest_of(shown)
    accepted, stale = await master.workers.report(
        reports.worker, outcomes, reports.batches, session
    )
    watch.reported(live, [lease for lease, _ in outcomes], accepted)
    return ReportsReply(accepted, stale)
