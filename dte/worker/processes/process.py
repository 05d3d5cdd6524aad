"""One child process of a worker, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, cast

from msgspec import UnsetType
from pebble import ProcessPool

from dte.wire.messages.calls import Call, Progress, Report, State
from dte.worker.processes import child
from dte.worker.processes.channel import (
    PACKET_BYTES_EXTRA,
    Begin,
    Broken,
    NotReady,
    Outcome,
    ProgressUpdate,
    Receiver,
    Stop,
    Worn,
)
from dte.worker.processes.launch import CONTEXT, finish, start
from dte.worker.processes.orders import Orders
from dte.worker.processes.output import Output
from dte.worker.processes.packets import PacketWatch
from dte.worker.processes.reports import (
    description_of_end,
    note_worn,
    report_of,
    report_without_result,
)
from dte.worker.processes.tasks import ENDING, LEAVING, RUNNING, SHARED_NUMBERS, STAGE
from dte.worker.processes.watchdog import Watchdog

STOP_S = 3.0
"""The longest time between the cancellation of an async call and its end; then the process ends."""
HUNG_UP_S = 1.0
"""The longest time between the end of the channel and the end of a process that ends by itself."""
UNSTOPPABLE = "process terminated because another async call in it did not stop"
BLOCKED = "process terminated because an async call in it blocked the event loop"
RETIRED = "the handler's process is replaced"
RUBBISH = "wrote something else than messages into its channel to the worker"
HUNG_UP = "closed its channel to the worker"

Message = Outcome | Worn | ProgressUpdate | Broken | NotReady
Verdict = tuple[State, str]
"""The state and the reason that a report gives to a call without a result."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Settings of child processes, see `dte.worker.processes.child.prepare`.

    Attributes:
        calls_max: the number of calls after which a process is replaced; None for no limit.
    """

    modules: list[str]
    memory_mb: int | None
    result_bytes_max: int
    calls_max: int | None = None
    log_level: str = "info"


class Owner(Protocol):
    """Receives the events of a process, on the loop's thread."""

    def on_idle(self, process: Process) -> None:
        """The process has started, or its last call has ended."""

    def on_done(self, report: Report) -> None:
        """A call has ended."""

    def on_not_begun(self, call: Call) -> None:
        """A call has not begun, and needs another process."""

    def on_progress(self, lease: int, progress: Progress) -> None:
        """A call has made progress."""

    def on_harm(self, process: Process, handlers: Collection[str], how: str) -> None:
        """An async call harms others: of the only handler given, or perhaps of any of several."""

    def on_ending(self, process: Process) -> None:
        """The process takes no more calls."""

    def on_ended(self, process: Process, problem: NotReady | None) -> None:
        """The process has ended; `problem` is the reason if it never became ready."""


@dataclass(slots=True, eq=False)
class _Assigned:
    """A call that a process runs.

    Attributes:
        timer: ends its timeout, or the time that it has to stop.
        verdict: the outcome to report once a call that is being stopped has stopped.
    """

    call: Call
    timer: asyncio.TimerHandle | None = None
    verdict: Verdict | None = None


