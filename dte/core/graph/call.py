"""A call: an operation whose name is a handler.

waiting ──▶ ready ──▶ running ──▶ ending ──▶ succeeded, failed, timed_out
   │         ▲ │         │ │        ▲
   ├─▶ paused┘ │         │ └─▶ cancelling ──▶ cancelled
   │      ▲────┼─────────┘ (it is tried again)
   └───────────┴──▶ skipped, cancelled (an operand failed, its job was cancelled)

A call waits for its operands. It pauses until its first moment, and again if the clock is set back
to before that, or until its next attempt. It is ending until its end is recorded, and nobody sees
the end before.

The journal remembers a call's `CallRecord`; the rest of a `Call` is made anew after a restart.
Results stay the JSON that workers sent: the core does not look inside and calls them bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Any, ClassVar

from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.json_template import JsonTemplate
from dte.core.states import Stateful


class CallState(Enum):
    """The states of a call; the last five are terminal."""

    WAITING = "waiting"
    PAUSED = "paused"
    READY = "ready"
    RUNNING = "running"
    CANCELLING = "cancelling"
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    __hash__ = object.__hash__  # Members are unique; the hash of `Enum` takes five times as long.


ENDS = frozenset((CallState.SUCCEEDED, CallState.FAILED, CallState.TIMED_OUT, CallState.CANCELLED))
TERMINAL = ENDS | {CallState.SKIPPED}
NEXT_CALL_STATES: dict[CallState, frozenset[CallState]] = {
    CallState.WAITING: TERMINAL
    | {CallState.PAUSED, CallState.READY, CallState.RUNNING, CallState.ENDING},
    CallState.PAUSED: ENDS | {CallState.READY, CallState.RUNNING, CallState.ENDING},
    CallState.READY: ENDS | {CallState.RUNNING, CallState.PAUSED, CallState.ENDING},
    CallState.RUNNING: ENDS
    # After a restart it may wait again, for results that were not recorded.
    | {CallState.WAITING, CallState.READY, CallState.PAUSED}
    | {CallState.CANCELLING, CallState.ENDING},
    CallState.CANCELLING: ENDS | {CallState.ENDING},
    CallState.ENDING: ENDS,
    **dict.fromkeys(TERMINAL, frozenset()),
}


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to the result of another call, among the arguments of a call."""

    name: str


@dataclass(frozen=True, slots=True)
class CallTerms:
    """The conditions of a call.

    Attributes:
        priority: higher is sooner; None for the job's.
        timeout_s: None for the handler's.
        retries: None for the handler's.
        lost_max: workers that it may cost before it fails; None for the master's bound.
        not_before: a time of the wall clock, in seconds since 1970, before which it does not begin.
        run_on_failure: it runs even if an operand failed.
        delayed_until: a moment of the core's clock before which it does not begin.
    """

    priority: int | None = None
    timeout_s: float | None = None
    retries: int | None = None
    lost_max: int | None = None
    not_before: float | None = None
    run_on_failure: bool = False
    delayed_until: float | None = None


DEFAULT_TERMS = CallTerms()
LONG_BYTES = 100_000
"""Longer arguments need room on their way to a worker."""


@dataclass(slots=True)
class CallRecord:
    """The part of a call that the journal remembers. Its times are those of the wall clock.

    Attributes:
        name: the call's name in its job.
        state: how the call ended, or will once that is recorded; None before.
        attempts: how often it was handed out.
        failures: how many attempts failed.
        lost: how many attempts were lost with their workers.
        lease: the number of the lease under which a worker has it; 0 for none.
        lease_s: the silence after which that lease ends.
        worker: the name of its last worker.
        dialect: the dialect of that worker, as `Announcement` has it; None if it is not known.
        resumes_at: the end of the pause before another attempt.
        value: its result, as JSON.
        error: the reason why it has none, or of its last failure.
        trace: the stack trace of that failure.
        session: that of the worker that has it; None if the worker has none.
    """

    name: str
    state: CallState | None = None
    attempts: int = 0
    failures: int = 0
    lost: int = 0
    lease: int = 0
    lease_s: float = 0.0
    worker: str = ""
    dialect: str | None = ""
    started_at: float | None = None
    ended_at: float | None = None
    resumes_at: float | None = None
    value: bytes | None = None
    error: str | None = None
    trace: str | None = None
    session: str | None = None

    @property
    def size(self) -> int:
        """The bytes of its result, or of its stack trace."""
        return len(self.value or b"") + len(self.trace or "")

    def is_of(self, dialect: str) -> bool:
        """True if its last worker may be one of a dialect."""
        return self.dialect in (dialect, None)

    def copy(self) -> CallRecord:
        return CallRecord(*_fields(self))  # `dataclasses.replace` takes nine times as long.


_fields = attrgetter(*CallRecord.__slots__)


