"""The price of tokens and of TLS: the same load without them, with tokens, and with both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from figures import Row, rate, share
from formulas import small
from harness.certificates import Authority
from harness.machine import HOST, free_port
from harness.processes import until
from processes import starting
from singles import load

from dte.client.blocking import Client
from dte.master.access.tokens import Role, TokenFile

KINDS = ("open", "tokens", "tls")
REPEATS = 5
LABELS = {"open": "without tokens", "tokens": "with tokens", "tls": "with tokens and TLS"}


class System(NamedTuple):
    """A master and two workers, with what clients need.

    Attributes:
        ca: the file of the authority; "" without TLS.
    """

    port: int
    client: Client
    token: str
    ca: str


def access(jobs: int) -> list[Row]:
    """Single submissions, and formulas in batches, of each kind by turns."""
    singles: dict[str, list[float]] = {kind: [] for kind in KINDS}
    batches: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        systems = {kind: stack.enter_context(_running(kind)) for kind in KINDS}
        for system in systems.values():
            load(system.port, jobs // 10, token=system.token, ca=system.ca)
        for _ in range(REPEATS):
            for kind, system in systems.items():
                elapsed_s, _ = load(system.port, jobs, token=system.token, ca=system.ca)
                singles[kind].append(jobs / elapsed_s)
                batches[kind].append(_batch(system.client, 10 * jobs))
    rows = []
    for name, label, rates in (
        ("singles", f"{jobs:,} single submits with wait", singles),
        ("batches", f"{10 * jobs:,} formulas in batches", batches),
    ):
        for kind in KINDS:
            text = f"{label}, {LABELS[kind]}"
            rows.append(rate(f"access.{name}.{kind}", text, rates[kind], "jobs/s"))
            if kind != "open":
                part = f"access.{name}.{kind}.share"
                rows.append(share(part, "  of those without", rates[kind], rates["open"]))
    return rows


def _batch(client: Client, jobs: int) -> float:
    formulas = [small(number) for number in range(jobs)]
    started = time.perf_counter()
    answers = client.map([formula.text for formula in formulas])
    elapsed_s = time.perf_counter() - started
    assert answers == [formula.answer for formula in formulas]
    return jobs / elapsed_s


@contextmanager
def _running(kind: str) -> Iterator[System]:
    with starting() as processes:
        folder, port = Path(processes.folder), free_port()
        settings = {"DTE_JOURNAL": str(folder / "journal.db")}
        workers: dict[str, str] = {}
        token = ca = ""
        if kind != "open":
            file = TokenFile(str(folder / "dte.tokens"))
            token = file.new(Role.ADMIN, "bench")
            workers["DTE_TOKEN"] = file.new(Role.WORKER, "worker")
            settings["DTE_TOKENS"] = file.path
        if kind == "tls":
            authority = Authority(folder)
            pair, ca = authority.issue(f"IP:{HOST}"), authority.file
            settings |= {"DTE_TLS_CERT": pair.cert, "DTE_TLS_KEY": pair.key}
            workers["DTE_TLS_CA"] = ca
        processes.start_master(port, **settings)
        url = f"http{'s' if ca else ''}://{HOST}:{port}"
        for number in (1, 2):
            processes.start(
                *("worker", "--master", url, "--host", HOST, "--port", "0"),
                *("--name", f"worker-{number}", "--slots", "2"),
                **workers,
            )
        with Client(url, token=token or None, tls_ca=ca or None) as client:
            until(lambda: len(client.workers()) == 2, "two workers")
            yield System(port, client, token, ca)
