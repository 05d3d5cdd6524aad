"""A distributed task executor: a master runs formulas and handler calls on its workers.

import dte

with dte.Client("http://localhost:5000") as client:
    print(client.compute("1+(2*3)/4-5"))
    print(client.call("fibonacci", 100))
"""

from __future__ import annotations

from importlib import import_module

# Nothing of Python's is imported that `python -m dte` could find in the current folder.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dte.client.asynchronous import AsyncClient
    from dte.client.blocking import Client
    from dte.client.errors import MasterFault, TlsFailed, Unreachable, WaitTimeout
    from dte.client.events import Event
    from dte.client.graphs import Graph
    from dte.client.job import Job, JobCancelled, JobFailed, JobSummary, JobTimedOut
    from dte.client.replies import NodeInfo, Why, WorkerInfo
    from dte.core.errors import (
        Busy,
        Conflict,
        DteError,
        Forbidden,
        FormulaError,
        InvalidRequest,
        JournalDamaged,
        NotFound,
        StorageFull,
        TooLarge,
        Unauthorized,
        Unavailable,
        WaitTooLong,
    )
    from dte.handlers.progress import progress
    from dte.handlers.registry import handler

__version__ = "0.1.0"

# Modules are loaded on first use, so that a program loads no more than it needs.
_NAMES = {
    "dte.client.asynchronous": "AsyncClient",
    "dte.client.blocking": "Client",
    "dte.client.errors": "MasterFault TlsFailed Unreachable WaitTimeout",
    "dte.client.events": "Event",
    "dte.client.graphs": "Graph",
    "dte.client.job": "Job JobCancelled JobFailed JobSummary JobTimedOut",
    "dte.client.replies": "NodeInfo Why WorkerInfo",
    "dte.core.errors": "Busy Conflict DteError Forbidden FormulaError InvalidRequest "
    "JournalDamaged NotFound StorageFull TooLarge Unauthorized Unavailable WaitTooLong",
    "dte.handlers.progress": "progress",
    "dte.handlers.registry": "handler",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "AsyncClient",
    "Busy",
    "Client",
    "Conflict",
    "DteError",
    "Event",
    "Forbidden",
    "FormulaError",
    "Graph",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobSummary",
    "JobTimedOut",
    "JournalDamaged",
    "MasterFault",
    "NodeInfo",
    "NotFound",
    "StorageFull",
    "TlsFailed",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "WaitTimeout",
    "WaitTooLong",
    "Why",
    "WorkerInfo",
    "__version__",
    "handler",
    "progress",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dte' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
