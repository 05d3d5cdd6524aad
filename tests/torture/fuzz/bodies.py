"""Makes bodies of requests: what is expected, JSON of another shape, and bytes that are no JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from random import Random

from torture.fuzz import formulas
from torture.fuzz.chance import one

from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.batches import Announce

FORMULA_CHARS_MAX = 300
"""Longer ones are for the parser's own test; here each would cost a way to a worker and back."""
TASKS_MAX = 20
DEEP = 100_000

ODD_VALUES = (
    *("null", "true", "false", "0", "-0", "-1", "1.5", "6000.0", "01", "+1", ".5", "1."),
    *("1e5", "1e999", "-1e999", "1e-999", "NaN", "Infinity", "-Infinity", "0x10", "1_000"),
    *("65535", "65536", "2147483648", "9223372036854775808", "-9223372036854775809", "1" * 4300),
    *("18446744073709551616", "9" * 4301, "-" + "9" * 4300, "0." + "1" * 5000, "1" + "0" * 400),
    *('""', '" "', '"x"', '"6000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\uD83D"'),
    *('"\\x"', '"\\', '"\\u12"', '"\n"', '"\t"', "'a'", '"' + "a" * 300 + '"', '"é"', '"１+１"'),
    *("[]", "{}", "[[]]", '[""]', "[null]", "[1]", '["1+1", 2]', '["1+1",]', "[,]", '{"a":1}'),
    *("[" * DEEP + "]" * DEEP, '{"a":' * 2000 + "1" + "}" * 2000, "[" * DEEP, '{"task":' * 500),
)
NO_JSON = (
    *(b"", b" ", b"\r\n", b"\0", b"{", b"}", b"[", b'{"task"', b'{"task":', b'{"task": "1+1"'),
    *(b"task=1%2B1", b"<xml/>", b"\xff\xfe", b'\xef\xbb\xbf{"task": "1+1"}', b'{"task": "\xff"}'),
    *(b'{"task": "\xc0\xaf"}', b'{"task": "\xed\xa0\x80"}', b'{"task": "1"} x', b'{"task": "1"}{}'),
    *('{"task": "1+1"}'.encode(name) for name in ("utf-16", "utf-16-be", "utf-32")),
    *(b'{"task": "1+1", "task": "2+"}', b'{"task": "1+1", "tasks": ["1"]}', b"/**/{}", b"\x1f\x8b"),
)
KEYS = ("task", "tasks", "task ", "Task", "", "wait", "worker_name", "priority", "id", "\ud800")

NAMES = (
    *(
        "w",
        "worker-9",
        "ä",
        "名前",
        "a" * 200,
        "a" * 201,
        "",
        " ",
        "\n",
        "\u202e",
        "😀",
        "%s",
        "{}",
    ),
)
SINGLES = ("sum", "sub", "mul", "div", "sum", "sub", "mul", "div", "+", "", "pow", "SUM", "é")
SYMBOLS = "+-*/+-*/+-*/%é"


def submission(rng: Random) -> bytes:
    """A body for ``POST /submit``, or something like it."""
    kind = rng.random()
    if kind < 0.45:
        return json.dumps({"task": _formula(rng)}).encode()
    if kind < 0.6:
        count = int(TASKS_MAX * rng.random() ** 2)
        return json.dumps({"tasks": [_formula(rng) for _ in range(count)]}).encode()
    if kind < 0.65:
        return _large_submission(rng)
    if kind < 0.8:
        return _object(KEYS, rng)
    return anything(rng)


def anything(rng: Random) -> bytes:
    """A value of another shape, what is no JSON, or JSON with some bytes changed."""
    kind = rng.random()
    if kind < 0.3:
        return one(ODD_VALUES, rng).encode(errors="surrogatepass")
    if kind < 0.6:
        return one(NO_JSON, rng)
    if kind < 0.9:
        return garbled(json.dumps({"task": _formula(rng)}).encode(), rng)
    return rng.randbytes(int(300 * rng.random() ** 2))


