"""The formula dialect: formulas in, answers out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dte.core.errors import InvalidRequest, TooLarge
from dte.core.jobs.job import Job
from dte.master.api.job_handler import (
    IDEMPOTENCY_KEY,
    Accepted,
    AllAccepted,
    AllReply,
    JobHandler,
    JobReply,
)
from dte.master.api.openapi import WAIT, documented
from dte.master.plans import Plan
from dte.wire.codec import Decoder

QUOTES_BESIDE = 100
"""Allowance for the quotes of a body that are not around its formulas."""


class Submission(msgspec.Struct):
    """The body of `POST /submit`: one formula, or many; one may have a priority and a `notify`.

    Other fields are ignored, as clients of the dialect may send more.
    """

    task: str | msgspec.UnsetType = msgspec.UNSET
    tasks: list[str] | msgspec.UnsetType = msgspec.UNSET
    priority: int = 0
    notify: str = ""


# Not lenient: what clients send may be large, and the slow reader takes seconds for it.
_submission: Decoder[Submission] = Decoder(Submission, lenient=False)


class Submit(JobHandler):
    NAMES_DEPTH = 0  # Other servers of this route ignore a name that is given twice.

    @documented(
        "Submit a formula, or many",
        body=Submission,
        examples={"one": {"task": "1+(2*3)/4-5"}, "many": {"tasks": ["1+2", "3*4"]}},
        query={"wait": WAIT},
        headers={"Idempotency-Key": IDEMPOTENCY_KEY},
        replies={200: Accepted | JobReply | AllAccepted | AllReply},
        errors=(409, 503, 507),
        description="With `wait`, the reply has whole jobs, when they end or the time is over.",
    )
    async def post(self) -> None:
        wait_s = self.wait_s()
        accepted = await self._submit(wait_s)
        self.release_body()
        await self.reply_accepted(accepted, wait_s)

    async def _submit(self, wait_s: float) -> Job | Sequence[Job]:
        """Accept the formulas of the body, and free their texts before any wait."""
        formulas_max = self.master.settings.formulas_max
        # Millions of texts would take a second to decode, only to be refused.
        if self.body_count(b'"') > 2 * formulas_max + QUOTES_BESIDE:
            raise TooLarge(f"more than {formulas_max} formulas in a request (formulas_max)")
        key = self.key()
        digest = await self.body_digest() if key else ""
        submission = await self.body_in_slices(_submission)
        task, tasks = submission.task, submission.tasks
        if isinstance(task, str) and isinstance(tasks, list):
            raise InvalidRequest('give either "task" or "tasks"')
        special = bool(submission.priority or submission.notify)
        self.check_notify([submission.notify])
        if isinstance(task, str) and special:
            plan = Plan(formula=task, priority=submission.priority, notify=submission.notify)
            return await self.master.jobs.submit_plan(plan, key, digest, caller=self.caller)
        if isinstance(task, str):
            return await self.master.jobs.submit(task, key, digest, self.caller)
        if special:
            raise InvalidRequest('priority and notify apply to "task", not to "tasks"')
        if not isinstance(tasks, list):
            raise InvalidRequest('"task" is missing: {"task": "1+(2*3)/4-5"} is expected')
        if len(tasks) > formulas_max:
            raise TooLarge(
                f"too many formulas in a request: {len(tasks)} > {formulas_max} (formulas_max)"
            )
        if wait_s:
            self.ensure_room_for_reply()
        return await self.master.jobs.submit_all(tasks, key, digest, self.caller)
