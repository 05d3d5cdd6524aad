"""The calls of a job, and the edges between them: the part of its DAG that is not arithmetic.

The verbs are those of `Graph`: add, take what is ready, pass on what ended. A result goes into the
calls that wait for it. A failure skips them at once, with its cause.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace

from dte.core.graph.call import NULL, Call, CallRecord, CallState
from dte.core.slices import CALL, EDGE, SLICE, at_once

FAILURES = (CallState.FAILED, CallState.TIMED_OUT, CallState.CANCELLED, CallState.SKIPPED)
WITHOUT_RESULT = (CallState.FAILED, CallState.TIMED_OUT, CallState.SKIPPED)
"""The ends that others may have noticed; a call is cancelled only with its job."""
SKIPPED = "skipped because "
"""The error of a call whose operand failed begins so."""
CALLS_IN_SLICE = SLICE // CALL


class CallGraph:
    """The calls of one job.

    Attributes:
        calls: by name, in the order in which they were added.
        aliases: names of calls that equal others, with the names of these.
        remaining: how many calls have not ended.
        succeeded: how many calls have ended with a result.
        answer: the call that gives the job's result; None if all sinks do.
        sinks: names of calls without readers.
        arithmetic: the calls that wait for operations of the job's arithmetic, with the names of
            their operands, by operation; None where a job has no arithmetic.
        root: the operation that gives the job's result.
        size: about how many bytes arguments, results and edges take.
        edges: about how many there are between its calls.
        restored: some of its calls have been put into a recorded state.
        unused: nobody asks for its calls any more, so that `free` frees these, too.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.aliases: dict[str, str] = {}
        self.remaining = 0
        self.succeeded = 0
        self.answer: Call | None = None
        self.sinks: list[str] = []
        self.arithmetic: dict[int, list[tuple[Call, str]]] | None = None
        self.root: int | None = None
        self.size = 0
        self.edges = 0
        self.restored = False
        self.unused = False
        self._left: list[Call] | None = None

    @property
    def is_formula(self) -> bool:
        """The job ends as soon as its answer is known."""
        return self.arithmetic is not None

    def get(self, name: str) -> Call | None:
        return self.calls.get(self.aliases.get(name, name))

    def named(self) -> Iterator[Call]:
        """The calls by all names; a call with aliases once more for each of them."""
        calls = self.calls  # `free` may drop them meanwhile.
        yield from calls.values()
        for name, same in self.aliases.items():
            call = replace(calls[same], name=name)
            call.record = calls[same].record.copy()
            call.record.name = name
            yield call

    def ready(self) -> list[Call]:
        """The calls that wait for nothing."""
        return [
            call
            for call in self.calls.values()
            if call.state is CallState.WAITING and not call.missing
        ]

    @property
    def is_long(self) -> bool:
        """What is done with all calls is done in slices."""
        return CALL * len(self.calls) + EDGE * self.edges > SLICE

    def restore(self, records: Iterable[CallRecord]) -> None:
        """Put calls into the states in which they were recorded; nothing begins by that."""
        at_once(self.restoring(records))

    def restoring(self, records: Iterable[CallRecord]) -> Generator[None, None, None]:
        """Do what `restore` does, in slices."""
        known = [(self.calls[each.name], each) for each in records if each.name in self.calls]
        self.restored = self.restored or bool(known)
        ended = []
        for count, (call, record) in enumerate(known, 1):
            if record.state is not None:
                call.record = record.copy()
                call.enter(record.state)
                call.recorded, call.missing = True, 0
                self.size += record.size
                self.count_end(call)
                ended.append(call)
            if not count % CALLS_IN_SLICE:
                yield
        left = SLICE
        for call in ended:
            yield from self.passing_on(call, [], [])
            left -= CALL + EDGE * len(call.readers)
            if left <= 0:
                left = SLICE
                yield
        for count, (call, record) in enumerate(known, 1):
            if not call.is_terminal:  # It ended, or an operand failed.
                call.record = record.copy()
                if record.lease:
                    call.enter(CallState.RUNNING)
            if not count % CALLS_IN_SLICE:
                yield

    def reusable(self, records: Iterable[CallRecord]) -> list[CallRecord]:
        """Return what `reusing` finds."""
        return at_once(self.reusing(records))

    def reusing(self, records: Iterable[CallRecord]) -> Generator[None, None, list[CallRecord]]:
        """Find, in slices, the records of a job of the same plan whose results may be taken over.

        A result is void if its call got something else than it will get now: it ran although
        another call had failed, which runs again, or it used a void result. A call without a record
        of its end is a pure one that a restart of the master has made forget. It gives what it gave
        before, so what followed from it stays.
        """
        records = list(records)
        ends = {record.name: record.state for record in records}
        void: set[str] = set()
        again = [call for call in self.calls.values() if ends.get(call.name) in WITHOUT_RESULT]
        left = SLICE
        for call in again:  # Grows meanwhile.
            left -= CALL + EDGE * len(call.readers)
            if left <= 0:
                left = SLICE
                yield
            for reader in call.readers:
                noticed = call.name in void or reader.terms.run_on_failure
                if noticed and reader.name not in void:
                    void.add(reader.name)
                    again.append(reader)
        done = CallState.SUCCEEDED
        return [each for each in records if each.state is done and each.name not in void]

    def ended(self, call: Call) -> tuple[list[Call], list[Call]]:
        """Pass on how a call ended.

        Returns:
            The calls that wait for nothing any more, and those that were skipped.
        """
        self.count_end(call)
        ready: list[Call] = []
        skipped: list[Call] = []
        for _ in self.passing_on(call, ready, skipped):
            pass
        return ready, skipped

    def count_end(self, call: Call) -> None:
        """Count a call that has ended; each is counted once."""
        self.remaining -= 1
        self.succeeded += call.state is CallState.SUCCEEDED

    def passing_on(
        self, call: Call, ready: list[Call], skipped: list[Call]
    ) -> Generator[None, None, None]:
        """Do what `ended` does with a call that is counted already, in slices.

        Args:
            ready: gets the calls that wait for nothing any more.
            skipped: gets those that were skipped.
        """
        left = SLICE
        ended = [call]
        for cause in ended:  # Grows meanwhile.
            for reader in cause.readers:
                left -= EDGE
                if left <= 0:
                    left = SLICE
                    yield
                if reader.is_terminal:
                    continue
                waits = reader.state is CallState.WAITING
                if cause.state is CallState.SUCCEEDED or reader.terms.run_on_failure:
                    if cause.name in reader.refs:
                        reader.operands[cause.name] = cause.record.value or NULL
                    reader.missing -= 1
                    if waits and not reader.missing:
                        ready.append(reader)
                        left -= CALL
                elif waits:  # A worker may have it from before a restart.
                    cancelled = cause.state is CallState.CANCELLED
                    state = CallState.CANCELLED if cancelled else CallState.SKIPPED
                    reader.end(cause.record.ended_at, state, _because(cause))
                    self.count_end(reader)
                    skipped.append(reader)
                    ended.append(reader)
                    left -= CALL

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
        """The reason why a call that misses operands can never begin; None if it may."""
        if call.terms.run_on_failure:
            return None
        for name in (*call.refs, *call.after):
            source = self.get(name)
            if source is not None and source.state in FAILURES:
                return _because(source)
        return None

    def failure(self) -> Call | None:
        """The call by which the job fails, when all have ended; None if it succeeds."""
        return at_once(self.finding_failure())

    def finding_failure(self) -> Generator[None, None, Call | None]:
        """Find what `failure` returns, in slices."""
        if self.answer is not None:
            return None if self.answer.state is CallState.SUCCEEDED else self.answer
        if self.succeeded == len(self.calls):
            return None
        found = None
        for count, call in enumerate(self.calls.values(), 1):
            if call.state is not CallState.SUCCEEDED:
                if call.record.attempts:
                    return call  # Rather the cause than a call that was skipped for it.
                found = found or call
            if not count % CALLS_IN_SLICE:
                yield
        return found

    def finding_cause(self, call: Call) -> Generator[None, None, Call]:
        """Find, in slices, the call whose failure had a call skipped; or that call itself."""
        left = SLICE
        while not call.record.attempts:
            failed = None
            for name in (*call.refs, *call.after):
                operand = self.get(name)
                left -= EDGE
                if operand is not None and operand.state in FAILURES:
                    failed = operand
                    break
            if failed is None:
                break
            call = failed
            left -= CALL
            if left <= 0:
                left = SLICE
                yield
        return call

    def finding_excess(self, bytes_max: int) -> Generator[None, None, str | None]:
        """Find, in slices, why the answer of all sinks cannot be written; None if it can.

        Equal calls are one, but the answer repeats their result for each of their names.
        """
        if self.answer is not None or len(self.sinks) == 1:
            return None  # It is one result, which has a bound of its own.
        size = 1
        for count, name in enumerate(self.sinks, 1):
            value = self.calls[self.aliases.get(name, name)].record.value or NULL
            size += len(_quoted(name)) + len(value) + 2
            if size > bytes_max:
                return (
                    f"answer too large: the results of the {len(self.sinks)} nodes that no other "
                    f"node needs have more than {bytes_max} bytes together (value_bytes_max); name "
                    "one node in `answer`, and get the other results from the job's nodes"
                )
            if not count % CALLS_IN_SLICE:
                yield
        return None

    def result(self) -> bytes:
        """The job's answer when all calls have succeeded, as JSON."""
        return at_once(self.writing_result())

    def writing_result(self) -> Generator[None, None, bytes]:
        """Write what `result` returns, in slices."""
        if self.answer is not None:
            return self.answer.record.value or NULL
        values = []
        for count, name in enumerate(self.sinks, 1):
            value = self.calls[self.aliases.get(name, name)].record.value or NULL
            if len(self.sinks) == 1:
                return value
            # `CallGraphBuilder` takes only printable names, so this is JSON.
            values.append(_quoted(name) + b":" + value)
            if not count % CALLS_IN_SLICE:
                yield
        return b"{" + b",".join(values) + b"}"

    def free(self, weight: int) -> bool:
        """Free some edges of an ended job, and operands; False when none are left."""
        if self._left is None:
            self._left = list(self.calls.values())
            if self.unused:
                self.calls, self.answer = {}, None
        left = self._left
        while left and weight > 0:
            call = left.pop()
            weight -= CALL + EDGE * (len(call.readers) + len(call.after) + 2 * len(call.refs))
            call.readers, call.after, call.refs, call.operands = [], (), (), {}
        return bool(left)

    def check(self) -> None:
        """Assert every invariant of an unfinished job's calls; for tests."""
        assert self.remaining == sum(not call.is_terminal for call in self.calls.values())
        states = [call.state for call in self.calls.values()]
        assert self.succeeded == states.count(CallState.SUCCEEDED)
        for call in self.calls.values():
            waiting_for = [
                name
                for name in {*call.refs, *call.after}
                if (other := self.calls.get(name)) is not None and not other.is_terminal
            ]
            if call.is_terminal:
                assert call.record.state is call.state
            if call.state is CallState.WAITING and not self.is_formula:
                assert call.missing >= len(waiting_for), f"{call.name} waits for {waiting_for}"
                # An end in a long graph is passed on in slices.
                assert call.missing == len(waiting_for) or self.is_long
            # A call that a worker has from before a restart began when its operands were known.
            if call.state in (CallState.READY, CallState.PAUSED):
                assert not call.missing
                assert not waiting_for, "a call is begun before its operands are known"


def _because(cause: Call) -> str:
    """The reason why a call is skipped whose operand failed: the first cause, however far away."""
    record = cause.record
    if not record.attempts and record.error and record.error.startswith(SKIPPED):
        return record.error
    how = {CallState.TIMED_OUT: "timed out", CallState.CANCELLED: "was cancelled"}
    text = f"{SKIPPED}{cause.name!r} {how.get(cause.state, 'failed')}"
    return f"{text}: {record.error}" if record.error else text


def _quoted(name: str) -> bytes:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'.encode()
