"""Clients and their commands on a system that is not Unix; masters and workers say what they need.

There is no such system here. So what it lacks is taken away from this one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import processes as programs
from harness.master_thread import MasterThread

MISSING_MODULES = (
    *("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses"),
    *("pebble", "dte.local", "dte.worker", "dte.master.server", "dte.master.master"),
)
"""Those of the second line start processes, and are for masters and workers alone."""
WINDOWS = f"""
import asyncio, click, ctypes, getpass, multiprocessing, os, shutil, signal, socket, subprocess
import sys
import http.client, json, logging, msgspec, pathlib, sqlite3, tempfile, threading, urllib.request
import tornado.tcpclient, tornado.http1connection, tornado.iostream, tornado.netutil, dotenv
import click.shell_completion, click.termui, click._termui_impl
import concurrent.futures, importlib.metadata

# There it does not use what is taken away below.
shutil.disk_usage = lambda path, found=shutil.disk_usage("."): found
for name in {MISSING_MODULES!r}:
    sys.modules[name] = None
for module, kept in (
    (signal, "SIGINT SIGTERM SIGABRT SIGFPE SIGILL SIGSEGV SIG_DFL SIG_IGN"),
    (os, None),
):
    for name in list(vars(module)):
        is_signal = module is signal and name.startswith("SIG") and name not in kept.split()
        if is_signal or name in (
            "pthread_sigmask", "pthread_kill", "sigwait", "setitimer", "siginterrupt", "alarm",
            "uname", "fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "setpgid",
            "killpg", "setsid", "sched_getaffinity", "chown", "fchmod", "getgroups", "getloadavg",
            "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "mkfifo", "openpty", "wait3", "statvfs",
            "waitid", "waitstatus_to_exitcode", "posix_spawn", "getpgrp", "getegid", "fchown",
            "sysconf", "confstr", "fdatasync", "O_NOFOLLOW", "sigpending", "sigtimedwait",
            "getitimer", "sched_yield", "tcgetpgrp", "ttyname", "initgroups", "lockf", "sendfile",
        ):
            delattr(module, name)
for name in ("SO_REUSEPORT", "MSG_DONTWAIT", "SCM_RIGHTS"):
    if hasattr(socket, name):
        delattr(socket, name)
for loop in (asyncio.SelectorEventLoop, *asyncio.SelectorEventLoop.__mro__[1:-1]):
    for name in ("add_signal_handler", "remove_signal_handler"):
        if name in vars(loop) and loop is not asyncio.AbstractEventLoop:
            delattr(loop, name)
sys.platform = "win32"
"""
COMMAND = f"{WINDOWS}\nfrom dte.__main__ import entry\nsys.argv[0] = 'dte'\nentry()\n"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["submit", "1+2"], "1+2 = 3\n"),
        (["submit", "--no-wait", "1+2"], None),
        (["call", "echo", "hello"], '"hello"\n'),
        (["call", "--json", "echo", "1"], None),
        (["jobs"], None),
        (["job", "1", "--wait"], None),
        (["nodes", "1"], None),
        (["why", "1"], None),
        (["events", "1"], None),
        (["workers"], None),
        (["--help"], None),
        (["run", "--help"], None),
        (["master", "--help"], None),
        (["worker", "--help"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_of_clients_work_without_what_unix_has(
    master: MasterThread, command: list[str], output: str | None
) -> None:
    programs.run(sys.executable, "-m", "dte", "submit", "7", DTE_MASTER=master.url)
    done = programs.run(sys.executable, "-c", COMMAND, *command, DTE_MASTER=master.url)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert (done.stdout, done.stderr) == (output, "")


def test_commands_that_change_jobs_work_without_what_unix_has(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text('{"graph": {"a": {"handler": "echo", "args": [1]}}}')
    with MasterThread(workers=1, journal=str(tmp_path / "dte.db")) as master:
        for command, output in (
            (["graph", "graph.json"], "1\n"),
            (["submit", "--no-wait", "sleep(60)"], None),
            (["cancel", "2"], None),
            (["job", "2", "--wait", "--json"], None),
            (["retry", "2"], None),
            (["backup", "copy.db"], None),
        ):
            done = programs.run(
                *(sys.executable, "-c", COMMAND, *command), folder=tmp_path, DTE_MASTER=master.url
            )
            assert "Traceback" not in done.stderr
            expected = 1 if command[0] == "job" else 0  # It was cancelled.
            assert done.returncode == expected, (command, done.stderr)
            assert output in (None, done.stdout)
        assert (tmp_path / "copy.db").stat().st_size > 0
        assert (
            programs.run(
                *(sys.executable, "-m", "dte", "cancel", "3"), DTE_MASTER=master.url
            ).returncode
            == 0
        )


@pytest.mark.parametrize("command", ["run", "master", "worker"])
def test_masters_and_workers_say_which_systems_they_need(command: str) -> None:
    done = programs.run(sys.executable, "-c", COMMAND, command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Linux and macOS" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_both_clients_work_without_what_unix_has(master: MasterThread) -> None:
    program = f"""{WINDOWS}
import dte
async def ask():
    async with dte.AsyncClient({master.url!r}) as client:
        return await client.compute("2+3")
with dte.Client({master.url!r}) as client:
    print(client.compute("1+2"), client.call("echo", 4))
sys.platform = "linux"  # So that asyncio gives it the loop that this system has.
print(asyncio.run(ask()))
"""
    done = programs.run(sys.executable, "-c", program)
    assert done.stderr == ""
    assert done.stdout == "3 4\n5\n"
