"""Runs the commands of a document, in a folder that looks like a clone."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.machine import free_port
from harness.processes import Process, Processes, environment, until
from harness.skips import missing

from dte.cli.main import main
from dte.cli.run import run_command
from dte.master.access.tokens import Role, TokenFile

from .commands import Command, Output, of_console, of_python, of_shell
from .markdown import ROOT, Block, blocks

UNRUN = {
    "docker-compose up --build --scale worker=3": "needs a container engine; see "
    "scripts/test-containers",
    "scripts/setup": "installs from a package registry",
}
"""Commands of the documents that are not run, and why."""
SHOWN_ONLY = frozenset(("text", "yaml", "ini", "dockerfile", "nginx"))
"""Languages of blocks that are not for a shell."""
SERVERS = {
    "scripts/run": "run",
    "scripts/start_dispatcher.sh": "master",
    "scripts/start_worker.sh": "worker",
}
"""Scripts that are a command of dte."""
TOOLS = ("curl", "jq", "openssl")
PORT = re.compile(r'(?:(?<=localhost:)|(?<="localhost", )|(?<=--port )|(?<="port": ))\d{4}\b')
PYTHON_FILE = re.compile(r"# (\w+\.py)\b")
SHELL_FILE = re.compile(r"# (\w+\.sh)\b")
TIMEOUT_S = 120


class Session:
    """A reader at a terminal: runs the blocks of a document one after the other.

    Ports that a document names are others here, so that documents do not meet.

    Args:
        folder: where commands run. It gets the scripts and the environment of the clone, whose
            setup has been done.
    """

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._folder = folder
        self._processes = processes
        self._output = Output()
        self._ports: dict[str, str] = {}
        self._master: Process | None = None
        self._token = ""
        shutil.copytree(
            ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("bench*")
        )
        (folder / "scripts" / "setup").write_text("#!/bin/sh\n")
        (folder / ".venv").symlink_to(sys.prefix)
        # As at a terminal, where curl shows no progress beside a short reply.
        (folder / ".curlrc").write_text("silent\nshow-error\n")

    def run(self, document: Path) -> None:
        """Run all commands of a document."""
        for block in blocks(document):
            place = f"{document.name}:{block.line}"
            for command in self._commands(block, place):
                if command.text not in UNRUN:
                    self._do(command, f"{document.name}:{command.line}: {command.text}")

    def _commands(self, block: Block, place: str) -> list[Command]:
        """The commands of a block; a block that is a file is written."""
        if block.language == "console":
            return list(of_console(block))
        if block.language in ("sh", "python"):
            named = (SHELL_FILE if block.language == "sh" else PYTHON_FILE).match(block.text)
            file = named[1] if named is not None else "example.py"
            if named is not None or block.language == "python":
                (self._folder / file).write_text(self._here(block.text))
            if named is not None:
                return []
            return [of_shell(block) if block.language == "sh" else of_python(block, file)]
        if block.language == "json":
            json.loads(block.text)
            if block.file:
                (self._folder / block.file).write_text(self._here(block.text))
            return []
        assert block.language in SHOWN_ONLY, f"{place}: nobody runs {block.language!r}"
        assert not re.search(r"^(\$|curl|dte) ", block.text, re.M), (
            f"{place}: a command nobody runs"
        )
        return []

    def _do(self, command: Command, place: str) -> None:
        for tool in TOOLS:
            if re.search(rf"\b{tool}\b", command.text) and shutil.which(tool) is None:
                missing(f"{place} needs {tool}, which is not installed")
        text = self._here(command.text)
        words = shlex.split(text, comments=True) if command.shown is not None else []
        if _server(words):
            self._serve(words, command.shown or "", place)
            return
        if text.endswith(" &"):
            self._processes.start(
                text.removesuffix(" &"), program=("bash", "-c"), **self._settings()
            )
            return
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            env=environment(**self._settings()),
            timeout=TIMEOUT_S,
        )
        if command.shown is None or command.text.startswith("python "):
            assert done.returncode == 0, f"{place}\n{done.stdout}"
        if command.shown is not None:
            self._check(command.shown, done.stdout, place)

    def _check(self, shown: str, output: str, place: str) -> None:
        output = self._as_in_documents(output)
        assert self._output.matches(shown, output), f"{place}\nshown:\n{shown}\nit is:\n{output}"

    # Ports, numbers and variables of this session

    def _here(self, text: str) -> str:
        """A text of a document with the ports and numbers of this session."""
        return self._output.with_numbers(PORT.sub(lambda port: self._port(port[0]), text))

    def _port(self, port: str) -> str:
        return self._ports.setdefault(port, str(free_port()))

    def _as_in_documents(self, output: str) -> str:
        for port, own in self._ports.items():
            output = re.sub(rf"\b{own}\b", port, output)
        return output.replace(str(self._folder), ".")

    def _settings(self) -> dict[str, str]:
        programs = f"{self._folder / '.venv' / 'bin'}:{os.environ['PATH']}"
        master_url = f"http://localhost:{self._port('5000')}"
        return {
            "PATH": programs,
            "CURL_HOME": str(self._folder),
            "DTE_MASTER": master_url,
            "WORKER_DISPATCHER_URL": master_url,
        }

    # Servers, which readers have in other terminals

    def _serve(self, words: list[str], shown: str, place: str) -> None:
        """Start a server, in the place of the one that has its port, and wait until it works."""
        kind = _server(words)
        if kind != "worker" and self._master is not None:
            self._master.end(signal.SIGINT)
        settings = self._settings() | {
            "DTE_MASTER_HOST": "127.0.0.1",
            "DTE_MASTER_PORT": self._port("5000"),
            "DTE_RUN_PORT": self._port("5000"),
            "DTE_WORKER_HOST": "127.0.0.1",
            "DTE_WORKER_PORT": self._port("6000"),
        }
        if kind != "worker":
            settings["DTE_JOURNAL"] = "dte.db"
        wanted = {"worker": self._workers() + 1, "run": 2, "master": 0}[kind]
        process = self._processes.start(*words[1:], program=(self._program(words[0]),), **settings)
        if kind != "worker":
            self._master = process
        until(lambda: self._workers() >= wanted, f"{place} works")
        if shown:
            until(lambda: self._shows(process, shown), f"{place} shows\n{shown}")

    def _shows(self, process: Process, shown: str) -> bool:
        return self._output.matches(shown, self._as_in_documents(process.output))

    def _program(self, word: str) -> str:
        return str(self._folder / word) if "/" in word else str(self._folder / ".venv/bin" / word)

    def _shown_to_master(self) -> dict[str, str]:
        """A token of this session, if the document has made tokens."""
        file = TokenFile(str(self._folder / "dte.tokens"))
        if not self._token and file.read():
            self._token = file.new(Role.READER, "session")
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _workers(self) -> int:
        """How many workers the master has; -1 while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self._port("5000")), timeout=60)
        try:
            connection.request("GET", "/worker", headers=self._shown_to_master())
            known: list[dict[str, Any]] = json.loads(connection.getresponse().read())
        except OSError:
            return -1
        finally:
            connection.close()
        return sum(worker["state"] in ("free", "busy") for worker in known)


def _server(words: list[str]) -> str:
    """Name the server that a command starts, ``run``, ``master`` or ``worker``; "" for none."""
    program, *arguments = words or [""]
    if program in SERVERS:
        kind = SERVERS[program]
    elif program == "dte" and arguments:
        kind, *arguments = arguments
    else:
        return ""
    if kind == "run":
        # Within `dte`, because a command keeps the options for help that it finds the first time.
        context = run_command.make_context(
            "run", arguments, parent=main.make_context("dte", ["run"])
        )
        if context.params["formulas"]:
            return ""
    return kind if kind in SERVERS.values() else ""
