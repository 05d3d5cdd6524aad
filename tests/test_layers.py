"""Which part of dte may import which, read from the sources.

An import counts wherever it stands: in a function too, and under ``if TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dte

ROOT = Path(dte.__file__).parent

IMPURE = {
    *("tornado", "msgspec", "asyncio", "socket", "socketserver", "ssl", "select", "selectors"),
    *("http", "urllib", "time", "random", "secrets", "logging", "threading"),
    *("queue", "signal", "subprocess", "multiprocessing", "concurrent", "_thread"),
}
"""What the core cannot be simulated with: networks, clocks, chance, logs and threads."""

CORE_JOBS, CORE_WORKERS = ("dte.core.jobs",), ("dte.core.workers",)
CORE_TOP = ("dte.core.arithmetic", "dte.core.calls", "dte.core.scheduler", "dte.core.why")

FORBIDDEN = {
    "dte.core": {"dte": "the core knows only itself"} | dict.fromkeys(IMPURE, "the core is pure"),
    "dte.core.graph": dict.fromkeys(
        ("dte.core.formula", *CORE_JOBS, *CORE_WORKERS, *CORE_TOP), "a graph knows only graphs"
    ),
    "dte.core.formula": dict.fromkeys(
        (*CORE_JOBS, *CORE_WORKERS, *CORE_TOP), "a formula knows only graphs"
    ),
    "dte.core.jobs": dict.fromkeys(
        ("dte.core.formula", *CORE_WORKERS, *CORE_TOP), "jobs know only graphs"
    ),
    "dte.core.workers": dict.fromkeys(
        ("dte.core.formula", *CORE_JOBS, *CORE_TOP), "workers know no jobs and no leases"
    ),
    "dte.core.arithmetic": dict.fromkeys(
        ("dte.core.formula", "dte.core.calls", *CORE_TOP[2:]), "arithmetic knows no calls"
    ),
    "dte.core.calls": dict.fromkeys(
        ("dte.core.formula", "dte.core.arithmetic", *CORE_TOP[2:]), "calls know no batches"
    ),
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
    # Chance from a seed that is given: the same seed, the same course.
    "dte.core": ("dte.core", "random.Random"),
    "dte.wire": ("dte.core", "dte.wire"),
    "dte.handlers": ("dte.core", "dte.wire", "dte.handlers"),
}

EXPORTED = {f"dte.{name}" for name in dte.__all__ if name != "__version__"}
"""What is there for users of dte; inside it, these names would hide where they come from."""

API = "dte.master.api"
QUEUE_TASKS = f"{API}.dialects.queue.tasks"
NO_DIALECTS = ("base", "job_handler", "openapi", "routes", "polling")
"""What dialects share, and the table of all."""
UNTOUCHABLE = ("dte.master.dispatch.batches", "dte.master.journal.journal")


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
    if name in EXPORTED:
        yield "it is to be imported from its home"
    dialect = dialect_of(module)
    if dialect:
        if dialect_of(name) not in ("", dialect):
            yield "a dialect knows no other dialect"
        if any(within(name, each) for each in UNTOUCHABLE):
            yield "a dialect asks the master, who hands over and keeps the journal"


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


def hidden_imports(source: str) -> list[int]:
    """The lines of imports that are not at the top of a module: circles hide there."""
    tree = ast.parse(source)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [node.lineno for node in found if node not in tree.body]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=module) for module, path in sources() if within(module, "dte.core")],
)
def test_the_core_hides_no_import(path: Path) -> None:
    assert hidden_imports(path.read_text("utf-8")) == []


def test_hidden_imports_are_found() -> None:
    source = "import a\ndef f():\n    import b\nif TYPE_CHECKING:\n    from c import d\n"
    assert hidden_imports(source) == [3, 5]


def test_every_room_has_been_looked_into() -> None:
    modules = [module for module, _ in sources()]
    for room in (*FORBIDDEN, API):
        assert sum(within(module, room) for module in modules) > 1
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
        ("dte.core.graph", "from ..wire import codec", "the core knows only itself"),
        ("dte.core.graph", "from .. import wire", "the core knows only itself"),
        ("dte.core.graph.call", "from dte.core.jobs.job import Job", "knows only graphs"),
        ("dte.core.formula.parser", "from dte.core.scheduler import Scheduler", "only graphs"),
        ("dte.core.jobs.job", "from dte.core.workers.worker import Worker", "only graphs"),
        ("dte.core.workers.worker", "from dte.core.jobs.job import Job", "know no jobs"),
        ("dte.core.arithmetic.lease", "from dte.core.calls.lease import CallLease", "no calls"),
        ("dte.core.calls.lease", "from dte.core.arithmetic import lease", "no batches"),
        ("dte.wire.codec", "from dte.master.settings import Settings", "only the core"),
        ("dte.wire.codec", "from dte.client import requests", "only the core"),
        ("dte.worker.compute", "from dte.master import settings", "a worker stands alone"),
        (
            "dte.worker.compute",
            "from dte.client.requests import url",
            "a worker stands alone",
        ),
        ("dte.worker.compute", "from dte import Client", "from its home"),
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
        ("dte.core.graph", "import timeit, randomness, dtes"),
        ("dte.core.graph", "text = 'import time'  # import time"),
        ("dte.core.arithmetic.lease", "from dte.core.workers.worker import Worker"),
        ("dte.core.scheduler", "from dte.core.calls.scheduler import CallScheduler"),
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
