"""The workers of `dte run`: started again when they end, and replaced when their modules change.

A worker is replaced in this order: a new one starts and announces itself; then the old one takes no
more calls, and ends after those that it has.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dte.handlers.modules import files_of
from dte.worker.orphans import gets_orphans, reap_orphans
from dte.worker.processes.reports import description_of_end

WORKER = "worker"
"""Begins the names of workers, and is that of their token."""
PROGRAM = str(Path(__file__).with_name("__main__.py"))
WATCH_S = 0.2
REAP_S = 1.0
RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
STEADY_S = 30.0
"""A worker that has run for so long is started again after the first pause."""
STOP_TIMEOUT_S = 10.0
GRACE_S = 1.0
"""The time that running calls have to end when this program ends."""
LEAVE_S = 4.0
"""The time in which a worker ends once its stdin is closed; one that does not gets SIGTERM."""
HURRY_S = 1.2
"""The same where calls have no time: a signal that came before it is by then another one."""
REPLACED_GRACE_S = 86_400.0
STDERR = 2

log = logging.getLogger("dte.run")


@dataclass(frozen=True)
class WorkerOptions:
    """Options of workers, as of `dte worker`.

    Attributes:
        log_level: the level from which on workers log what they do.
        handlers_log_level: the level from which on log records of handlers are printed.
        reload: the workers are replaced when a file of their modules changes.
        memory_mb: the memory of each process with handlers, in megabytes; None for no limit.
        calls_per_process: the calls after which such a process is replaced; None for no limit.
    """

    handlers: Sequence[str] = ()
    slots: int | None = None
    log_level: str = "warning"
    handlers_log_level: str = "info"
    log_format: str = "text"
    reload: bool = False
    memory_mb: int | None = None
    calls_per_process: int | None = None


@dataclass(eq=False)
class _Worker:
    number: int
    name: str
    process: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Restart:
    """A worker that has ended, and when it is started again."""

    pause_s: float
    at: float


class LocalWorkers:
    """Worker processes, each of which has a number from 1.

    Args:
        host: the address on which they listen.
        announced: returns the names of the workers that the master knows.
        token: what they send to the master.
    """

    def __init__(
        self,
        master_url: str,
        host: str,
        options: WorkerOptions,
        announced: Callable[[], set[str]],
        token: str,
    ) -> None:
        self._token = token
        self._master_url = master_url
        self._host = host
        self._options = options
        self._announced = announced
        self._current: dict[int, _Worker] = {}
        self._replacements: dict[int, _Worker] = {}
        self._leaving: list[_Worker] = []
        self._restarts: dict[int, _Restart] = {}
        self._generation = 1
        self._files = _Files(options.handlers) if options.reload else None
        self._gets_orphans = gets_orphans()
        self._reap_at = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dte-workers", daemon=True)

    @property
    def names(self) -> set[str]:
        return {worker.name for worker in self._current.values()}

    def start(self, count: int) -> None:
        """Start the workers."""
        for number in range(1, count + 1):
            self._current[number] = self._start(number)

    def watch(self) -> None:
        """Start those again that end, from now on, and replace them when their modules change."""
        self._thread.start()

    def ended(self) -> tuple[str, int] | None:
        """Return the name and the exit code of a worker that has ended."""
        for worker in self._current.values():
            code = worker.process.poll()
            if code is not None:
                return worker.name, code
        return None

    def end(self) -> None:
        """End all workers."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        left = self._all()
        # First not by SIGTERM, which hurries a worker that got one with the whole service.
        for worker in left:
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        _wait(left, HURRY_S if self._options.reload else LEAVE_S)
        _terminate(left)  # After that, a worker does not wait for its calls.
        _wait(left, STOP_TIMEOUT_S)
        for worker in left:
            worker.process.kill()
            worker.process.wait()

    def _all(self) -> list[_Worker]:
        return [*self._current.values(), *self._replacements.values(), *self._leaving]

    def _start(self, number: int) -> _Worker:
        generation = f"-{self._generation}" if self._generation > 1 else ""
        name = f"{WORKER}-{number}{generation}"
        options = self._options
        grace_s = REPLACED_GRACE_S if options.reload else GRACE_S
        arguments = ["--master", self._master_url, "--host", self._host, "--port", "0"]
        arguments += ["--name", name, "--token-from-stdin", "--leave-with-stdin"]
        arguments += ["--own-log-level", options.log_level]
        arguments += ["--log-level", options.handlers_log_level]
        arguments += ["--log-format", options.log_format, "--grace-s", f"{grace_s:g}"]
        for option, value in (
            ("--slots", options.slots),
            ("--memory-mb", options.memory_mb),
            ("--calls-per-process", options.calls_per_process),
        ):
            if value is not None:
                arguments += [option, str(value)]
        for module in options.handlers:
            arguments += ["--handlers", module]
        # A file that is changed twice in a second would not be compiled again.
        more = {"PYTHONDONTWRITEBYTECODE": "1"} if options.reload else {}
        # In a session of its own a worker does not get a Ctrl-C, so this process can end it in
        # order. If this process is killed, the worker's stdin ends, and the worker with it.
        # With -P, Python does not look into the current folder for its own modules.
        process = subprocess.Popen(
            [sys.executable, "-P", PROGRAM, "worker", *arguments],
            bufsize=0,  # What a worker that has ended did not take would fail again at the close.
            stdin=subprocess.PIPE,
            stdout=STDERR,  # This program's stdout is for answers.
            start_new_session=True,
            env=os.environ | more,
        )
        assert process.stdin is not None
        with suppress(OSError):  # It has ended already.
            process.stdin.write(f"{self._token}\n".encode())
        return _Worker(number, name, process)

    # Watching, in a thread

    def _watch(self) -> None:
        while not self._ending.wait(WATCH_S):
            try:
                self._step()
            except Exception:
                log.exception("cannot look after the workers")

    def _step(self) -> None:
        now = time.monotonic()
        if self._files is not None and self._files.have_changed():
            self._replace_all()
        for number, worker in self._current.items():
            self._restart_if_ended(number, worker, now)
        if self._replacements:
            self._use_replacements()
        self._leaving = [each for each in self._leaving if each.process.poll() is None]
        if self._gets_orphans and now >= self._reap_at:
            self._reap_at = now + REAP_S
            reap_orphans([worker.process.pid for worker in self._all()])

    def _restart_if_ended(self, number: int, worker: _Worker, now: float) -> None:
        code = worker.process.poll()
        restart = self._restarts.get(number)
        if code is None:
            if restart is not None and now - worker.started_at > STEADY_S:
                del self._restarts[number]
            return
        if restart is None or restart.at < worker.started_at:
            pause_s = RESTART_FIRST_S if restart is None else restart.pause_s * 2
            self._restarts[number] = restart = _Restart(
                min(RESTART_MAX_S, pause_s), now + min(RESTART_MAX_S, pause_s)
            )
            text = "%s %s; it is started again in %g s"
            log.warning(text, worker.name, description_of_end(code), restart.pause_s)
        if now >= restart.at:
            with suppress(OSError):  # There are too many processes; it is tried again.
                self._current[number] = self._start(number)

    def _replace_all(self) -> None:
        log.warning("a module of handlers has changed; the workers are replaced")
        _terminate(self._replacements.values())
        self._leaving += self._replacements.values()
        self._replacements = {}
        self._generation += 1
        for number in self._current:
            self._replacements[number] = self._start(number)

    def _use_replacements(self) -> None:
        """Let those workers end whose replacement is ready; keep them if it has ended."""
        announced = self._announced()
        for number, worker in list(self._replacements.items()):
            if worker.process.poll() is not None:
                del self._replacements[number]
                log.warning("%s keeps its handlers as they were", self._current[number].name)
            elif worker.name in announced:
                del self._replacements[number]
                _terminate([self._current[number]])
                self._leaving.append(self._current[number])
                self._current[number] = worker
                self._restarts.pop(number, None)


class _Files:
    """The files of modules, and when they have changed."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._used = self._seen = self._look()

    def have_changed(self) -> bool:
        """Return True once after each change, when the files have been still for a moment."""
        before, self._seen = self._seen, self._look()
        if self._seen == self._used or self._seen != before:
            return False
        self._used = self._seen
        return True

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in files_of(self._modules):
            with suppress(OSError):
                status = os.stat(path)
                found[path] = status.st_mtime_ns, status.st_size
        return found


def _terminate(workers: Iterable[_Worker]) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.terminate()


def _wait(workers: Iterable[_Worker], timeout_s: float) -> None:
    """Wait until the workers have ended, or for the given time."""
    deadline = time.monotonic() + timeout_s
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.01, deadline - time.monotonic()))
