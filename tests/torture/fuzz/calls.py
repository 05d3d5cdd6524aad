"""Makes bodies that speak of calls: jobs as graphs, claims, results; and examples that go wrong.

No call takes long: each has a timeout, and what sleeps does so for a moment. Some handlers are
nobody's, so that their jobs wait until they are cancelled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

from torture.fuzz.bodies import ODD_VALUES, garbled
from torture.fuzz.chance import one
from worker.hostile import DEEDS, ERRORS, RAISED, RESULTS

from dte.master.api.openapi import documentation
from dte.master.api.routes import ROUTES

# What a reply has named may be asked for: these are exchanged for that when they are sent, and
# valid as they are. They are as long as any number, for the length is said before.
JOB = f"{1:018}"
"""Stands for the last job, in paths."""
LEASE = f"{1:<20}"
"""Stands for the last lease, in bodies."""
_LEASE = "\0lease"

NOBODYS = "nobodys"
"""A handler that only those have who claim: they seldom give a result."""
HANDLERS = ("echo", "echo", "primes", "fibonacci", "process_data", "compute", "sleep", NOBODYS)
HOSTILE = ("hostile", "hostile_async", "hostile_coroutine")
"""Handlers that return and raise what misbehaves."""
ODD_HANDLERS = ("nobody's", "", "é", "a" * 300, "echo ", "send_email", "calculate_pi")
ARGUMENTS: tuple[Any, ...] = (
    *([1], ["x"], [], {}, [1, 2], [30], {"limit": 50}, {"n": 7}, {"value": 1}),
    *([{"literal": {"ref": "a"}}], [-1], [{"a": {"b": [[]]}}], ["a" * 5000], [{"": 0}]),
)
ODD_ARGUMENTS: tuple[Any, ...] = (
    *(None, 5, "x", [{"ref": "zz"}], [{"ref": 1}], [{"ref": None}], [{"ref": ""}], ["\ud800"]),
    *([1e308], [10**400], [{"ref": "a", "b": 1}]),
)
FORMULAS = ("1+2", "fibonacci(30) + 2*3", "fibonacci(10)*fibonacci(10)", "fibonacci(1+1)")
ODD_FORMULAS = (
    *("nobody(1)", "echo()", "fibonacci(-1)", "fibonacci(", "echo(1,2)+1", "1/0", ""),
    "echo(echo(echo(1)))",
)
WORKERS = ("w", "v", "ä")
ODD_WORKERS = ("a" * 201, "", "\n", "%s")
ODD = 0.04
"""How seldom a value is an odd one: of a graph with one, the rest would not be looked at."""
HOSTILE_SHARE = 0.1
MOMENTS = ("2001-01-01T00:00:00Z", "2030-01-01T00:00:00Z")
NODES = "abcdefgh"
TIMEOUT_S = 0.5
SLEEP_S = 0.02

EXAMPLES: dict[tuple[str, str], list[Any]] = {
    (method.upper(), route.path): list(said.examples.values())
    for route in ROUTES
    for method, function in route.methods()
    if (said := documentation(function)) is not None and said.examples
}
"""The bodies that the document gives, by method and the path as in the table."""


def job(rng: Random, ports: Sequence[int]) -> bytes:
    """A body for ``POST /jobs``, or something like it.

    Args:
        ports: where notices of ends may go; nobody listens there.
    """
    kind = rng.random()
    if kind < 0.1:
        value: Any = {"jobs": [_job(rng) for _ in range(int(5 * rng.random()))]}
    else:
        value = _job(rng)
    if kind > 0.95:  # Never garbled, as the notice might go elsewhere.
        return json.dumps(value | {"notify": f"http://127.0.0.1:{one(ports, rng)}/"}).encode()
    return spoilt(value, rng)


def _job(rng: Random) -> dict[str, Any]:
    kind = rng.random()
    made: dict[str, Any]
    if kind < 0.55:
        count = 1 + int(len(NODES) * rng.random() ** 2)
        # Each may need those before it; an odd one is in a circle, or needs what is not there.
        made = {"graph": {name: _node(rng, NODES[:n]) for n, name in enumerate(NODES[:count])}}
        if rng.random() < 0.3:
            made["answer"] = _usual(NODES[:count], NODES, rng)
    elif kind < 0.75:
        made = _call(rng)
    else:
        made = {"formula": _usual(FORMULAS, ODD_FORMULAS, rng)}
    for name, values, odd_values in (
        ("priority", (5, -5, 10**6), (10**7, 0.5)),
        ("after", ([], [1]), ([10**17], ["1"])),
        ("when", ("done", "success"), ("never",)),
    ):
        if rng.random() < 0.1:
            made[name] = _usual(values, odd_values, rng)
    return made


def _node(rng: Random, before: str) -> dict[str, Any]:
    made = _call(rng)
    names = before or NODES[-1:]
    if made["handler"] in ("echo", NOBODYS) and (before or rng.random() < ODD):
        made["args"] = [{"ref": one(names, rng)}]
    if before and rng.random() < 0.2:
        made["after"] = [_usual(names, NODES, rng) for _ in range(int(3 * rng.random()))]
    if rng.random() < 0.1:
        made["when"] = "done"
    if rng.random() < 0.1:
        made["priority"] = int(10 * rng.random())
    return made


def _call(rng: Random) -> dict[str, Any]:
    handler = _usual(HANDLERS, ODD_HANDLERS, rng)
    args = [SLEEP_S] if handler == "sleep" else _usual(ARGUMENTS, ODD_ARGUMENTS, rng)
    if rng.random() < HOSTILE_SHARE:
        deed = one(DEEDS, rng)
        name = one([*(ERRORS if deed == "raise" else RESULTS)], rng)
        handler, args = one(HOSTILE, rng), [deed, name, one([*RAISED], rng)]
    made = {"handler": handler, "args": args, "timeout": TIMEOUT_S}
    if rng.random() < 0.3:
        made["retries"] = _usual((0, 1, 2), (-1, 10**4), rng)
    if rng.random() < 0.1:
        made["delay"] = _usual((0.01, 0.1, 3600), (-1,), rng)
    if rng.random() < 0.05:
        made["not_before"] = _usual(MOMENTS, ("soon",), rng)
    return made


def claim(rng: Random) -> bytes:
    """A body for ``POST /claim``, or something like it."""
    handlers: Any = [_usual(HANDLERS, ODD_HANDLERS, rng) for _ in range(int(5 * rng.random()))]
    if rng.random() < 0.3:
        handlers = {name: {"retries": 1, "pure": rng.random() < 0.5} for name in handlers}
    value: dict[str, Any] = {
        "worker": _usual(WORKERS, ODD_WORKERS, rng),
        "handlers": handlers,
        "slots": _usual((1, 2, 50), (0, -1, 10**6), rng),
        "wait": _usual((0, 0.01, 0.1), (-1, 60), rng),
    }
    if rng.random() < 0.3:
        value["batch_max"] = _usual((1, 100), (0, -1), rng)
    if rng.random() < 0.2:
        value["incarnation"] = one(("a", "b"), rng)
    if rng.random() < 0.05:
        value["draining"] = True
    return spoilt(value, rng)


def reports(rng: Random) -> bytes:
    """A body for ``POST /result``, or something like it."""
    results = []
    for _ in range(int(4 * rng.random())):
        said: dict[str, Any] = {"lease": _lease(rng)}
        kind = rng.random()
        if kind < 0.6:
            said["result"] = one(ARGUMENTS, rng)
        elif kind < 0.8:
            said["error"] = "it failed"
        else:
            said["state"] = one(("failed", "timed_out", "cancelled", "returned"), rng)
        if rng.random() < ODD:
            said["state"] = one(("succeeded", "failed", "ended", 7), rng)
        if rng.random() < 0.2:
            said["retry"] = rng.random() < 0.5
        results.append(said)
    value: dict[str, Any] = {"worker": _usual(WORKERS, ODD_WORKERS, rng), "results": results}
    if rng.random() < 0.3:
        value["batches"] = [{"lease": _lease(rng), "results": [1, 2.5, None], "errors": {"2": "x"}}]
    return spoilt(value, rng)


def extension(rng: Random) -> bytes:
    """A body for ``POST /extend``, or something like it."""
    leases = [_lease(rng) for _ in range(int(4 * rng.random()))]
    value: dict[str, Any] = {"worker": _usual(WORKERS, ODD_WORKERS, rng), "leases": leases}
    if rng.random() < 0.5:
        number = _usual(("1", "7", "-1"), ("x", "9" * 30), rng)
        value["progress"] = {
            number: {"fraction": _usual((0, 0.5, 1), (2, -1), rng), "text": "é" * 600}
        }
    return spoilt(value, rng)


def stop(rng: Random) -> bytes:
    """A body for a worker's ``POST /stop``, or something like it."""
    return spoilt({"leases": [_lease(rng) for _ in range(int(4 * rng.random()))]}, rng)


