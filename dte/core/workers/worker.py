"""A worker as the master knows it: its announcement, its leases, its open claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from dte.core.graph.handlers import ANY_POLICY, HandlerPolicy
from dte.core.shares import token_of

PULLS = "pull:"
"""Prefix of the identities of workers without an address; no address begins so."""
DIALECTS = "pull/"
"""Prefix of those identities of workers of a dialect; its name follows."""
HTTPS = "https://"
"""Prefix of the addresses of workers that speak TLS."""
CLAIM_BYTES_MAX = 16_000_000
"""Arguments of calls that fill a claim: further calls go to the next one."""
PREFETCH_MAX = 64
"""Most calls per slot that a worker has; more than one only of quick handlers."""


class Delivery(Enum):
    """The way of work to a worker. Journals contain these values."""

    PUSH = "push"
    """The master calls it at its address."""
    PULL = "claim"
    """It asks for work and waits for the reply."""
    MAILBOX = "look"
    """It looks now and then for work that was put aside for it."""


class Failure(Enum):
    """The failure of a hand-over."""

    REFUSED = "refused"
    """The worker's address refuses connections: its process has ended."""
    NOT_SENT = "unreached"
    """The worker never received it, for another reason."""
    BROKEN = "broken"
    """The worker received it, or may have, and no complete reply came."""
    MALFORMED = "garbled"
    """The worker's reply holds no results."""

    @property
    def received(self) -> bool:
        """The worker has received the work, or may have."""
        return self in (Failure.BROKEN, Failure.MALFORMED)


@dataclass(frozen=True, slots=True)
class Announcement:
    """A worker's description of itself.

    Attributes:
        name: need not be unique for a worker with an address.
        address: where it listens, as ``host:port``, or ``https://host:port`` if it speaks TLS.
        slots: most batches of arithmetic that it takes at once.
        batch_max: most operations in a request; 1 for the seed's form.
        incarnation: differs for each start of the worker; "" if it does not say.
        draining: it takes no more work.
        handlers: the handlers it can call, with the policy of each.
        handler_slots: most calls that it runs at once.
        arithmetic: it does the four operations.
        delivery: how work reaches it.
        can_stop: it stops calls itself, after their timeout and on request.
        lease_s: silence that ends the lease of a call; None for the master's bound.
        dead_after_s: silence after which it is gone; None for the master's bound.
        failing: the reason why it cannot run calls; None if it can.
        dialect: the dialect that it speaks; "" for dte's own.
        tasks: the further handlers whose tasks of its dialect it takes; None for all.
        replaced: the built-in handlers that its own ones of the same names replace.
        mixes: it takes calls with arguments by position and by name.
        owner: whose share of the bounds it uses; "" for the machine's own user.
        session: identifies this start of it, and only its process can prove it; "" if it has none.
        secret: the text that the master shows when it calls the worker; "" for none.
        token_mark: tells its owner's token from others of the same name; "" without a token.
    """

    name: str
    address: str
    slots: int = 1
    batch_max: int = 1
    incarnation: str = ""
    draining: bool = False
    handlers: Mapping[str, HandlerPolicy] = field(default_factory=dict)
    handler_slots: int = 0
    arithmetic: bool = True
    delivery: Delivery = Delivery.PUSH
    can_stop: bool = True
    lease_s: float | None = None
    dead_after_s: float | None = None
    failing: str | None = None
    dialect: str = ""
    tasks: frozenset[str] | None = frozenset()
    replaced: Mapping[str, HandlerPolicy] = field(default_factory=dict)
    mixes: bool = False
    owner: str = ""
    session: str = ""
    secret: str = field(default="", repr=False)
    token_mark: str = ""

    def policy(self, handler: str, origin: str) -> HandlerPolicy:
        """The policy of a handler for a task of a dialect, or for a call of dte's own clients."""
        if origin and handler in self.replaced:
            return self.replaced[handler]
        return self.handlers.get(handler, ANY_POLICY)

    @property
    def is_called(self) -> bool:
        """True if the master calls the worker, which announces itself again and again."""
        return self.delivery is Delivery.PUSH and bool(self.incarnation)

    @property
    def token(self) -> str:
        """The name of its token; "" for a worker without one."""
        return token_of(self.owner)

    @property
    def start(self) -> tuple[str, str, str]:
        """Differs for each start of a worker, as far as it says so."""
        return self.name, self.incarnation, self.session

    @property
    def identity(self) -> str:
        """The key that the worker is known by; workers of different dialects may share a name."""
        if self.delivery is Delivery.PUSH:
            return self.address
        return f"{DIALECTS}{self.dialect}:{self.name}" if self.dialect else f"{PULLS}{self.name}"


