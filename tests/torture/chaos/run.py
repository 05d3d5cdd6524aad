"""One run: start, load and harm; heal, wait until it is quiet; then count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from harness.until import until
from torture.chaos.accounting import Ledger
from torture.chaos.asking import Asking
from torture.chaos.cluster import SLOTS, Cluster
from torture.chaos.effects.accounting import EffectAccounts, NodesTold
from torture.chaos.effects.cancels import check_cancels
from torture.chaos.effects.clients import EffectClients
from torture.chaos.effects.clock import ClockHistory
from torture.chaos.effects.holds import Holds
from torture.chaos.effects.jobs import EffectJobs
from torture.chaos.effects.marks import read_marks
from torture.chaos.effects.notices import check_notices, untold
from torture.chaos.effects.receiver import Receiver
from torture.chaos.effects.victims import Victims
from torture.chaos.handlers import NOTE, OVER
from torture.chaos.harms import Harms, Kind
from torture.chaos.journal import Journal, read_journal
from torture.chaos.load import Load
from torture.chaos.nemesis import Amount, Nemesis, Records
from torture.chaos.nodes import Node
from torture.chaos.outcome import Outcome
from torture.chaos.report import Report
from torture.chaos.times import LEASE_S
from torture.runner import Progress

WORKERS, PULLERS = 3, 1
SLOTS_OF_ALL = (WORKERS + PULLERS) * SLOTS
CLIENTS, EFFECT_CLIENTS = 8, 40
RATE = 30.0
"""Formulas a second."""
REST_TIMEOUT_S = 60.0
TOLD_TIMEOUT_S = 60.0
BUSY_TIMEOUT_S = 40.0
LEAVE_TIMEOUT_S = 4.0
"""Shorter than the grace of the workers."""
POLL_S = 0.05
ASKED_TOGETHER = 500
LOOKED_EVERY_S = 0.5
LATE_POLL_S, LATE_S = 0.1, 0.4
"""The loop that carries what passes between all of them is late when it is so much later."""


class Run:
    """A run of chaos in a folder.

    Args:
        folder: takes the journal and the logs.
        amount: how much harm is done.
        seed: decides about everything but how long things take.
    """

    def __init__(self, folder: Path, amount: Amount, seed: int) -> None:
        def randoms(what: str) -> Random:
            return Random(f"{seed} {what}")

        self._folder = folder
        self._ledger = Ledger()
        self._cluster = Cluster(folder, WORKERS, PULLERS, seed)
        self._holds = Holds(self._cluster.workers_by_link())
        self._cluster.listen(self._holds.listen)
        clock = ClockHistory(time.time(), time.monotonic())
        self._records = Records(Harms(), clock, Victims(folder, randoms("victims")))
        self._nemesis = Nemesis(self._cluster, amount, seed, self._records, self._tell)
        port = self._cluster.clients.port
        self._load = Load(port, self._ledger, randoms("load"), RATE)
        self._receiver = Receiver(randoms("receiver"))
        hurt = self._records.victims.jobs
        jobs = EffectJobs(randoms("jobs"), self._receiver.url, hurt, time.time)
        asking = Asking(port, self._ledger, randoms("asking"))
        self._effects = EffectClients(asking, self._ledger, jobs, randoms("effects"))
        self._report = Report(seed, self._ledger.anomalies)

    async def run(self) -> Report:
        """Do it all, and leave no process behind."""
        began_at = time.monotonic()
        try:
            await self._cluster.start()
            await self._receiver.start()
            await self._suffer()
            await self._come_to_rest()
            await self._count()
        except AssertionError as error:
            self._report.problems.append(str(error))
        finally:
            try:
                await self._load.stop()
            finally:
                await self._receiver.close()
                await self._cluster.close()
        self._sum_up(time.monotonic() - began_at)
        return self._report

    async def _suffer(self) -> None:
        self._load.start(CLIENTS, [self._effects.use] * EFFECT_CLIENTS)
        beside = [asyncio.create_task(self._tell_progress())]
        beside.append(asyncio.create_task(self._watch_itself()))
        try:
            await self._nemesis.rage()
        finally:
            for task in beside:
                task.cancel()

    async def _watch_itself(self) -> None:
        """Note when this program stands still: it carries what passes between all of them."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(LATE_POLL_S)
            now = time.monotonic()
            if now - before > LATE_POLL_S + LATE_S:
                harms = self._records.harms
                harms.over(harms.begin(Kind.LATE, "", before), now)
                self._tell(f"all that passes is {now - before:.2f} s late")

    async def _come_to_rest(self) -> None:
        """Heal everything; return when all that was acknowledged has ended, or time is over."""
        self._tell("everything is healed")
        healed_at = time.monotonic()
        self._cluster.heal()
        await self._receiver.heal()
        await self._cluster.until_whole()
        waiting = await self._load.finish(REST_TIMEOUT_S)
        if waiting:
            self._report.problems.append(f"{waiting} clients waited in vain for {REST_TIMEOUT_S} s")

        async def at_rest() -> bool:
            reply = await self._cluster.ask("/health")
            return reply is not None and not reply.json["jobs_waiting"]

        try:
            await until(at_rest, "the end of all jobs", REST_TIMEOUT_S, poll_s=0.1)
        except AssertionError:
            self._tell("not all jobs have ended")  # They count as lost.
        with suppress(AssertionError):  # They count as untold.
            await until(self._all_told, "the end of all webhooks", TOLD_TIMEOUT_S, poll_s=0.1)
        self._report.rest_s = time.monotonic() - healed_at

    def _all_told(self) -> bool:
        return not untold(self._effects.stories, self._receiver.notices)

    async def _count(self) -> None:
        """End everything, read the journal, and ask a master that starts with it about all jobs."""
        await self._end_workers_that_run_calls()
        await self._end(self._cluster.master)
        journal = read_journal(self._cluster.journal)
        self._report.problems += journal.problems
        self._tell("a last master is started")
        self._cluster.master.start()
        await self._cluster.until_master_answers()
        standing = await self._ask_about_all(journal)
        nodes = await self._ask_about_calls()
        await self._end(self._cluster.master)
        self._report.counts |= self._ledger.verdict(journal.texts, standing)
        self._report.counts["jobs"] = len(journal.texts)
        self._account_for_effects(standing, nodes)

    def _account_for_effects(
        self, standing: Mapping[int, Outcome | None], nodes: Mapping[int, NodesTold]
    ) -> None:
        found, stories, records = self._ledger.found, self._effects.stories, self._records
        accounts = EffectAccounts(
            found,
            read_marks(self._folder),
            self._holds,
            records.harms,
            records.clock,
            nodes,
            LEASE_S,
        )
        accounts.verdict(stories)
        counts = self._report.counts
        counts |= accounts.counts()
        counts["told"] = check_notices(found, stories, self._receiver.notices, standing)
        counts["cancelled"] = check_cancels(found, stories, standing)
        self._report.causes = accounts.causes

    async def _end_workers_that_run_calls(self) -> None:
        """End all workers as a service manager does, while each slot runs a call.

        The calls go on although their processes get the signal too, and end before the workers.
        """
        self._tell("every slot gets a call")
        await self._load.rest(SLOTS_OF_ALL)

        def all_run() -> bool:
            return len([*self._folder.glob(NOTE.format("*"))]) == SLOTS_OF_ALL

        async def all_leave() -> bool:
            reply = await self._cluster.ask("/worker")
            states = [] if reply is None else [each["state"] for each in reply.json]
            return states == ["draining"] * len(self._cluster.workers)

        await self._expect(all_run, "a call in every slot", BUSY_TIMEOUT_S)
        self._tell("all workers with their processes are told to end")
        ends = asyncio.gather(*(self._end(worker) for worker in self._cluster.workers))
        await self._expect(all_leave, "workers that leave", LEAVE_TIMEOUT_S)
        (self._folder / OVER).touch()
        await ends

    async def _expect(self, condition: Callable[[], Any], what: str, timeout_s: float) -> None:
        """Wait until a condition holds, and note the problem if it does not."""
        try:
            await until(condition, what, timeout_s, POLL_S)
        except AssertionError as error:
            self._report.problems.append(str(error))

    async def _end(self, node: Node) -> None:
        code = await self._cluster.end(node)
        if code != 0:
            how = "had to be killed" if code is None else f"ended with exit code {code}"
            self._report.problems.append(f"{node.name} {how} after SIGTERM")

    async def _ask_about_all(self, journal: Journal) -> dict[int, Outcome | None]:
        """The outcome of each job of the journal, by the master's word."""
        standing: dict[int, Outcome | None] = {}
        numbers = sorted(journal.texts)
        for start in range(0, len(numbers), ASKED_TOGETHER):
            part = numbers[start : start + ASKED_TOGETHER]
            reply = await self._cluster.ask(f"/jobs?ids={','.join(map(str, part))}")
            if reply is not None and reply.status == 200:
                standing |= {job["job_id"]: Outcome.of_job(job) for job in reply.json}
                continue
            for number in part:  # One that is not known makes the whole reply a 404.
                one = await self._cluster.ask(f"/job/{number}")
                if one is not None and one.status == 200:
                    standing[number] = Outcome.of_job(one.json)
        return standing

    async def _ask_about_calls(self) -> dict[int, NodesTold]:
        """The calls of each job with effects, by the master's word."""
        found: dict[int, NodesTold] = {}
        for story in self._effects.stories:
            reply = await self._cluster.ask(f"/job/{story.number}/nodes")
            if reply is not None and reply.status == 200:
                found[story.number] = {node["node"]: node for node in reply.json}
            elif story.number:
                self._ledger.unknown(story.number)
        return found

    def _sum_up(self, took_s: float) -> None:
        report, nemesis = self._report, self._nemesis
        report.took_s = took_s
        report.kills, report.ends, report.stops = nemesis.kills, nemesis.ends, nemesis.stops
        report.faults, report.clock_settings = nemesis.faults, nemesis.clock_settings
        report.process_kills = nemesis.process_kills
        report.problems += nemesis.problems
        report.counts = self._ledger.counts() | report.counts
        if not report.counts["answered"]:
            report.problems.append("nothing was answered, so nothing was tested")
        report.connections_hurt = sum(link.suffered.total() for link in self._cluster.links)
        for node in self._cluster.nodes:
            report.problems += node.fell
            report.problems += [f"{node.name}: {line}" for line in node.errors()]

    async def _tell_progress(self) -> None:
        progress, began_at = Progress("chaos"), time.monotonic()
        try:
            while True:
                await asyncio.sleep(LOOKED_EVERY_S)
                await self._look_for_stale_results()
                self._load.check()
                counts = self._ledger.counts()
                progress.tell(
                    f"{time.monotonic() - began_at:.0f} s, kills: {self._nemesis.kills.total()}, "
                    f"{counts['submitted']:,} formulas submitted, "
                    f"{counts['acknowledged']:,} acknowledged, {counts['answered']:,} answered"
                )
        finally:
            progress.end()

    async def _look_for_stale_results(self) -> None:
        """Each life of the master counts anew; what it counts after the last look is not seen."""
        master = self._cluster.master
        pid, lives = master.pid, master.lives
        reply = await self._cluster.ask("/health", timeout_s=1.0)
        if reply is not None and lives:
            self._report.stale_results[pid] = reply.json["stale_results"]

    def _tell(self, sentence: str) -> None:
        """Write it into the log of what was done, in the form of the nodes' own logs."""
        moment = datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        with (self._folder / "chaos.log").open("a") as log:
            log.write(f"{moment} {sentence}\n")
