"""Clients and their commands on a system that is not Unix; masters and workers say what they need.

There is no such system here. So what it lacks is taken away from this one.
"""

from __future__ import annotations

import sys

import pytest
from harness import processes as programs
from harness.master_thread import MasterThread

MISSING_MODULES = (
    *("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses"),
    *("pebble", "dte.local", "dte.worker", "dte.master.server", "dte.master.master"),
)
"""Those of the second line start processes, and are for masters and workers alone."""
WINDOWS = f"""
import asyncio, click, ctypes, getpass, multiprocessing, os, signal, socket, subprocess, sys
import http.client, json, logging, msgspec, pathlib, sqlite3, tempfile, threading, urllib.request
import tornado.tcpclient, tornado.http1connection, tornado.iostream, tornado.netutil, dotenv
import click.shell_completion, click.termui, click._termui_impl
import concurrent.futures, importlib.metadata

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
        ):
            delattr(module, name)
for name in ("SO_REUSEPORT", "MSG_DONTWAIT", "SCM_RIGHTS"):
    if hasattr(socket, name):
        delattr(socket, name)
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
