"""Clients of jobs with effects: they submit, repeat, cancel, run again, and wait for the end."""

from __future__ import annotations

import asyncio
import time
from random import Random

from torture.chaos.accounting import Ledger
from torture.chaos.asking import WAIT_S, Asking
from torture.chaos.effects.jobs import CANCELLED, EffectJobs
from torture.chaos.effects.story import Story
from torture.chaos.outcome import Outcome

CREATED, OK, UNKNOWN, CONFLICT = 201, 200, 404, 409
CANCEL_SHARE, AGAIN_SHARE = 0.2, 0.5
CANCEL_S = (0.0, 2.5)
TWICE_SHARE, LATER_SHARE = 0.3, 0.2
"""Of the submissions, how many are sent twice at a time, and once more later, with their key."""
LATER_S = (0.0, 3.0)
PAUSE_S = (0.0, 1.0)


class EffectClients:
    """Does one job after another; several may do so at a time.

    Attributes:
        stories: one for each job that was submitted.
    """

    def __init__(self, asking: Asking, ledger: Ledger, jobs: EffectJobs, randoms: Random) -> None:
        self._asking = asking
        self._ledger = ledger
        self._jobs = jobs
        self._randoms = randoms
        self._known: list[int] = []
        self.stories: list[Story] = []

    async def use(self) -> None:
        """Submit a job and follow it to its end, which may be a cancel."""
        await asyncio.sleep(self._randoms.uniform(*PAUSE_S))
        cancels = self._randoms.random() < CANCEL_SHARE
        job = self._jobs.one(self._known[-20:], cancels=cancels)
        self._ledger.submitted(job)
        story = Story(job, time.monotonic())
        self.stories.append(story)
        await self._submit(story, "/jobs", job.as_json())
        if not story.number:
            return
        if cancels:
            await self._cancel(story)
        outcome = await self._follow(story)
        if outcome is not None and outcome.failed and self._randoms.random() < AGAIN_SHARE:
            await self._run_again(story)

    async def _submit(self, story: Story, path: str, body: object) -> None:
        """Submit a job with a key, perhaps twice at a time, perhaps once more later."""
        key = self._asking.new_key()
        times = 2 if self._randoms.random() < TWICE_SHARE else 1
        await asyncio.gather(*(self._submit_once(story, path, body, key) for _ in range(times)))
        if self._randoms.random() < LATER_SHARE:
            await asyncio.sleep(self._randoms.uniform(*LATER_S))
            await self._submit_once(story, path, body, key)

    async def _submit_once(self, story: Story, path: str, body: object, key: str) -> None:
        reply = await self._asking.until_replied("POST", path, body, key)
        if reply.status != CREATED:
            self._asking.unexpected(f"{reply.status} for POST {path} of {body}: {reply.json}")
            return
        story.number = reply.json["job_id"]
        self._ledger.acknowledged(story.job, story.number)
        self._known.append(story.number)

    async def _cancel(self, story: Story) -> None:
        await asyncio.sleep(self._randoms.uniform(*CANCEL_S))
        path = f"/job/{story.number}/cancel"
        reply = await self._asking.until_replied("POST", path)
        if reply.status == OK:
            story.cancelled_at = time.monotonic()
        elif reply.status != CONFLICT:
            self._asking.unexpected(f"{reply.status} for POST {path}: {reply.json}")

    async def _follow(self, story: Story) -> Outcome | None:
        """Ask until a job has ended; its outcome, or None if the master does not know the job."""
        path = f"/job/{story.number}?wait={WAIT_S}"
        while True:
            asked_at = time.monotonic()
            reply = await self._asking.once("GET", path)
            if reply is None:
                continue
            if reply.status == UNKNOWN:
                self._ledger.unknown(story.number)
                return None
            if reply.status != OK:
                self._asking.unexpected(f"{reply.status} for GET {path}: {reply.json}")
                return None
            now, outcome = time.monotonic(), Outcome.of_job(reply.json)
            self._ledger.observed(story.number, outcome, asked_at, now)
            if outcome is not None:
                if outcome == Outcome.of_error(CANCELLED):
                    story.gone_at = now
                return outcome
            await self._asking.pause()

    async def _run_again(self, first: Story) -> None:
        """Run the failed part of a job again."""
        job = self._jobs.again(first.job)
        self._ledger.submitted(job)
        story = Story(job, time.monotonic(), first=first)
        self.stories.append(story)
        await self._submit(story, f"/job/{first.number}/retry", None)
        if story.number:
            await self._follow(story)
