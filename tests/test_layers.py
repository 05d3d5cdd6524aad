"""The layers of dte: each part imports only the parts below it, and nothing imports in a cycle.

An import counts wherever it stands, also in a function and under ``if TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import dte

ROOT = Path(dte.__file__).parent

PURE = (
    *("__future__", "array", "bisect", "collections", "dataclasses", "enum", "heapq", "itertools"),
    *("math", "operator", "re", "string", "typing", "random.Random"),
)
"""Modules that the core may import besides itself: no networks, clocks, logs or threads, and chance
only from a seed."""

FORBIDDEN = {
    "dte.core": {
        "dte": "the core knows only itself",
        "typing.TYPE_CHECKING": "in the core it would hide a cycle",
    },
    "dte.wire": {"dte": "the wire knows only the core"},
    "dte.worker": dict.fromkeys(
        ("dte.master", "dte.client", "dte.cli", "dte.local"), "a worker stands alone"
    ),
    "dte.client": dict.fromkeys(
        ("dte.master", "dte.worker", "dte.handlers", "dte.cli", "dte.local"),
        "a client stands alone",
    ),
    "dte.handlers": {"dte": "handlers know only the wire"},
    "dte.master": dict.fromkeys(
        ("dte.worker", "dte.handlers", "dte.client", "dte.cli", "dte.local"),
        "a master stands alone",
    ),
}
ALLOWED = {
    "dte.core": ("dte.core",),
    "dte.wire": ("dte.core", "dte.wire"),
    "dte.handlers": ("dte.core", "dte.wire", "dte.handlers"),
}

CORE_PARTS = {
    "graph": (),
    "formula": ("graph",),
    "jobs": ("graph",),
    "workers": ("graph",),
    "arithmetic": ("graph", "jobs", "workers"),
    "calls": ("graph", "jobs", "workers"),
}
"""The folders of the core, each with the folders that it may import.

why ─▶ scheduler ─┬─▶ arithmetic ─┬─▶ jobs ────┬─▶ graph ◀─ formula
                  └─▶ calls ──────┴─▶ workers ─┘
"""
CORE_TOP = ("scheduler", "why")
"""Modules of the core above all its folders. Its other modules are below them."""
NUMBERS = "dte.core.graph.numbers"
"""The one module in a folder of the core that the modules below may import."""

EXPORTED = {f"dte.{name}" for name in dte.__all__ if name != "__version__"}
"""What is there for users of dte; inside it, these names would hide where they come from."""

API = "dte.master.api"
QUEUE_TASKS = f"{API}.dialects.queue.tasks"
NO_DIALECTS = (
    *("base", "bodies", "job_handler", "login", "openapi", "replies", "routes", "strict"),
    "submission",
    *("long_bodies", "polling", "tasks"),
)
"""What dialects share, and the table of all."""
UNTOUCHABLE = ("dte.master.dispatch", "dte.master.journal")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def imports(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """The full names of what a module imports; of ``from a import b`` that is ``a.b``."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            name = node.args[0]
            if called in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield str(name.value)


def faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module imports against the rules, and where it leaves a seed to chance."""
    imported = [
        f"{module} imports {name}: {reason}"
        for name in imports(source, module, is_package)
        for reason in reasons(module, name)
    ]
    if not within(module, "dte.core"):
        return imported
    imported += [
        f"{module}, line {node.lineno}: TYPE_CHECKING would hide a cycle"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING"
    ]
    return imported + [
        f"{module}, line {node.lineno}: {name}() is given no seed"
        for name in names_of_random(source)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name and not node.args
    ]


def names_of_random(source: str) -> Iterator[str]:
    """What a module calls `random.Random`, if it imports it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            yield from (each.asname or each.name for each in node.names if each.name == "Random")


