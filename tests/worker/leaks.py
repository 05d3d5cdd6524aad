"""Handlers that change the state of their process, and one that shows it."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import ctypes
import decimal
import faulthandler
import gc
import locale
import logging
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from dte.handlers.registry import handler

decimal.getcontext().prec = 30
variable = contextvars.ContextVar("variable", default=0)
os.environ["LEAKS_KEPT"] = "kept"
kept: list[Any] = []
known_logger = logging.getLogger("leaks.known")
get_from_c = ctypes.CDLL(None).getenv
get_from_c.restype = ctypes.c_char_p
C_NAMES = (b"LEAKED", b"LEAKS_KEPT")
pool = ThreadPoolExecutor(2)
LIMITS = (
    *(resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE),
    *(resource.RLIMIT_NPROC, resource.RLIMIT_STACK),
)


def show() -> dict[str, Any]:
    """The state of this process, as JSON."""
    umask = os.umask(0)
    os.umask(umask)
    return {
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "environment of C": [str(get_from_c(each)) for each in C_NAMES],
        "zone": time.tzname,
        "umask": umask,
        "variable": variable.get(),
        "precision": decimal.getcontext().prec,
        "streams": [repr(type(each)) for each in (sys.stdin, sys.stdout, sys.stderr)],
        "open": [not each.closed for each in (sys.stdin, sys.stdout, sys.stderr)],
        "input": stat.S_IFMT(os.fstat(0).st_mode),
        "file of signals": signal.set_wakeup_fd(-1),
        # Each process has pipes of its own, so their numbers differ.
        "files": [stat.S_IFMT(os.fstat(number).st_mode) for number in (1, 2)],
        "timers": [signal.getitimer(each) for each in range(3)],
        "signals": [
            repr(signal.getsignal(n)) for n in (signal.SIGUSR1, signal.SIGALRM, signal.SIGXFSZ)
        ],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "blocking": os.get_blocking(1),
        "log": (logging.root.level, logging.root.disabled, logging.root.manager.disable),
        "log handlers": [repr(type(each)) for each in logging.root.handlers],
        "hooks": [repr(each) for each in (sys.excepthook, sys.unraisablehook, sys.displayhook)],
        "functions": builtins.print.__name__,
        "faults": faulthandler.is_enabled(),
        "memory": tracemalloc.is_tracing(),
        "loggers": [_logged(each) for each in (known_logger, logging.getLogger("leaks.new"))],
        "finders": [len(sys.meta_path), len(sys.path_hooks)],
        "argv": sys.argv,
        "policy": repr(type(asyncio.get_event_loop_policy())),
        "temporary": tempfile.gettempdir(),
        "warns": warnings.showwarning.__module__,
        "groups": os.getgroups(),
        "switch": (sys.getswitchinterval(), gc.get_threshold()),
        "path": sys.path,
        "filters": len(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "timeout": socket.getdefaulttimeout(),
        "recursion": sys.getrecursionlimit(),
        "digits": sys.get_int_max_str_digits(),
        "collects": gc.isenabled(),
        "traced": sys.gettrace() is not None or sys.getprofile() is not None,
        "threads traced": threading.gettrace() is not None or threading.getprofile() is not None,
        "debug": (asyncio.get_event_loop_policy().get_event_loop().get_debug(), gc.get_debug()),
        "limits": [resource.getrlimit(n) for n in LIMITS],
        "CPUs": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "threads": sorted(each.name for each in threading.enumerate() if not each.daemon),
        "programs": _programs(),
    }


def _logged(logger: logging.Logger) -> tuple[int, bool, bool, int]:
    return logger.level, logger.propagate, logger.disabled, len(logger.handlers)


def _programs() -> int:
    try:
        return 1 if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None else 2
    except ChildProcessError:
        return 0


def alarm() -> None:
    def ring(*_: object) -> None:
        raise TimeoutError("late")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def profile_timer() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_PROF, 0.01)


def redirect() -> None:
    with open(os.devnull, "w") as file:
        os.dup2(file.fileno(), 1)


def change_zone() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def change_environment() -> None:
    os.environ["LEAKED"] = "1"
    os.environ["LEAKS_KEPT"] = "changed"
    os.environ.pop("PATH", None)


def change_environment_of_c() -> None:
    os.putenv("LEAKED", "1")
    os.unsetenv("LEAKS_KEPT")


def change_loggers() -> None:
    for each in (known_logger, logging.getLogger("leaks.new"), logging.getLogger("loose")):
        each.setLevel(logging.CRITICAL)
        each.addHandler(logging.NullHandler())
        each.propagate = False


class Finder:
    """A finder of modules that finds none."""

    def find_spec(self, *_: object) -> None:
        return None


class Policy(asyncio.DefaultEventLoopPolicy):
    pass


def replace_input() -> None:
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 0)


def set_file_of_signals() -> None:
    _, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)


def set_debug() -> None:
    asyncio.get_event_loop_policy().get_event_loop().set_debug(True)
    gc.set_debug(gc.DEBUG_UNCOLLECTABLE)


def trace_threads() -> None:
    threading.settrace(lambda *_: None)
    threading.setprofile(lambda *_: None)


def join_a_group() -> None:
    with suppress(PermissionError):
        os.setgroups([*os.getgroups(), 54321])


def fork_and_return() -> None:
    os.fork()


def fork_and_raise() -> None:
    if os.fork() == 0:
        raise ValueError("in the copy")


def lock_the_limits() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (10_000, 10_000))


def lower_limits() -> None:
    for each in LIMITS[1:]:
        soft, hard = resource.getrlimit(each)
        room = 64 if each == resource.RLIMIT_NOFILE else 1_000_000
        resource.setrlimit(each, (room if soft < 0 else min(soft, room), hard))


def configure_logging() -> None:
    logging.basicConfig(level=logging.CRITICAL, filename=os.devnull, force=True)
    logging.disable(logging.CRITICAL)


def replace_hooks() -> None:
    sys.excepthook = sys.unraisablehook = sys.displayhook = print  # type: ignore[assignment]


def use_one_cpu() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


def keep_most_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError):
        kept.extend(os.dup(0) for _ in range(soft * 3 // 4))


def loose_task() -> None:
    async def wait() -> None:
        await asyncio.sleep(1000)

    loop = asyncio.get_event_loop_policy().get_event_loop()
    with suppress(RuntimeError):  # In an async call, the loop runs already.
        kept.append(loop.create_task(wait()))


def start_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,)).start()


def end_in_a_thread() -> None:
    threading.Timer(0.02, os._exit, (3,)).start()


RESTORED: dict[str, Callable[[], object]] = {
    "folder": lambda: os.chdir("/"),
    "environment": change_environment,
    "zone": change_zone,
    "umask": lambda: os.umask(0o077),
    "variable": lambda: variable.set(1),
    "precision": lambda: setattr(decimal.getcontext(), "prec", 5),
    "stream": lambda: setattr(sys, "stdout", open(os.devnull, "w")),  # noqa: SIM115
    "alarm": alarm,
    "profile timer": profile_timer,
    "signal": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "path": lambda: sys.path.insert(0, "/nowhere"),
    "new path": lambda: setattr(sys, "path", []),
    "filters": lambda: warnings.simplefilter("error"),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8" if _is_c() else "C"),
    "timeout": lambda: socket.setdefaulttimeout(0.001),
    "recursion": lambda: sys.setrecursionlimit(200),
    "digits": lambda: sys.set_int_max_str_digits(1000),
    "collection": gc.disable,
    "trace": lambda: sys.settrace(lambda *_: None),
    "profile": lambda: sys.setprofile(lambda *_: None),
    "limits": lower_limits,
    "signal mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]),
    "rare signal": lambda: signal.signal(signal.SIGXFSZ, signal.SIG_DFL),
    "blocking": lambda: os.set_blocking(1, False),
    "log": configure_logging,
    "log handlers": lambda: logging.root.handlers.clear(),
    "hooks": replace_hooks,
    "switch": lambda: (sys.setswitchinterval(1), gc.set_threshold(1)),
    "CPUs": use_one_cpu,
    "environment of C": change_environment_of_c,
    "loggers": change_loggers,
    "finder": lambda: sys.meta_path.insert(0, Finder()),
    "lost finders": lambda: (sys.meta_path.clear(), sys.path_hooks.clear()),
    "argv": lambda: sys.argv.append("LEAKED"),
    "policy": lambda: asyncio.set_event_loop_policy(Policy()),
    "input": replace_input,
    "file of signals": set_file_of_signals,
    "debug": set_debug,
    "threads traced": trace_threads,
    "temporary": lambda: setattr(tempfile, "tempdir", "/"),
    "warnings in the log": lambda: logging.captureWarnings(True),
    "shown warnings": lambda: setattr(warnings, "showwarning", print),
    "functions": lambda: setattr(builtins, "print", repr),
    "faults": lambda: faulthandler.enable(file=sys.__stderr__),
    "fault later": lambda: faulthandler.dump_traceback_later(0.2, exit=True),
    "memory": tracemalloc.start,
    "virtual timer": lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 0.01),
}
"""Changes that are set back."""
REPLACED: dict[str, Callable[[], object]] = {
    "closed stream": lambda: sys.stdout.close(),
    "no stream": lambda: delattr(sys, "stdout"),
    "closed file": lambda: os.close(1),
    "redirected file": redirect,
    "closed stdin": lambda: os.close(0),
    "kept files": keep_most_files,
    "thread": start_thread,
    "thread that ends the process": end_in_a_thread,
    "program": lambda: subprocess.Popen(["sleep", "1000"]),
    "fork": fork_and_return,
    "fork that raises": fork_and_raise,
    "files": lambda: [kept.append(os.dup(0)) for _ in range(100_000)],
}
"""Changes after which the process is replaced."""
BY_RIGHTS = {
    "hard limit": lock_the_limits,
    "priority": lambda: os.nice(1),
    "groups": join_a_group,
}
"""Changes that only some users may take back."""
CHANGES = RESTORED | REPLACED | BY_RIGHTS


def _is_c() -> bool:
    return locale.setlocale(locale.LC_ALL) == "C"


@handler("show")
def show_state() -> dict[str, Any]:
    return show()


@handler("show_async")
async def show_state_async() -> dict[str, Any]:
    return show()


@handler("change")
def change(name: str) -> int:
    CHANGES[name]()
    return os.getpid()


@handler("change_async")
async def change_async(name: str) -> int:
    CHANGES[name]()
    return os.getpid()


@handler("change_and_wait")
async def change_and_wait(name: str, end: str) -> int:
    CHANGES[name]()
    while not os.path.exists(end):
        await asyncio.sleep(0.005)
    return os.getpid()


@handler("import_late")
def import_late(folder: str) -> int:
    sys.path.insert(0, folder)
    import late_import  # type: ignore[import-not-found]  # noqa: F401

    return os.getpid()


@handler("shown_late")
def shown_late() -> list[int]:
    finders = [each for each in sys.meta_path if type(each).__module__ == "late_import"]
    return [os.getpid(), len(finders), logging.getLogger("late_import").level]


@handler("leave_a_task")
def leave_a_task() -> int:
    loose_task()
    return os.getpid()


@handler("keep")
def keep(megabytes: int) -> int:
    kept.append(bytearray(megabytes << 20))
    return os.getpid()


@handler("use_a_pool")
def use_a_pool() -> int:
    list(pool.map(abs, range(10)))
    return os.getpid()


@handler("pause_in_a_thread")
async def pause_in_a_thread() -> int:
    await asyncio.to_thread(time.sleep, 0.001)
    return os.getpid()


@handler("start_a_daemon")
def start_a_daemon() -> int:
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return os.getpid()


@handler("fork_and_await")
async def fork_and_await() -> int:
    os.fork()
    await asyncio.sleep(0.01)
    return os.getpid()
