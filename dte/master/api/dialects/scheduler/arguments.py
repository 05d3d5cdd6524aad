"""The arguments of functions: by position, by name, or both.

Handlers take either a list or named arguments. So arguments that come in both forms are all named
after the function's parameters; the plan also keeps both forms, for this dialect's workers.
"""

from __future__ import annotations

from typing import Any

from dte.core.calls.lease import CallLease
from dte.core.jobs.job import Job
from dte.master.api.dialects.long_bodies import LONG_BYTES, is_long, is_object
from dte.master.api.dialects.scheduler.validation import Unprocessable, fault_at
from dte.master.api.dialects.tasks import only_call
from dte.master.messages import arguments as arguments_of
from dte.master.plans import read_plan

DIALECT = "scheduler"
"""Marks the plans of jobs that were submitted here."""
PARAMETERS = {
    "process_data": ("x", "y"),
    "send_email": ("recipient", "subject", "body"),
    "calculate_pi": ("n_digits",),
}
"""The functions that every worker of this dialect has, with their parameters."""


def arguments(
    function: str, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any] | dict[str, Any], dict[str, Any]]:
    """The arguments of the handler, and the plan's notes `about` them.

    Raises:
        Unprocessable: both forms are given, and the function does not take both.
    """
    about: dict[str, Any] = {"dialect": DIALECT}
    if not args or not kwargs:
        return kwargs or args, about
    if is_long(args) or is_long(kwargs):
        raise _refusal(f"args and kwargs over {LONG_BYTES} bytes cannot be combined", {})
    names = PARAMETERS.get(function)
    if names is None:
        text = "args and kwargs can be combined only for " + ", ".join(PARAMETERS)
        raise _refusal(text, kwargs)
    if len(args) > len(names) or not kwargs.keys().isdisjoint(names[: len(args)]):
        raise _refusal(f"{function} takes {', '.join(names)}, each once", kwargs)
    named = dict(zip(names, args, strict=False)) | kwargs
    return named, about | {"args": args, "kwargs": kwargs}


def _refusal(text: str, kwargs: dict[str, Any]) -> Unprocessable:
    return Unprocessable(fault_at(["kwargs"], text, "value_error", {"kwargs": kwargs}))


def handed_out(lease: CallLease, job: Job) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call by position and by name, as its client gave them."""
    args = arguments_of(lease.call)
    if is_long(args):
        return ([], args) if is_object(args) else (args, {})
    if isinstance(args, list):
        return args, {}
    if job.plan is not None and only_call(job) is not None:
        about = read_plan(job.plan).about
        if about.get("dialect") == DIALECT and "args" in about:
            return about["args"], about["kwargs"]
    return [], args
