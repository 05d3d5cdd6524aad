"""The builder of a call graph: links calls, refuses cycles, makes equal pure calls one."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator

from dte.core.errors import InvalidRequest
from dte.core.graph.call import DEFAULT_TERMS, Call, CallTerms, renamed
from dte.core.graph.calls import CallGraph
from dte.core.graph.handlers import NAME_CHARS_MAX, check_handler
from dte.core.graph.json_template import JsonTemplate
from dte.core.slices import EDGE, SLICE

LINKED_IN_SLICE = 500
"""Calls that are linked, or compared with others, in a slice, if they have few edges."""
LINKED = SLICE // LINKED_IN_SLICE
EDGE_BYTES, REFERENCE_BYTES = 20, 60
"""About how much an edge takes: a name at the reader, a reader at the source, and spare room; and
how much more if a result goes in."""
CYCLE_SHOWN = 10


class CallGraphBuilder:
    """Builds the calls of a graph; `add` them in any order, then `finish`.

    Args:
        pure: names of handlers known to be pure: equal calls of these become one.
        origin: the dialect of the calls' job; "" for dte's own.
    """

    def __init__(self, pure: Collection[str] = (), origin: str = "") -> None:
        self.graph = CallGraph()
        self._pure = pure
        self._origin = origin
        self._handlers: set[str] = set()
        self._names: dict[str, str] = {}

    def add(
        self,
        name: str,
        handler: str,
        args: object,
        refs: Iterable[str] = (),
        after: Iterable[str] = (),
        terms: CallTerms = DEFAULT_TERMS,
        size: int = 0,
        mixed: bool = False,
    ) -> None:
        """Add a call.

        Args:
            args: a list or a dict with a `Ref` for each of `refs`, or the JSON of one.
            size: about how many bytes the arguments take.
            mixed: `args` is a dict of positional and named arguments, see `Call`.

        Raises:
            InvalidRequest: the name, or the handler's name, is not allowed.
        """
        if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise InvalidRequest(
                f"node {name[:50]!r}: expected a name of 1 to {NAME_CHARS_MAX} printable characters"
            )
        if handler not in self._handlers:
            check_handler(handler, f"node {name!r}: ")
            self._handlers.add(handler)
        refs = self._shared(refs)
        if type(args) is JsonTemplate and args.names == refs:
            args.names = refs
        call = self.graph.calls[name] = Call(
            name,
            handler,
            args,
            refs,
            self._shared(after),
            terms,
            handler in self._pure,
            size=size,
            origin=self._origin,
            mixed=mixed,
        )
        if terms.priority is not None:
            call.priority = terms.priority
        self.graph.size += size + 2 * len(name) + len(handler) + REFERENCE_BYTES * len(refs)

    def _shared(self, names: Iterable[str]) -> tuple[str, ...]:
        """Names without repeats; equal ones are one text, as millions of edges may name a call."""
        known = self._names.setdefault
        return tuple(dict.fromkeys([known(name, name) for name in names]))

    def finish(self, answer: str | None) -> Iterator[None]:
        """Link the calls, in slices.

        Args:
            answer: the name of the call whose result is the job's.

        Raises:
            InvalidRequest: there are no calls, a name is unknown, or calls wait for each other.
        """
        calls = self.graph.calls
        if not calls:
            raise InvalidRequest("the graph has no nodes")
        yield from self._check_names()
        yield from self._link()
        # Before equal calls become one, as the answer has all the names that the client gave.
        self.graph.sinks = [call.name for call in calls.values() if not call.readers]
        if answer is not None and answer not in calls:
            raise InvalidRequest(f"answer {answer!r} is not in the graph")
        order = yield from self._in_order()
        if self._pure:
            yield from self._merge(order)
        if answer is not None:
            self.graph.answer = self.graph.get(answer)
        self.graph.size += EDGE_BYTES * self.graph.edges
        self.graph.remaining = len(calls)

    def _check_names(self) -> Iterator[None]:
        calls = self.graph.calls
        left = SLICE
        for call in calls.values():
            for name in (*call.refs, *call.after):
                if name not in calls:
                    raise InvalidRequest(
                        f"node {call.name!r} refers to {name!r}, which is not in the graph"
                    )
            left -= EDGE * (1 + len(call.refs) + len(call.after))
            if left <= 0:
                left = SLICE
                yield

    def _link(self) -> Iterator[None]:
        calls = self.graph.calls
        left = SLICE
        self.graph.edges = 0
        for call in calls.values():
            sources = {*call.refs, *call.after}
            call.missing = len(sources)
            self.graph.edges += len(sources)
            for name in sources:
                calls[name].readers.append(call)
            left -= LINKED + EDGE * len(sources)
            if left <= 0:
                left = SLICE
                yield

    def _in_order(self) -> Generator[None, None, list[Call]]:
        """The calls in topological order."""
        calls = self.graph.calls
        missing = {name: call.missing for name, call in calls.items()}
        order = [call for call in calls.values() if not call.missing]
        left = SLICE
        for call in order:  # Grows meanwhile.
            left -= LINKED + EDGE * len(call.readers)
            if left <= 0:
                left = SLICE
                yield
            for reader in call.readers:
                missing[reader.name] -= 1
                if not missing[reader.name]:
                    order.append(reader)
        if len(order) < len(calls):
            raise InvalidRequest(f"the graph has a cycle: {_cycle(calls, missing)}")
        return order

    def _merge(self, order: list[Call]) -> Iterator[None]:
        """Make equal calls of pure handlers one."""
        known: dict[object, Call] = {}
        aliases = self.graph.aliases
        left = SLICE
        for call in order:
            left -= LINKED + EDGE * (len(call.refs) + len(call.after))
            if left <= 0:
                left = SLICE
                yield
            if aliases and (call.refs or call.after):
                call.args = renamed(call.args, aliases)
                call.refs = tuple(dict.fromkeys(aliases.get(name, name) for name in call.refs))
                call.after = tuple(dict.fromkeys(aliases.get(name, name) for name in call.after))
            if call.pure:
                args = call.args.key() if type(call.args) is JsonTemplate else repr(call.args)
                key = (call.handler, call.mixed, args, frozenset(call.after), call.terms)
                same = known.setdefault(key, call)
                if same is not call:
                    aliases[call.name] = same.name
                    del self.graph.calls[call.name]
        if aliases:
            for call in self.graph.calls.values():
                call.readers.clear()
            yield from self._link()


def _cycle(calls: dict[str, Call], missing: dict[str, int]) -> str:
    """A cycle among the calls that never become ready: ``a -> b -> a``, the reader first."""
    name = next(name for name, count in missing.items() if count)
    seen: dict[str, None] = {}
    while name not in seen:
        seen[name] = None
        call = calls[name]
        name = next(other for other in (*call.refs, *call.after) if missing[other])
    cycle = [*list(seen)[list(seen).index(name) :], name]
    if len(cycle) > CYCLE_SHOWN:
        cycle = [*cycle[: CYCLE_SHOWN - 2], "…", name]
    return " -> ".join(cycle)