def announcement(rng: Random, ports: Sequence[int]) -> bytes:
    """A body for ``POST /worker``, of a worker on one of the `ports`, or something like it."""
    said: dict[str, str] = {
        "worker_name": json.dumps(one(NAMES, rng)),
        "port": str(one(ports, rng)),
        "slots": str(one((1, 2, 64), rng)),
        "batch_max": str(one((1, 2, 1024, 100_000), rng)),
        "incarnation": json.dumps(one(("", "a", "b", "c" * 200, "c" * 201), rng)),
        "draining": one(("true", "false"), rng),
    }
    for field in ("slots", "batch_max", "incarnation", "draining"):
        if rng.random() < 0.4:
            del said[field]
    if rng.random() < 0.5:
        said[one((*said, "other"), rng)] = one(ODD_VALUES, rng)
    body = _joined(said.items()).encode(errors="surrogatepass")
    return garbled(body, rng) if rng.random() < 0.2 else body


def calls_elsewhere(body: bytes, ports: Sequence[int]) -> bool:
    """True when it announces a worker on another port, which the master would call."""
    try:
        announce: Announce = Decoder(Announce, lenient=False).decode(body)
    except Malformed:
        return False
    return announce.port not in ports


def operations(rng: Random) -> bytes:
    """A body for a worker's ``POST /compute``, or something like it."""
    kind = rng.random()
    if kind < 0.3:
        fields = {"operation": f'"{one(SINGLES, rng)}"', "op1": _number(rng), "op2": _number(rng)}
    elif kind < 0.6:
        count = int(40 * rng.random() ** 2)
        fields = {
            "lease": _number(rng),
            "operations": json.dumps("".join(rng.choices(SYMBOLS, k=count))),
            "op1": f"[{','.join(_number(rng) for _ in range(count))}]",
            "op2": f"[{','.join(_number(rng) for _ in range(count + one((0, 0, 0, 1), rng)))}]",
        }
    else:
        return anything(rng)
    if rng.random() < 0.3:
        fields[one((*fields, "other"), rng)] = one(ODD_VALUES, rng)
    body = _joined(fields.items()).encode(errors="surrogatepass")
    return garbled(body, rng) if rng.random() < 0.2 else body


def garbled(body: bytes, rng: Random) -> bytes:
    """The bytes with some dropped, doubled, exchanged or put in between."""
    for _ in range(1 + int(4 * rng.random() ** 2)):
        at = int(rng.random() * (len(body) + 1))
        kind = rng.random()
        if kind < 0.3:
            body = body[:at] + body[at + 1 :]
        elif kind < 0.5:
            body = body[: at + 1] + body[at:]
        elif kind < 0.7:
            body = body[:at] + one((b'"', b"{", b"}", b",", b":", b"\\", b"\0"), rng) + body[at:]
        elif kind < 0.9:
            body = body[:at] + rng.randbytes(1) + body[at + 1 :]
        else:
            body = body[:at]
    return body


def _large_submission(rng: Random) -> bytes:
    """About as large as the bounds of `cluster.BOUNDS` allow, or larger."""
    kind = rng.random()
    if kind < 0.3:
        text = "1+" * int(30_000 * rng.random() ** 4) + "1"
    elif kind < 0.5:
        text = "(" * int(60_000 * rng.random()) + "1"
    elif kind < 0.6:
        text = "7" * int(20_000 * rng.random())
    elif kind < 0.8:
        return json.dumps({"tasks": ["1"] * int(700 * rng.random())}).encode()
    else:
        return b'{"task": "' + b" " * int(1_500_000 * rng.random() ** 2) + b'1+1"}'
    return json.dumps({"task": text}).encode()


def _object(keys: Sequence[str], rng: Random) -> bytes:
    count = int(4 * rng.random())
    fields = [(one(keys, rng), one(ODD_VALUES, rng)) for _ in range(count)]
    return _joined(fields).encode(errors="surrogatepass")


def _joined(fields: Iterable[tuple[str, str]]) -> str:
    return f"{{{','.join(f'{json.dumps(name)}:{value}' for name, value in fields)}}}"


def _formula(rng: Random) -> str:
    while len(text := formulas.text(rng)) > FORMULA_CHARS_MAX:
        pass
    return text


def _number(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return str(int(100 * rng.random()))
    if kind < 0.8:
        return repr(rng.random() * 10.0 ** int(600 * rng.random() - 300))
    return one((*ODD_VALUES[:12], "0", "0.0", "9" * 4300, "-" + "9" * 4300, "1e308"), rng)