@dataclass(slots=True, eq=False)
class Worker:
    """A known worker.

    Attributes:
        announcement: its last announcement.
        last_seen_at: when it last announced itself or replied.
        joined_at: when it came, or came back after it was gone or restarted.
        batch_leases: the numbers of the batch leases that it has.
        batch: the size of its next batch; follows from how long batches have taken.
        resumes_at: the end of its pause after a failure; None if it does not pause.
        gone: taken out until it announces itself anew.
        reserved: it gets nothing until it is idle, and then a suspect operation.
        exclusive: it has a suspect operation, and gets nothing beside it.
        suspects: operations, as numbers of job and operation, that it had when it vanished; one of
            them may have ended it.
        vanished_at: when it last fell silent, or its connection broke, with operations.
        probed_at: when it was last probed.
        unreachable: the reason why it cannot be called, or seems to have ended; it gets no work
            meanwhile.
        superseded: its incarnation before this one.
        silent_since: when it last lost a call by silence.
        hung_up_at: when it last closed the connection on which it waited for work.
        call_leases: the numbers of the call leases that it has.
        long_calls: how many of these are of handlers that are not known to be quick.
        claim: its open claim; None if it has none.
        operations_done: how many results of operations it gave that count.
        calls_done: how many calls ended with a result that it gave.
        info: further details that it gave, for display.
    """

    announcement: Announcement
    last_seen_at: float
    joined_at: float
    batch_leases: set[int] = field(default_factory=set)
    batch: int = 1
    failures: int = 0
    last_failure: str | None = None
    resumes_at: float | None = None
    gone: bool = False
    operations_done: int = 0
    reserved: bool = False
    exclusive: bool = False
    suspects: dict[tuple[int, int], None] = field(default_factory=dict)
    vanished_at: float = float("-inf")
    probed_at: float = float("-inf")
    unreachable: str | None = None
    superseded: str = ""
    silent_since: float = float("-inf")
    hung_up_at: float = float("-inf")
    call_leases: set[int] = field(default_factory=set)
    long_calls: int = 0
    calls_done: int = 0
    claim: Claim | None = None
    info: Mapping[str, object] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``gone``, ``draining``, ``unreachable``, ``failing``, ``pausing``, ``busy``, ``free``."""
        if self.gone:
            return "gone"
        if self.announcement.draining:
            return "draining"
        if self.unreachable is not None:
            return "unreachable"
        if self.announcement.failing is not None:
            return "failing"
        if self.resumes_at is not None:
            return "pausing"
        return "busy" if self.batch_leases or self.call_leases else "free"

    @property
    def is_present(self) -> bool:
        """True if it takes work now, or will once it has paused."""
        announcement = self.announcement
        return not self.gone and not announcement.draining and announcement.failing is None

    @property
    def lease_count(self) -> int:
        """The number of leases that it has."""
        return len(self.batch_leases) + len(self.call_leases)

    @property
    def free_slots(self) -> int:
        """The number of batches that it takes now."""
        announcement = self.announcement
        if (
            self.gone
            or announcement.draining
            or self.resumes_at is not None
            or self.unreachable is not None
            or not announcement.arithmetic
        ):
            return 0
        if announcement.delivery is not Delivery.PUSH:
            if self.batch_leases and (self.reserved or self.exclusive):
                return 0
            claim = self.claim
            return int(claim is not None and not claim.closed and not claim.batch_lease)
        slots = 1 if self.failures or self.reserved or self.exclusive else announcement.slots
        return max(0, slots - len(self.batch_leases))

    @property
    def free_call_slots(self) -> int:
        """The number of calls that it takes now."""
        announcement = self.announcement
        if (
            self.gone
            or announcement.draining
            or announcement.failing is not None
            or self.resumes_at is not None
            or self.unreachable is not None
        ):
            return 0
        if self.silent_since > self.last_seen_at:  # Its mailbox would keep the call unread.
            return 0
        if announcement.delivery is Delivery.PULL:
            claim = self.claim
            if claim is None or claim.closed or claim.bytes_left < 0:
                return 0
            return claim.slots - len(claim.call_leases)
        slots = min(1, announcement.handler_slots) if self.failures else announcement.handler_slots
        if self.takes_more:
            slots *= PREFETCH_MAX
        return max(0, slots - len(self.call_leases))

    @property
    def takes_more(self) -> bool:
        """Quick calls may wait at it for a slot, unless it runs a long one."""
        return self.announcement.batch_max > 1 and not self.long_calls and not self.failures


@dataclass(slots=True, eq=False)
class Claim:
    """A worker's open request for work.

    Attributes:
        slots: most calls that it takes.
        bytes_left: it gets no more calls once the arguments of those that it got exceed this.
        call_leases: the numbers of the call leases that it got.
        batch_lease: the number of the batch lease that it got; 0 for none.
        closed: it gets no more: it is answered, or will be once its leases are recorded.
        answered: the worker has been sent its leases.
    """

    worker: Worker
    slots: int
    bytes_left: int = CLAIM_BYTES_MAX
    call_leases: list[int] = field(default_factory=list)
    batch_lease: int = 0
    closed: bool = False
    answered: bool = False