def handed_out(rng: Random) -> bytes:
    """A body with calls for a worker's ``POST /compute``, or something like it."""
    calls = []
    for _ in range(1 + int(2 * rng.random())):
        said = {"lease": _lease(rng), "job_id": 1, "node": one(NODES, rng), "attempt": 1}
        made = _call(rng)
        calls.append(said | {"lease_s": 3.0} | {name: made[name] for name in made})
    return spoilt(calls[0] if rng.random() < 0.2 else {"calls": calls}, rng)


def like_an_example(method: str, path: str, rng: Random) -> bytes | None:
    """One of the document's examples for a path of the table, or something like it, if any."""
    examples = EXAMPLES.get((method, path))
    return spoilt(deepcopy(one(examples, rng)), rng) if examples else None


def spoilt(value: Any, rng: Random) -> bytes:
    """The JSON of a value: as it is, or with a value or some bytes of it exchanged."""
    kind = rng.random()
    odd = one(ODD_VALUES, rng)
    if kind < 0.12:
        _exchange(value, rng)
    text = json.dumps(value).replace(json.dumps(_LEASE), LEASE).replace('"\\u0001"', odd)
    if 0.12 <= kind < 0.16:
        text = _with_a_name_twice(text, rng)
    body = text.encode(errors="surrogatepass")
    return garbled(body, rng) if kind > 0.94 else body