def reasons(module: str, name: str) -> Iterator[str]:
    """Why a module may not import what has that name."""
    for room, forbidden in FORBIDDEN.items():
        if not within(module, room) or any(within(name, each) for each in ALLOWED.get(room, ())):
            continue
        yield from {reason for each, reason in forbidden.items() if within(name, each)}
    if within(module, "dte.core") and not any(within(name, each) for each in (*PURE, "dte")):
        yield "the core is pure"
    part, other = core_part_of(module), core_part_of(name)
    if within(module, "dte.core") and not part and other and not within(name, NUMBERS):
        yield f"core/{other} is above the modules that all parts share"
    if part in CORE_PARTS and other not in ("", part, *CORE_PARTS[part]):
        yield f"core/{part} is below core/{other}"
    if name in EXPORTED:
        yield "import it from the module that defines it"
    if within(module, API) and any(within(name, each) for each in UNTOUCHABLE):
        yield "a route asks the master, which dispatches and keeps the journal"
    dialect = dialect_of(module)
    if dialect and dialect_of(name) not in ("", dialect):
        yield "a dialect knows no other dialect"


def core_part_of(module: str) -> str:
    """The folder of the core that a module is in, or its name where it is above all folders."""
    name = module.removeprefix("dte.core.").partition(".")[0] if within(module, "dte.core") else ""
    return name if name in CORE_PARTS or name in CORE_TOP else ""


def cycles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or by others."""
    reachable: dict[str, set[str]] = {}
    for module in graph:
        seen: set[str] = set()
        waiting = [module]
        while waiting:
            new = set(graph[waiting.pop()]) - seen
            seen |= new
            waiting += new
        reachable[module] = seen
    groups = {
        tuple(sorted(other for other in seen if module in reachable[other]))
        for module, seen in reachable.items()
        if module in seen
    }
    return [list(group) for group in sorted(groups)]


def import_graph() -> dict[str, set[str]]:
    """For each module of dte the modules of dte that it imports."""
    files = dict(sources())
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        names = imports(path.read_text("utf-8"), module, path.name == "__init__.py")
        # `from a import b` imports the module a.b, or the name b of the module a.
        homes = {name if name in files else name.rpartition(".")[0] for name in names}
        graph[module] = homes & files.keys() - {module}
    return graph


def dialect_of(module: str) -> str:
    """The dialect that a module is or belongs to, or an empty string."""
    if not module.startswith(f"{API}."):
        return ""
    name = module.removeprefix(f"{API}.").removeprefix("dialects.").partition(".")[0]
    return "" if name in NO_DIALECTS else name


def sources() -> Iterator[tuple[str, Path]]:
    """The modules of dte with their files."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@pytest.mark.parametrize(
    ("module", "path"), [pytest.param(*found, id=found[0]) for found in sources()]
)
def test_a_module_imports_only_what_its_layer_may(module: str, path: Path) -> None:
    assert faults(path.read_text("utf-8"), module, path.name == "__init__.py") == []


def test_no_modules_import_each_other() -> None:
    graph = import_graph()
    del graph["dte"]  # It only hands on names, when they are asked for.
    assert cycles({module: names - {"dte"} for module, names in graph.items()}) == []


def test_the_check_finds_cycles() -> None:
    graph = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": [], "e": ["e"], "f": ["d"]}
    assert cycles(graph) == [["a", "b", "c"], ["e"]]
    assert import_graph()["dte.core.formula.builder"] >= {"dte.core.graph.arithmetic"}