@dataclass(slots=True, eq=False)
class Call(Stateful[CallState]):
    """One call of a handler in a job.

    Attributes:
        name: its name in the job; in a formula ``handler@column``.
        args: a list, or a dict of named arguments, with a `Ref` for each result that goes in; or
            the JSON of these, a `JsonTemplate` if results go in.
        refs: the names in these references.
        after: names of further calls that must end before it begins.
        pure: running it twice does no harm, so its attempts are not recorded.
        job: the number of its job; 0 before it has one.
        priority: its own, or else its job's.
        readers: the calls that wait for this one.
        operands: the known results among those that `args` refers to, as JSON.
        missing: how many calls and operations it waits for.
        size: the bytes of its arguments without operands.
        filled: those with the operands in them; 0 until they are counted.
        edges: slots of a formula's arithmetic that wait for its result, see `Graph`.
        requeued: how often a worker returned it.
        progress: the last report of its handler: a fraction and a text.
        ticket: identifies the current queue entry; older entries are stale.
        origin: the dialect of the task that it is; "" for a call of dte's own clients.
        mixed: it has arguments by position and by name: `args` is a dict of both, with the keys
            ``args`` and ``kwargs``.
        refused: a worker of a dialect has failed it, so it goes to dte's own workers.
        recorded: its end is in the journal, or will be written with the job's end.
        until_recorded: the state that is shown until its end is recorded, where its job was
            cancelled while no worker had it.
        reported: its last worker has reported its outcome.
        resumes_at: the end of its pause, on the core's clock; None if it does not pause, or until a
            time of the wall clock.
        policy: that of its last worker; None if it has had none since a restart.
        record: the part that the journal remembers.
    """

    NEXT: ClassVar = NEXT_CALL_STATES

    name: str
    handler: str
    args: Any
    refs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    terms: CallTerms = DEFAULT_TERMS
    pure: bool = False
    job: int = 0
    priority: int = 0
    state: CallState = CallState.WAITING
    readers: list[Call] = field(default_factory=list)
    operands: dict[str, bytes] = field(default_factory=dict)
    missing: int = 0
    size: int = 0
    filled: int = 0
    edges: tuple[int, ...] = ()
    requeued: int = 0
    progress: tuple[float, str] | None = None
    ticket: int = 0
    origin: str = ""
    mixed: bool = False
    refused: bool = False
    recorded: bool = False
    until_recorded: CallState | None = None
    reported: bool = False
    resumes_at: float | None = None
    policy: HandlerPolicy | None = None
    record: CallRecord = field(init=False)

    def __post_init__(self) -> None:
        self.record = CallRecord(self.name)

    @property
    def label(self) -> str:
        return f"call {self.name}"

    @property
    def shown_state(self) -> CallState:
        """The state that clients may see: an end only once it is recorded."""
        if self.state is CallState.ENDING:
            return CallState.RUNNING
        if self.is_terminal and not self.recorded:
            if self.until_recorded is not None:
                return self.until_recorded
            if not self.pure:
                return CallState.RUNNING if self.record.attempts else CallState.WAITING
        return self.state

    def filled_size(self) -> int:
        """The bytes of its arguments with the operands in them."""
        if self.operands and not self.filled:
            self.filled = self.size + sum(
                len(self.operands[name]) for name in references(self.args)
            )
        return self.filled or self.size

    @property
    def is_long(self) -> bool:
        """Its arguments are long. Dialects do without: their workers ask for every task."""
        return (self.filled or self.size) > LONG_BYTES and not self.origin

    def conclude(
        self,
        at: float | None,
        state: CallState,
        value: bytes | None = None,
        error: str | None = None,
        trace: str | None = None,
    ) -> None:
        """Note how the call ends, in its record; its state follows once that is recorded."""
        record = self.record
        if at is not None and record.started_at is not None and at < record.started_at:
            at = record.started_at  # The clock was set back meanwhile.
        record.state, record.value, record.error, record.ended_at = state, value, error, at
        record.trace = trace

    def finish(self) -> None:
        """Enter the end that is in the record."""
        assert self.record.state is not None, "the end is known"
        self.enter(self.record.state)

    def end(self, at: float | None, state: CallState, error: str) -> None:
        """End the call at once, without a result."""
        self.conclude(at, state, None, error)
        self.finish()


NULL = b"null"


def filled(args: Any, values: Mapping[str, Any]) -> Any:
    """Arguments with a value in place of each reference."""
    if isinstance(args, Ref):
        return values[args.name]
    if isinstance(args, dict):
        return {key: filled(value, values) for key, value in args.items()}
    if isinstance(args, list):
        return [filled(value, values) for value in args]
    return args


def renamed(args: Any, names: Mapping[str, str]) -> Any:
    """Arguments with other names in their references, as far as `names` has them."""
    if isinstance(args, JsonTemplate):
        return args.renamed(names)
    return filled(args, {name: Ref(names.get(name, name)) for name in references(args)})


def references(args: Any) -> Iterator[str]:
    """The names in the references of arguments, once for each reference."""
    if isinstance(args, JsonTemplate):
        yield from args.references()
    elif isinstance(args, Ref):
        yield args.name
    elif isinstance(args, dict):
        for value in args.values():
            yield from references(value)
    elif isinstance(args, list):
        for value in args:
            yield from references(value)
