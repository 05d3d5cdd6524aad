"""A call: an operation whose name is a handler.

waiting ──▶ ready ──▶ running ──▶ ending ──▶ succeeded, failed, timed_out
   │         ▲ │         │ │        ▲
   ├─▶ paused┘ │         │ └─▶ cancelling ──▶ cancelled
   │      ▲────┼─────────┘ (it is tried again)
   └───────────┴──▶ failed, cancelled (what it waits for failed, its job was cancelled)

A call waits for its operands; it pauses until a moment, its first or that of another try. It is
ending until what became of it is recorded, and nobody sees it before. What a worker gives back is
kept as the JSON that it sent: the master does not look inside, so the core calls it bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from dte.core.states import Stateful

if TYPE_CHECKING:
    from dte.core.calls.lease import CallLease
    from dte.core.jobs.job import Job


class CallState(Enum):
    """Where a call is in its life; the last four states never change."""

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

    __hash__ = object.__hash__  # Each state is there once; that of `Enum` takes five times as long.


TERMINAL = frozenset(
    (CallState.SUCCEEDED, CallState.FAILED, CallState.TIMED_OUT, CallState.CANCELLED)
)
NEXT_CALL_STATES: dict[CallState, frozenset[CallState]] = {
    CallState.WAITING: TERMINAL
    | {CallState.PAUSED, CallState.READY, CallState.RUNNING, CallState.ENDING},
    CallState.PAUSED: TERMINAL | {CallState.READY, CallState.RUNNING, CallState.ENDING},
    CallState.READY: TERMINAL | {CallState.RUNNING, CallState.ENDING},
    CallState.RUNNING: TERMINAL
    # It waits again after a restart, if results that are not recorded are being made anew.
    | {CallState.WAITING, CallState.READY, CallState.PAUSED}
    | {CallState.CANCELLING, CallState.ENDING},
    CallState.CANCELLING: TERMINAL | {CallState.ENDING},
    CallState.ENDING: TERMINAL,
    **dict.fromkeys(TERMINAL, frozenset()),
}


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands among the arguments of a call for the result of another."""

    name: str


@dataclass(frozen=True, slots=True)
class CallTerms:
    """How a call is to be done.

    Attributes:
        priority: higher is sooner; None for the job's.
        timeout_s: None for the handler's.
        retries: None for the handler's.
        lost_max: how many workers it may lose; None for the master's bound.
        not_before: a moment of the core's clock before which it is not begun.
        whatever: it is done also when what it waits for failed.
    """

    priority: int | None = None
    timeout_s: float | None = None
    retries: int | None = None
    lost_max: int | None = None
    not_before: float | None = None
    whatever: bool = False


DEFAULT_TERMS = CallTerms()


@dataclass(slots=True, eq=False)
class Call(Stateful[CallState]):
    """One call of a handler in a job.

    Attributes:
        name: its name in the job; in a formula ``handler@column``.
        args: a list, or a dict of named arguments, with a `Ref` for each result that goes in.
        refs: the names of these.
        after: names of calls that must have ended before, besides those.
        readers: the calls that wait for this one.
        operands: the results that `args` refers to, as far as they are known, as JSON.
        missing: how many calls and operations it waits for.
        size: how many bytes its arguments take without operands.
        edges: slots of a formula's arithmetic that wait for its result, see `Graph`.
        pure: nothing is lost when it is done twice, so its attempts are not recorded.
        attempts: how often it has been handed out.
        failures: how many of these failed.
        lost: how many of these came to nothing because the worker vanished.
        requeued: how often it was given back without having been begun.
        value: its result, as JSON.
        error: why there is none.
        worker: the name of the worker that had it last.
        resumes_at: when it goes on, if it is paused.
        progress: what its handler said last: from 0 to 1, and a text.
        ticket: tells its last place in the queue from those before.
        recorded: whether its end is, or is so no later than its job's.
        reported: whether the worker that had it last has said what became of it.
    """

    NEXT: ClassVar = NEXT_CALL_STATES

    name: str
    handler: str
    args: Any
    refs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    terms: CallTerms = DEFAULT_TERMS
    pure: bool = False
    job: Job | None = None
    state: CallState = CallState.WAITING
    readers: list[Call] = field(default_factory=list)
    operands: dict[str, bytes] = field(default_factory=dict)
    missing: int = 0
    size: int = 0
    edges: tuple[int, ...] = ()
    attempts: int = 0
    failures: int = 0
    lost: int = 0
    requeued: int = 0
    value: bytes | None = None
    error: str | None = None
    worker: str = ""
    lease: CallLease | None = None
    started_at: float | None = None
    ended_at: float | None = None
    resumes_at: float | None = None
    progress: tuple[float, str] | None = None
    ticket: int = 0
    recorded: bool = False
    reported: bool = False

    def filled_size(self) -> int:
        """How many bytes its arguments take with the operands in them."""
        return self.size + sum(len(self.operands[name]) for name in references(self.args))

    @property
    def priority(self) -> int:
        if self.terms.priority is not None or self.job is None:
            return self.terms.priority or 0
        return self.job.priority

    @property
    def label(self) -> str:
        return f"call {self.name}"

    @property
    def shown_state(self) -> CallState:
        """The state as others may see it: an end that is not recorded is no news yet."""
        if self.state is CallState.ENDING:
            return CallState.RUNNING
        if self.is_terminal and not self.recorded and not self.pure:
            return CallState.RUNNING if self.attempts else CallState.WAITING
        return self.state


NULL = b"null"


def filled(args: Any, values: Mapping[str, Any]) -> Any:
    """Arguments with a value in the place of each reference."""
    if isinstance(args, Ref):
        return values[args.name]
    if isinstance(args, dict):
        return {key: filled(value, values) for key, value in args.items()}
    if isinstance(args, list):
        return [filled(value, values) for value in args]
    return args


def references(args: Any) -> Iterator[str]:
    """The names that arguments refer to, each as often as they do."""
    if isinstance(args, Ref):
        yield args.name
    elif isinstance(args, dict):
        for value in args.values():
            yield from references(value)
    elif isinstance(args, list):
        for value in args:
            yield from references(value)