def test_every_room_has_been_looked_into() -> None:
    modules = [module for module, _ in sources()]
    for room in (*FORBIDDEN, API):
        assert sum(within(module, room) for module in modules) > 1
    for part in CORE_PARTS:
        assert sum(core_part_of(module) == part for module in modules) > 1
    for module in CORE_TOP:
        assert core_part_of(f"dte.core.{module}") == module
    assert dialect_of(f"{API}.formula") == "formula"
    assert (
        dialect_of(f"{API}.dialects.queue.tasks") == dialect_of(f"{API}.dialects.queue") == "queue"
    )


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("dte.core.graph", "import time", "the core is pure"),
        ("dte.core.graph", "import concurrent.futures as futures", "the core is pure"),
        ("dte.core.graph", "from tornado.web import RequestHandler", "the core is pure"),
        ("dte.core.graph", "def f():\n    import logging", "the core is pure"),
        ("dte.core.graph", "if TYPE_CHECKING:\n    import asyncio", "the core is pure"),
        ("dte.core.graph", "import_module('socket')", "the core is pure"),
        ("dte.core.graph", "importlib.import_module('random')", "the core is pure"),
        ("dte.core.graph", "__import__('threading')", "the core is pure"),
        ("dte.core.graph", "import random", "the core is pure"),
        ("dte.core.graph", "import random as chance", "the core is pure"),
        ("dte.core.graph", "from random import *", "the core is pure"),
        ("dte.core.graph", "from random import random", "the core is pure"),
        ("dte.core.graph", "from random import SystemRandom", "the core is pure"),
        ("dte.core.graph", "from random import Random, choice", "the core is pure"),
        ("dte.core.graph", "from random import Random\nRandom()", "is given no seed"),
        ("dte.core.graph", "from random import Random as R\nclass A:\n    r = R()", "no seed"),
        ("dte.core.graph", "from dte.wire.codec import encode", "the core knows only itself"),
        ("dte.core.graph", "import dte.local", "the core knows only itself"),
        ("dte.core.graph", "import dte", "the core knows only itself"),
        ("dte.core.graph", "from dte import __version__", "the core knows only itself"),
        ("dte.core.graph", "from typing import TYPE_CHECKING", "would hide a cycle"),
        ("dte.core.graph", "import typing\nif typing.TYPE_CHECKING: pass", "would hide a cycle"),
        ("dte.core.graph", "import numpy", "the core is pure"),
        ("dte.core.graph", "import os", "the core is pure"),
        ("dte.core.graph", "from datetime import datetime", "the core is pure"),
        ("dte.core.graph", "import importlib", "the core is pure"),
        ("dte.core.timers", "import dte.core.jobs.table", "core/jobs is above"),
        ("dte.core.graph.call", "from dte.core.jobs.job import Job", "graph is below core/jobs"),
        ("dte.core.jobs.job", "from dte.core.workers import worker", "jobs is below core/workers"),
        ("dte.core.jobs.job", "from dte.core.calls import lease", "jobs is below core/calls"),
        ("dte.core.workers.worker", "from dte.core.jobs import job", "is below core/jobs"),
        ("dte.core.workers.worker", "import dte.core.scheduler", "is below core/scheduler"),
        ("dte.core.calls.jobs", "from dte.core.arithmetic import lease", "below core/arithmetic"),
        ("dte.core.arithmetic.lease", "from dte.core.calls import lease", "below core/calls"),
        ("dte.core.formula.parser", "from dte.core.jobs.job import Job", "is below core/jobs"),
        ("dte.core.graph", "from ..wire import codec", "the core knows only itself"),
        ("dte.core.graph", "from .. import wire", "the core knows only itself"),
        ("dte.wire.codec", "from dte.master.settings import Settings", "only the core"),
        ("dte.wire.codec", "from dte.client import requests", "only the core"),
        ("dte.worker.compute", "from dte.master import settings", "a worker stands alone"),
        (
            "dte.worker.compute",
            "from dte.client.requests import url",
            "a worker stands alone",
        ),
        ("dte.worker.compute", "from dte import Client", "the module that defines"),
        ("dte.handlers.registry", "from dte.worker import child", "only the wire"),
        ("dte.handlers.registry", "from dte.master import settings", "only the wire"),
        ("dte.client.requests", "import dte.master.settings", "a client stands alone"),
        ("dte.client.requests", "from dte.handlers import registry", "a client stands alone"),
        ("dte.client.requests", "from dte.worker import arithmetic", "a client stands alone"),
        ("dte.master.master", "from dte.worker.arithmetic import compute", "a master stands alone"),
        ("dte.master.master", "import dte.cli.main", "a master stands alone"),
        ("dte.master.master", "from dte.handlers.registry import load", "a master stands alone"),
        ("dte.master.master", "from dte.client.replies import Job", "a master stands alone"),
        ("dte.master.api.events", "from dte.master.api.jobs import Jobs", "no other dialect"),
        ("dte.master.api.events", "from . import formula", "no other dialect"),
        (
            "dte.master.api.dialects.queue.tasks",
            "from dte.master.api import formula",
            "no other dialect",
        ),
        (QUEUE_TASKS, "from ..rest import tasks", "no other dialect"),
        (
            "dte.master.api.dialects.queue.tasks",
            "from ..scheduler import tasks",
            "no other dialect",
        ),
        ("dte.master.api.formula", "from dte.master.dispatch import batches", "asks the master"),
        (
            "dte.master.api.dialects.queue.tasks",
            "from dte.master.journal import journal",
            "asks the master",
        ),
        (
            "dte.master.api.dialects.queue.tasks",
            "import dte.master.journal.journal",
            "asks the master",
        ),
        (f"{API}.base", "from dte.master.dispatch.calls import CallDispatcher", "asks the master"),
        (f"{API}.dialects.polling", "import dte.master.journal.recorder", "asks the master"),
        (f"{API}.routes", "from dte.master import journal", "asks the master"),
    ],
)
def test_the_check_finds_what_is_forbidden(module: str, source: str, reason: str) -> None:
    (fault,) = faults(source, module)
    assert reason in fault


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dte.core.graph", "from array import array\nfrom dte.core.graph.numbers import Number"),
        ("dte.core.graph", "from . import operations\nfrom .errors import Busy"),
        ("dte.core.graph", "from random import Random\nRandom(7)"),
        ("dte.core.graph", "def f(Random):\n    return Random()"),
        ("dte.master.master", "from random import Random, choice\nimport random\nRandom()"),
        ("dte.core.calls.jobs", "from dte.core.jobs import table\nfrom dte.core import timers"),
        ("dte.core.scheduler", "from dte.core.calls.scheduler import CallScheduler"),
        ("dte.core.why", "from dte.core.scheduler import Scheduler"),
        ("dte.core.graph", "text = 'import time'  # import time"),
        ("dte.wire.codec", "import msgspec\nfrom dte.core import errors\nfrom . import messages"),
        ("dte.worker.compute", "from dte.wire import codec\nimport asyncio"),
        ("dte.worker.processes.executor", "from dte.handlers import registry"),
        (
            "dte.handlers.registry",
            "from dte.wire.messages import handlers\nimport asyncio",
        ),
        ("dte.client.requests", "import time\nfrom dte.core.errors import Busy"),
        ("dte.master.master", "from dte.master.dispatch import Dispatcher\nimport tornado"),
        ("dte.master.api.formula", "from dte.master.api.base import JsonHandler"),
        ("dte.master.api.jobs", "from dte.master.api.job_handler import JobHandler"),
        ("dte.master.api.jobs", "from dte.master.api.openapi import documented"),
        (
            "dte.master.api.dialects.queue.tasks",
            "from dte.master.api.dialects.queue import base",
        ),
        (QUEUE_TASKS, "from . import base\nfrom .state import DIALECT"),
        ("dte.master.api.routes", "from dte.master.api import formula, health"),
        ("dte.master.api.routes", "from dte.master.api.dialects.queue import tasks"),
        ("dte.master.api.health", "from dte import __version__"),
        ("dte.local", "from dte.master.server import MasterServer\nimport dte.worker.server"),
        ("dte.cli.main", "from dte.client.blocking import Client\nfrom dte.master import settings"),
    ],
)
def test_the_check_lets_pass_what_is_allowed(module: str, source: str) -> None:
    assert faults(source, module) == []


def test_relative_imports_of_a_package_start_at_the_package() -> None:
    assert list(imports("from . import codec", "dte.wire", is_package=True)) == ["dte.wire.codec"]
    assert list(imports("from .. import core", "dte.wire", is_package=True)) == ["dte.core"]
