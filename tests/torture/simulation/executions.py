"""What workers have really done: every execution of a call, with its lease and attempt."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import msgspec
from torture.simulation.plans import (
    FATAL,
    FLAKY,
    NodeSpec,
    PlanMaker,
    PlanSpec,
    filled,
    read,
    tag_of,
    value_of,
)
from torture.simulation.world import Process, Violation, World

from dte.wire.codec import encode
from dte.wire.messages.calls import Call, Report
from dte.wire.messages.handlers import HandlerInfo


@dataclass(slots=True, eq=False)
class Execution:
    """One time that a worker did a call.

    Attributes:
        process: the worker's.
        times: how often it had been done in this job, this time included.
    """

    process: Process
    call: Call
    node: NodeSpec
    times: int


class Executions:
    """Holds what workers do against what they were given before, and what was said of it.

    Args:
        plans: knows every call by its tag.
    """

    def __init__(self, world: World, plans: PlanMaker) -> None:
        self._world = world
        self._plans = plans
        self._leases: set[int] = set()
        self._times: Counter[tuple[int, int]] = Counter()
        self._attempts: Counter[tuple[int, int]] = Counter()
        self._returned: Counter[tuple[int, int]] = Counter()
        self._done: set[tuple[int, int]] = set()
        self._results: dict[int, set[int]] = {}
        self._awaited: dict[int, list[asyncio.Future[None]]] = {}
        self.by_lease: dict[int, Execution] = {}

    def next_of(self, job: int) -> asyncio.Future[None]:
        """Done when a worker has next done a call of a job, and is about to report it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(job, []).append(future)
        return future

    def begin(self, process: Process, call: Call) -> Execution:
        """A worker begins a call.

        Raises:
            Violation: it must not be done now, or not with these arguments.
        """
        tag = tag_of(call.args)
        plan, node = self._plans.by_tag[tag]
        key = call.job_id, tag
        self._times[key] += 1
        execution = Execution(process, call, node, self._times[key])
        what = f"{call.handler} {tag} of job {call.job_id}, lease {call.lease}"
        if call.lease in self._leases:
            raise Violation(f"{what}: it is done twice under one lease")
        self._leases.add(call.lease)
        self.by_lease[call.lease] = execution
        if call.handler != node.handler:
            raise Violation(f"{what}: it should be {node.handler}")
        self._check_arguments(what, call, plan, node)
        # What a worker was given may reach it when its lease has ended, and the call with it.
        if not node.pure and execution.times > self._attempts[key] + self._returned[key]:
            raise Violation(f"{what}: done {execution.times} times")
        self._world.seen["a call is begun"] += 1
        if self._world.tracing:
            process.note(f"does {what}, attempt {call.attempt}")
        return execution

    def check_timeout(self, call: Call, handlers: Mapping[str, HandlerInfo]) -> None:
        """Check that a call has the timeout that its worker has announced, or its own.

        Raises:
            Violation: it has another.
        """
        _, node = self._plans.by_tag[tag_of(call.args)]
        timeout_s = handlers[call.handler].timeout if node.timeout_s is None else node.timeout_s
        if call.timeout != timeout_s:
            what = f"{call.handler} of job {call.job_id}, lease {call.lease}"
            raise Violation(f"{what}: its timeout is {call.timeout}, and not {timeout_s}")
        self._world.seen["a call has the timeout that its worker announced"] += 1

    def _check_arguments(self, what: str, call: Call, plan: PlanSpec, node: NodeSpec) -> None:
        """Check that each reference was replaced by a result that was given for it."""
        choices: list[dict[str, Any]] = [{}]
        for ref in node.refs:
            values: list[Any] = sorted(self._results.get(plan.nodes[ref].tag, ()))
            if node.whatever:
                values.append(None)
            choices = [{**known, ref: value} for known in choices for value in values]
        args = encode(read(call.args))
        if all(encode(filled(node.args, values)) != args for values in choices):
            raise Violation(f"{what}: {args!r} are not its arguments, {node.args}")

    def handed_over(self, what: str, job: int, args: Any, attempt: int) -> None:
        """A worker is about to be given a call.

        Raises:
            Violation: it must not be done any more.
        """
        tag = tag_of(args)
        _, node = self._plans.by_tag[tag]
        if node.pure:
            return
        if (job, tag) in self._done:
            raise Violation(f"{what}: it is done again after its end was acknowledged")
        # An attempt is the first, or follows a failure or a loss; those returned are not counted.
        if attempt > node.retries_max + node.lost_max:
            raise Violation(f"{what}: attempt {attempt} of {node.retries_max} retries")
        self._attempts[job, tag] = max(self._attempts[job, tag], attempt)

    def end(self, execution: Execution) -> Report:
        """A worker has done a call: what came of it."""
        lease, node = execution.call.lease, execution.node
        for future in self._awaited.pop(execution.call.job_id, ()):
            if not future.done():
                future.set_result(None)
        if node.handler == "fatal":
            return Report(lease, error=FATAL, retry=False)
        if node.handler == "flaky" and execution.times <= extra_of(execution.call.args):
            self._world.seen["a call fails"] += 1
            return Report(lease, error=FLAKY)
        value = value_of(execution.call.args)
        self._results.setdefault(node.tag, set()).add(value)
        return Report(lease, result=msgspec.Raw(encode(value)))

    def acknowledged(self, report: Report) -> None:
        """A worker has been told that its report counts."""
        execution = self.by_lease.get(report.lease)
        if execution is None:
            return
        key = execution.call.job_id, execution.node.tag
        if report.result is not msgspec.UNSET:
            self._done.add(key)

    def returned(self, leases: Iterable[int]) -> None:
        """The master takes calls back that were given back by their workers."""
        for lease in leases:
            execution = self.by_lease.get(lease)
            if execution is not None:
                self._returned[execution.call.job_id, execution.node.tag] += 1

    def taken_over(self, old: int, new: int, failed: Set[str]) -> None:
        """The master acknowledges a job that does the failed part of another again.

        A call that succeeded is done again only if it may get something else than before: it was
        done although another had failed, or uses a result of such a call.

        Args:
            failed: the names of the calls that failed in the old job, or were skipped.
        """
        for tag in [tag for job, tag in self._done if job == old]:
            plan, node = self._plans.by_tag[tag]
            if plan.formula or not _may_change(plan, node.name, failed):
                self._done.add((new, tag))

    def was_done(self, tag: int, value: int) -> bool:
        """Whether a worker has given this value for a call."""
        return value in self._results.get(tag, ())


def _may_change(plan: PlanSpec, name: str, failed: Set[str]) -> bool:
    """Whether a call may get something else when the failed calls are done again."""
    node = plan.nodes[name]
    return any(
        (node.whatever and other in failed) or _may_change(plan, other, failed)
        for other in (*node.refs, *node.after)
    )


def extra_of(args: Any) -> float:
    """The second argument of a call."""
    args = read(args)
    extra = args["extra"] if isinstance(args, dict) else args[1]
    assert isinstance(extra, int | float)
    return extra
