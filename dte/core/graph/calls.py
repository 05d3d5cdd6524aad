"""The calls of a job and what they wait for: the part of its DAG that is not arithmetic.

As in `Graph` the verbs are: add, take what is ready, say what has ended. A result goes into the
calls that wait for it. A failure goes on to all that wait for it, at once, with its cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dte.core.graph.call import NULL, Call, CallState
from dte.core.jobs.job import Job


class CallGraph:
    """The calls of one job.

    Attributes:
        calls: by name, in the order in which they were added.
        aliases: names of calls that are the same as others, with the names of these.
        remaining: how many have not ended.
        answer: the call whose result is the job's; None for all that nobody waits for.
        last: the names of these.
        arithmetic: the calls that wait for operations of the job's arithmetic, with the names of
            their operands, by operation; None where a job has no arithmetic.
        root: the operation whose result is the job's.
        awaited: jobs that must have ended before any call begins.
        whatever: calls begin also when these jobs failed.
        held: no call begins yet, as one of these jobs has not ended.
        size: about how many bytes arguments and results take.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.aliases: dict[str, str] = {}
        self.remaining = 0
        self.answer: Call | None = None
        self.last: list[str] = []
        self.arithmetic: dict[int, list[tuple[Call, str]]] | None = None
        self.root: int | None = None
        self.awaited: list[Job] = []
        self.whatever = False
        self.held = False
        self.size = 0

    @property
    def is_formula(self) -> bool:
        """Whether the job ends as soon as its answer is known."""
        return self.arithmetic is not None

    def get(self, name: str) -> Call | None:
        return self.calls.get(self.aliases.get(name, name))

    def named(self) -> Iterator[Call]:
        """The calls by all names: one that stands for others also as each of these."""
        yield from self.calls.values()
        for name, same in self.aliases.items():
            yield replace(self.calls[same], name=name)

    def ready(self) -> list[Call]:
        """The calls that wait for nothing."""
        return [
            call
            for call in self.calls.values()
            if call.state is CallState.WAITING and not call.missing
        ]

    def ended(self, call: Call) -> tuple[list[Call], list[Call]]:
        """Pass on how a call ended.

        Returns:
            The calls that wait for nothing any more, and those that failed with it.
        """
        ready: list[Call] = []
        failed: list[Call] = []
        ended = [call]
        for cause in ended:  # Grows meanwhile.
            self.remaining -= 1
            for reader in cause.readers:
                if reader.is_terminal:
                    continue
                waits = reader.state is CallState.WAITING
                if cause.state is CallState.SUCCEEDED or reader.terms.whatever:
                    if cause.name in reader.refs:
                        reader.operands[cause.name] = cause.value or NULL
                    reader.missing -= 1
                    if waits and not reader.missing:
                        ready.append(reader)
                elif waits:  # A worker may have it from before a restart.
                    reader.error = _because(cause)
                    cancelled = cause.state is CallState.CANCELLED
                    reader.enter(CallState.CANCELLED if cancelled else CallState.FAILED)
                    reader.ended_at = cause.ended_at
                    failed.append(reader)
                    ended.append(reader)
        return ready, failed

    def arithmetic_done(
        self, nodes: Iterable[int], results: Iterable[int | float]
    ) -> tuple[list[Call], int | float | None]:
        """Pass on results: the calls that wait for nothing any more, and the root's result."""
        assert self.arithmetic is not None
        ready: list[Call] = []
        answer = None
        for node, result in zip(nodes, results, strict=True):
            if node == self.root:
                answer = result
            for reader, name in self.arithmetic.get(node, ()):
                reader.operands[name] = repr(result).encode()
                reader.missing -= 1
                if not reader.missing and reader.state is CallState.WAITING:
                    ready.append(reader)
        return ready, answer

    def kept_from(self, call: Call) -> str | None:
        """Why a call can never begin that misses operands; None if it may."""
        if call.terms.whatever:
            return None
        sources = (self.get(name) for name in (*call.refs, *call.after))
        for source in sources:
            if (
                source is not None
                and source.is_terminal
                and source.state is not CallState.SUCCEEDED
            ):
                return _because(source)
        return None

    def failure(self) -> Call | None:
        """The call by which the job fails, when all have ended; None if it succeeds."""
        if self.answer is not None:
            return None if self.answer.state is CallState.SUCCEEDED else self.answer
        bad = (call for call in self.calls.values() if call.state is not CallState.SUCCEEDED)
        # Rather the cause than what it kept from being done.
        return min(bad, key=lambda call: not call.attempts, default=None)

    def result(self) -> bytes:
        """The job's answer when all calls have ended well: JSON."""
        if self.answer is not None:
            return self.answer.value or NULL
        values = {
            name: self.calls[self.aliases.get(name, name)].value or NULL for name in self.last
        }
        if len(values) == 1:
            return values[self.last[0]]
        # `CallGraphBuilder` takes only printable names, so this is JSON.
        parts = (_quoted(name) + b":" + value for name, value in values.items())
        return b"{" + b",".join(parts) + b"}"

    def check(self) -> None:
        """Assert what must always hold of the calls of a job that goes on; for tests."""
        assert self.remaining == sum(not call.is_terminal for call in self.calls.values())
        for call in self.calls.values():
            waiting_for = [
                name
                for name in {*call.refs, *call.after}
                if (other := self.calls.get(name)) is not None and not other.is_terminal
            ]
            if call.state is CallState.WAITING and not self.is_formula:
                assert call.missing == len(waiting_for), f"{call.name} waits for {waiting_for}"
            # What workers have from before a restart was begun when its operands were known.
            if call.state in (CallState.READY, CallState.PAUSED):
                assert not call.missing
                assert not waiting_for, "a call is begun before its operands are known"


def _because(cause: Call) -> str:
    """Why a call is not begun whose operand failed: the first cause, however far away."""
    if not cause.attempts and cause.error and cause.error.startswith(NOT_RUN):
        return cause.error
    how = {CallState.TIMED_OUT: "timed out", CallState.CANCELLED: "was cancelled"}
    text = f"{NOT_RUN}{cause.name!r} {how.get(cause.state, 'failed')}"
    return f"{text}: {cause.error}" if cause.error else text


NOT_RUN = "not run, as "


def _quoted(name: str) -> bytes:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'.encode()