def _with_a_name_twice(text: str, rng: Random) -> str:
    """The JSON with one of its objects' names once more, spelt alike or otherwise."""
    names = list(re.finditer(r'(?<=[{,] )?"(\w+)": ', text))
    if not names:
        return text
    name = one(names, rng)
    spelt = name[1] if rng.random() < 0.7 else f"\\u{ord(name[1][0]):04x}{name[1][1:]}"
    return f'{text[: name.start()]}"{spelt}": 1, {text[name.start() :]}'


def _exchange(value: Any, rng: Random) -> None:
    """Put an odd value in the place of another, or beside it."""
    while isinstance(value, dict | list) and value:
        sleeps = isinstance(value, dict) and value.get("handler") == "sleep"
        keys: Any = list(value) if isinstance(value, dict) else range(len(value))
        key = one(keys, rng)
        if rng.random() < 0.5 or not isinstance(value[key], dict | list) or not value[key]:
            # A call without its timeout might go on for ever.
            if key == "timeout" or (key == "args" and sleeps):
                key = "other"
            value[key] = "\x01"
            return
        value = value[key]


def _lease(rng: Random) -> Any:
    return _usual((_LEASE, _LEASE, _LEASE, 1, 7), (-1, 10**17, 10**30, "1", 1.5, None), rng)


def _usual(usual: Sequence[Any], odd: Sequence[Any], rng: Random) -> Any:
    return one(odd if rng.random() < ODD else usual, rng)
