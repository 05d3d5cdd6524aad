"""The calls of a job and what they wait for: the part of its DAG that is not arithmetic.

As in `Graph` the verbs are: add, take what is ready, say what has ended. A result goes into the
calls that wait for it. A failure goes on to all that wait for it, at once, with its cause.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import replace

from dte.core.errors import InvalidRequest
from dte.core.graph.call import DEFAULT_TERMS, NULL, Call, CallState, CallTerms, Ref, filled
from dte.core.jobs.job import Job

HANDLER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*", re.ASCII)
"""What a handler's name looks like: ``resize``, ``images.resize``, ``send-email``."""
NAME_CHARS_MAX = 200
LINKED_IN_SLICE = 500
CYCLE_SHOWN = 10


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
                if reader.ended:
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
            if source is not None and source.ended and source.state is not CallState.SUCCEEDED:
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
        assert self.remaining == sum(not call.ended for call in self.calls.values())
        for call in self.calls.values():
            waiting_for = [
                name
                for name in {*call.refs, *call.after}
                if (other := self.calls.get(name)) is not None and not other.ended
            ]
            if call.state is CallState.WAITING and not self.is_formula:
                assert call.missing == len(waiting_for), f"{call.name} waits for {waiting_for}"
            # What workers have from before a restart was begun when its operands were known.
            if call.state in (CallState.READY, CallState.PAUSED):
                assert not call.missing
                assert not waiting_for, "a call is begun before its operands are known"


class CallGraphBuilder:
    """Builds the calls of a graph; `add` them in any order, then `finish`.

    Args:
        pure: names of handlers known to be pure: equal calls of these become one.
    """

    def __init__(self, pure: Collection[str] = ()) -> None:
        self.graph = CallGraph()
        self._pure = pure
        self._handlers: set[str] = set()

    def add(
        self,
        name: str,
        handler: str,
        args: object,
        refs: Iterable[str] = (),
        after: Iterable[str] = (),
        terms: CallTerms = DEFAULT_TERMS,
        size: int = 0,
    ) -> None:
        """Add a call.

        Args:
            args: a list or a dict, with a `Ref` for each of `refs`.
            size: about how many bytes the arguments take.

        Raises:
            InvalidRequest: the name or the handler's name is none.
        """
        if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise InvalidRequest(
                f"node {name[:50]!r}: a name of 1 to {NAME_CHARS_MAX} printable characters is "
                "expected"
            )
        if handler not in self._handlers:
            check_handler(handler, f"node {name!r}: ")
            self._handlers.add(handler)
        self.graph.calls[name] = Call(
            name,
            handler,
            args,
            tuple(dict.fromkeys(refs)),
            tuple(dict.fromkeys(after)),
            terms,
            handler in self._pure,
            size=size,
        )
        self.graph.size += size + 2 * len(name) + len(handler)

    def finish(self, answer: str | None) -> Iterator[None]:
        """Link the calls, in slices.

        Args:
            answer: the name of the call whose result is the job's.

        Raises:
            InvalidRequest: there are no calls, a name is not known, or calls wait for each other in
                a circle.
        """
        calls = self.graph.calls
        if not calls:
            raise InvalidRequest("the graph has no nodes")
        for call in calls.values():
            for name in (*call.refs, *call.after):
                if name not in calls:
                    raise InvalidRequest(
                        f"node {call.name!r} refers to {name!r}, which is not in the graph"
                    )
        yield from self._link()
        # Before equal calls become one: the answer has all the names that the client gave.
        self.graph.last = [call.name for call in calls.values() if not call.readers]
        if answer is not None and answer not in calls:
            raise InvalidRequest(f"answer {answer!r} is not in the graph")
        order = yield from self._in_order()
        if self._pure:
            yield from self._merge(order)
        if answer is not None:
            self.graph.answer = self.graph.get(answer)
        self.graph.remaining = len(calls)

    def _link(self) -> Iterator[None]:
        calls = self.graph.calls
        for count, call in enumerate(calls.values()):
            sources = {*call.refs, *call.after}
            call.missing = len(sources)
            for name in sources:
                calls[name].readers.append(call)
            if count % LINKED_IN_SLICE == LINKED_IN_SLICE - 1:
                yield

    def _in_order(self) -> Generator[None, None, list[Call]]:
        """The calls, each after those that it waits for."""
        calls = self.graph.calls
        missing = {name: call.missing for name, call in calls.items()}
        order = [call for call in calls.values() if not call.missing]
        for call in order:  # Grows meanwhile.
            for reader in call.readers:
                missing[reader.name] -= 1
                if not missing[reader.name]:
                    order.append(reader)
                    if not len(order) % LINKED_IN_SLICE:
                        yield
        if len(order) < len(calls):
            raise InvalidRequest(f"nodes wait for each other: {_cycle(calls, missing)}")
        return order

    def _merge(self, order: list[Call]) -> Iterator[None]:
        """Make equal calls of pure handlers one."""
        known: dict[object, Call] = {}
        aliases = self.graph.aliases
        for count, call in enumerate(order):
            if count % LINKED_IN_SLICE == LINKED_IN_SLICE - 1:
                yield
            if aliases and (call.refs or call.after):
                values = {name: Ref(aliases.get(name, name)) for name in call.refs}
                call.args = filled(call.args, values)
                call.refs = tuple(dict.fromkeys(ref.name for ref in values.values()))
                call.after = tuple(dict.fromkeys(aliases.get(name, name) for name in call.after))
            if call.pure:
                key = (call.handler, repr(call.args), frozenset(call.after), call.terms)
                same = known.setdefault(key, call)
                if same is not call:
                    aliases[call.name] = same.name
                    del self.graph.calls[call.name]
        if aliases:
            for call in self.graph.calls.values():
                call.readers.clear()
            yield from self._link()


def check_handler(handler: str, place: str = "") -> None:
    """Check a handler's name.

    Raises:
        InvalidRequest: it is none.
    """
    if len(handler) > NAME_CHARS_MAX or not HANDLER.fullmatch(handler):
        raise InvalidRequest(
            f"{place}{handler[:50]!r} is not a handler's name, which has letters, digits and _, "
            "in parts with . or - between them"
        )


def _cycle(calls: dict[str, Call], missing: dict[str, int]) -> str:
    """A circle among the calls that never become ready: ``a -> b -> a``, what waits first."""
    name = next(name for name, count in missing.items() if count)
    seen: dict[str, None] = {}
    while name not in seen:
        seen[name] = None
        call = calls[name]
        name = next(other for other in (*call.refs, *call.after) if missing[other])
    circle = [*list(seen)[list(seen).index(name) :], name]
    if len(circle) > CYCLE_SHOWN:
        circle = [*circle[: CYCLE_SHOWN - 2], "…", name]
    return " -> ".join(circle)


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