class Process:
    """A child process that runs one plain call, or async calls together.

    It is the only process of a pebble pool, so ending it waits for no other process, and anything
    that breaks when it is killed is discarded with its pool. Only the child holds the far end of
    the channel, so the end of the channel reveals the end of the child. Orders and outcomes travel
    over the channel too.

    Args:
        owner: receives the events.

    Raises:
        OSError, RuntimeError: the process cannot be started.
    """

    def __init__(self, settings: ProcessSettings, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._process: BaseProcess | None = None
        self.calls: dict[int, _Assigned] = {}
        self._is_ready = False
        self._not_ready: NotReady | None = None
        self._end_verdict: Verdict | None = None
        self._handler_before = ""
        self._calls_left = settings.calls_max
        self._is_retired = False
        self._fault = ""
        self._has_hung_up = False
        self._is_ending = False
        self._shared = CONTEXT.RawArray("q", SHARED_NUMBERS)
        self._watchdog = Watchdog(self._shared, self._on_blocked)
        self._channel, theirs = CONTEXT.Pipe()
        self._orders = Orders(self._channel.fileno())
        kind: Any = Message
        self._receiver: Receiver[Message] = Receiver(
            self._channel.fileno(), kind, settings.result_bytes_max + PACKET_BYTES_EXTRA
        )
        self._packets = PacketWatch(self._receiver, self._receive, self._on_stalled)
        output, printed = CONTEXT.Pipe(duplex=False)
        self._output = Output(os.dup(output.fileno()), self.calls)
        output.close()
        bounds = (settings.memory_mb, settings.result_bytes_max, settings.log_level)
        given = (settings.modules, *bounds, theirs, printed, self._shared)
        self._pool = ProcessPool(1, initializer=child.prepare, initargs=given, context=CONTEXT)
        # The thread that ends the process starts first: later there may be no room for it.
        self._must_end = threading.Event()
        self._has_started = False
        try:
            threading.Thread(target=self._end_in_thread, daemon=True, name="dte-end").start()
            served, self._process = start(self._pool)
        except BaseException:
            self._must_end.set()
            self._channel.close()
            self._output.close()
            raise
        finally:
            # This also keeps the pool from replacing the process when it ends.
            theirs.close()
            printed.close()
        self._has_started = True
        os.set_blocking(self._channel.fileno(), False)
        self._loop.add_reader(self._channel.fileno(), self._receive)
        # It could not start, or it has stopped serving.
        served.add_done_callback(self._on_loop(lambda _: self._begin_to_end()))

    def run(self, call: Call) -> None:
        """Run a call; the owner receives its report."""
        assigned = self.calls[call.lease] = _Assigned(call)
        if call.timeout is not None:
            verdict: Verdict = "timed_out", f"stopped after {call.timeout:g} s"
            assigned.timer = self._loop.call_later(call.timeout, self.stop, call.lease, *verdict)
        kwargs = b"" if isinstance(call.kwargs, UnsetType) else bytes(call.kwargs)
        args = cast(bytes, memoryview(call.args))  # They may be long, so they are not copied.
        self._orders.add(Begin(call.lease, call.handler, args, call.job_id, call.node, kwargs))
        if child.is_async(call.handler):
            self._watchdog.start()
        if self._calls_left is not None:
            self._calls_left -= 1
            if not self._calls_left:
                self._retire()

    def _retire(self) -> None:
        """Take no more calls, and end when those that run have ended."""
        if not self._is_retired:
            self._is_retired = True
            self._owner.on_ending(self)

    def stop(self, lease: int, state: State, reason: str) -> None:
        """Stop a call. It is reported with this state and reason once nothing of it runs."""
        assigned = self.calls[lease]
        if assigned.verdict is not None or self._is_ending:
            return
        assigned.verdict = state, reason
        if not child.is_async(assigned.call.handler):
            self.end("returned", UNSTOPPABLE)
            return
        if assigned.timer is not None:
            assigned.timer.cancel()
        self._orders.add(Stop(lease))
        assigned.timer = self._loop.call_later(STOP_S, self._end_unstoppable, assigned)

    def _end_unstoppable(self, assigned: _Assigned) -> None:
        """End the process, because a cancelled task, or one that blocks it, does not end."""
        culprit = self.calls.get(self._shared[RUNNING], assigned)
        self._owner.on_harm(self, [culprit.call.handler], "does not end when it is cancelled")
        self.end("returned", UNSTOPPABLE)

    def leave(self) -> None:
        """Have the process ignore the signals by which the worker was asked to leave."""
        self._shared[STAGE] = max(self._shared[STAGE], LEAVING)

    def end(self, state: State, reason: str) -> None:
        """End the process, and report its calls with this state unless they have a verdict."""
        if not self._is_ending:
            self._end_verdict = state, reason
            self._begin_to_end()

    def _begin_to_end(self) -> None:
        if self._is_ending:
            return
        self._is_ending = True
        self._orders.stop()
        self._owner.on_ending(self)
        self._must_end.set()

    def _end_in_thread(self) -> None:
        """Wait, then end the process and its descendants: SIGTERM, three seconds later SIGKILL."""
        self._must_end.wait()
        if self._has_hung_up and not self._fault and not self._ends_by_itself():
            self._fault = HUNG_UP
        self._shared[STAGE] = ENDING
        self._signal_group(signal.SIGTERM)
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._signal_group(signal.SIGKILL)
        if self._has_started:
            with suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(self._on_ended)

    def _ends_by_itself(self) -> bool:
        """Wait a moment for the end of a process whose channel has ended."""
        until = time.monotonic() + HUNG_UP_S
        while self._process is not None and self._process.exitcode is None:
            if time.monotonic() > until:
                return False
            time.sleep(HUNG_UP_S / 50)
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        if self._is_ready and self._process is not None and self._process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    # Receiving

    def _receive(self) -> bool:
        """Receive messages; return True if there may be more."""
        try:
            messages = self._receiver.receive()
        except BlockingIOError:
            return False
        except OSError:
            messages = None
        if messages is None:
            self._has_hung_up = True
            self._stop_receiving()
            return False
        if not self._is_ready and messages and isinstance(messages[0], NotReady):
            self._not_ready = messages[0]
            return True
        if not self._is_ready and not self._is_ending:
            self._is_ready = True
            self._owner.on_idle(self)
        latest = {each.lease: each for each in messages if isinstance(each, ProgressUpdate)}
        for lease, update in latest.items():
            if lease in self.calls and not self._is_ending and isfinite(update.fraction):
                self._owner.on_progress(lease, Progress(update.fraction, update.text))
        if any(isinstance(each, Worn) for each in messages):
            self._retire()  # Before outcomes make room for the next call.
        for each in messages:
            if isinstance(each, Outcome):
                self._on_outcome(each)
            elif isinstance(each, Worn):
                self._on_worn(each)
            elif isinstance(each, Broken):
                self._fault = each.how
        if self._receiver.is_broken:
            self._fault = RUBBISH
        if self._fault:
            self._stop_receiving()
        self._packets.look()
        return not self._fault

    def _on_stalled(self) -> None:
        if not self._is_ending:
            self._fault = RUBBISH
            self._stop_receiving()

    def _stop_receiving(self) -> None:
        """End a process that cannot be understood any more, or has ended by itself."""
        self._loop.remove_reader(self._channel.fileno())
        self._begin_to_end()

    def _on_outcome(self, outcome: Outcome) -> None:
        self._output.call_ends()
        assigned = self.calls.get(outcome.lease)
        if assigned is None or self._end_verdict is not None:
            return
        self._handler_before = assigned.call.handler
        if assigned.verdict is None:
            self._finish(assigned, report_of(assigned.call, outcome))
        elif child.is_async(assigned.call.handler):
            self._finish(assigned, report_without_result(assigned.call, *assigned.verdict))
        self._rest()

    def _rest(self) -> None:
        """Wait for the next call if none is left, or end if there is to be none."""
        if self.calls or self._is_ending:
            return
        if self._is_retired:
            self.end("returned", RETIRED)
        else:
            self._owner.on_idle(self)

    def _on_worn(self, worn: Worn) -> None:
        """Retire a process that is not as new for the next call."""
        note_worn(self._handler_before, worn.reason)
        self._retire()
        if self._end_verdict is not None:
            return
        for lease, assigned in list(self.calls.items()):
            if lease not in worn.running:
                self._give_back(assigned)
        self._rest()

    def _give_back(self, assigned: _Assigned) -> None:
        """Have another process run a call that has not begun, unless it is to be stopped."""
        if assigned.verdict is not None:
            report = report_without_result(assigned.call, *assigned.verdict, begun=False)
            self._finish(assigned, report)
        else:
            self._forget(assigned)
            self._owner.on_not_begun(assigned.call)

    def _finish(self, assigned: _Assigned, report: Report) -> None:
        self._forget(assigned)
        self._owner.on_done(report)

    def _forget(self, assigned: _Assigned) -> None:
        if assigned.timer is not None:
            assigned.timer.cancel()
        del self.calls[assigned.call.lease]
        if not self.calls:
            self._watchdog.stop()

    def _on_blocked(self) -> None:
        """End a process whose event loop has been blocked for too long."""
        culprit = self._culprit()
        self._owner.on_harm(self, self._suspects(culprit), "blocks the event loop of others")
        if len(self.calls) > 1:
            self.end("lost" if culprit is None else "returned", BLOCKED)

    def _culprit(self) -> _Assigned | None:
        """Return the call that is running, or was when the process ended; None if none was."""
        if len(self.calls) == 1:
            return next(iter(self.calls.values()))
        return self.calls.get(self._shared[RUNNING])

    def _suspects(self, culprit: _Assigned | None) -> Collection[str]:
        """Return the handler of the culprit, or the handlers of all calls if it is unknown."""
        suspects = self.calls.values() if culprit is None else [culprit]
        return {assigned.call.handler for assigned in suspects}

    # The end

    def _on_ended(self) -> None:
        self._watchdog.stop()
        self._packets.stop()
        for timer in (each.timer for each in self.calls.values()):
            if timer is not None:
                timer.cancel()
        while not self._fault and self._receive():
            pass  # Messages that the process sent just before its end.
        self._loop.remove_reader(self._channel.fileno())
        self._orders.close()
        self._channel.close()
        self._output.close()
        how = self._fault or description_of_end(finish(self._process))
        problem = None
        if not self._is_ready and self._end_verdict is None:
            problem = self._not_ready or NotReady(f"the process {how}")
        try:
            culprit = self._culprit() if self._end_verdict is None else None
            if self._end_verdict is None and any(map(_is_async, self.calls.values())):
                self._owner.on_harm(self, self._suspects(culprit), "ended the process of others")
            for assigned in list(self.calls.values()):
                if self._end_verdict is None and not self._has_begun(assigned):
                    self._give_back(assigned)
                    continue
                verdict = self._verdict(assigned, culprit, how)
                self._finish(assigned, report_without_result(assigned.call, *verdict))
        finally:
            self._owner.on_ended(self, problem)

    def _has_begun(self, assigned: _Assigned) -> bool:
        """Return False for a plain call before which the process was still busy with another."""
        is_next = bool(self._handler_before) and not _is_async(assigned)
        return not is_next or self._shared[RUNNING] == assigned.call.lease

    def _verdict(self, assigned: _Assigned, culprit: _Assigned | None, how: str) -> Verdict:
        """Return the outcome of a call whose process has ended."""
        verdict = assigned.verdict or self._end_verdict
        if verdict is not None:
            return verdict
        reason = f"the handler's process {how}"
        if assigned is culprit:
            return "failed", reason
        if culprit is None:
            return "lost", reason
        return "returned", f"{reason}, because of another call in it"

    def _on_loop(self, callback: Callable[[Future[Any]], None]) -> Callable[[Future[Any]], None]:
        """Return a function for threads that runs `callback` on the loop."""

        def call(future: Future[Any]) -> None:
            with suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(callback, future)

        return call


def _is_async(assigned: _Assigned) -> bool:
    return child.is_async(assigned.call.handler)
