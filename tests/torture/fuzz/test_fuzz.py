"""Short runs of both, and that they find what is wrong if something is."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from harness.http import Conduct, Line, Message, ServePlainly
from harness.processes import run_module

from dte.core.errors import FormulaError
from dte.core.formula import builder
from dte.core.formula import formula as dte_parser
from dte.core.formula import parser as stacks
from dte.core.formula.formula import FormulaLimits
from dte.core.graph.work import Work
from torture.fuzz import blocks, bodies, calls, http, parser, paths, reference, scripts
from torture.fuzz.cluster import FuzzedCluster
from torture.fuzz.exchange import Exchange, play
from torture.fuzz.scripts import MASTER, READ, WORKER, Request, Script

INPUTS = 5000
REQUESTS = 500
INPUTS_TO_FIND_A_FAULT = 3000


def test_the_parser_does_what_python_does() -> None:
    tally = blocks.run(1, INPUTS)
    assert not tally.found
    assert tally.inputs == INPUTS
    assert tally.outcomes[parser.ACCEPTED] > INPUTS / 2
    assert tally.outcomes[parser.REFUSED] > INPUTS / 4
    assert tally.outcomes[parser.FAILED] > INPUTS / 50
    assert tally.outcomes[parser.UNDECIDED] < INPUTS / 1000


def test_a_master_and_its_workers_bear_whatever_is_sent() -> None:
    tally = http.run(1, REQUESTS)
    assert not tally.found
    assert tally.requests >= REQUESTS
    assert tally.statuses[MASTER].keys() >= {200, 400, 404, 405}
    assert tally.statuses[MASTER].keys() >= {201, 409}, "calls have been accepted"
    assert tally.statuses[WORKER].keys() >= {200, 400, 404, 405}


# Wrong parsers


def swapping(text: str, limits: FormulaLimits) -> Work:
    """Exchanges the operands of the first operation, if both are known."""
    formula = dte_parser.parse(text, limits)
    graph = formula.graph
    if graph.ready:
        node = graph.ready[0]
        left, right = graph.operands1[node], graph.operands2[node]
        graph.operands1[node], graph.operands2[node] = right, left
    return formula


def forgetting(text: str, limits: FormulaLimits) -> Work:
    """Takes one operation for done before it is."""
    formula = dte_parser.parse(text, limits)
    if formula.graph.remaining > 3:
        formula.graph.take(1)
    return formula


def pointing_beside(text: str, limits: FormulaLimits) -> Work:
    """Says of a syntax error that it is one column earlier."""
    try:
        return dte_parser.parse(text, limits)
    except FormulaError as error:
        column = max(1, error.column - 1)
        raise FormulaError(error.reason, column, error.caret) from None


def taking_zeros(text: str, limits: FormulaLimits) -> Work:
    """Takes 007 for 7."""
    return dte_parser.parse(re.sub(r"(?<![\d.eE+-])0+(?=[1-9])", "", text), limits)


def taking_digits_of_any_script(text: str, limits: FormulaLimits) -> Work:
    digits = {ord("٣"): "3", ord("１"): "1"}
    return dte_parser.parse(text.translate(digits), limits)


def refusing_a_point_at_the_end(text: str, limits: FormulaLimits) -> Work:
    match = re.search(r"\d\.(?!\d)", text)
    if match:
        raise FormulaError("a digit is missing", match.end(), f"{match[0]}\n  ^")
    return dte_parser.parse(text, limits)


def recursing(text: str, limits: FormulaLimits) -> Work:
    if text.count("(") > 300:
        raise RecursionError
    return dte_parser.parse(text, limits)


@pytest.mark.parametrize(
    "wrong",
    [
        swapping,
        forgetting,
        pointing_beside,
        taking_zeros,
        taking_digits_of_any_script,
        refusing_a_point_at_the_end,
        recursing,
    ],
)
def test_a_wrong_parser_is_found(wrong: parser.Parse) -> None:
    assert blocks.run(2, INPUTS_TO_FIND_A_FAULT, parse=wrong, found_max=1).found


def test_a_zero_without_its_sign_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def negation(self: builder.GraphBuilder, operand: int) -> int:
        return self.operation(ord("-"), self.literal(0), operand)

    monkeypatch.setattr(builder.GraphBuilder, "negation", negation)
    assert blocks.run(2, INPUTS_TO_FIND_A_FAULT, found_max=1).found


def test_a_number_that_is_cut_between_slices_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "CUT", re.compile(r"[()*/×÷−\s+\-]"))
    assert blocks.run(2, INPUTS_TO_FIND_A_FAULT, found_max=1).found


def test_what_is_found_is_shown_short_and_can_be_tried_again() -> None:
    found = blocks.run(2, INPUTS_TO_FIND_A_FAULT, parse=swapping, found_max=1).found[0]
    assert len(found.shorter) <= 5
    assert blocks.text_of(2, found.number)[0] == found.text
    (again,) = blocks.check_block(2, found.number, found.number + 1, swapping).found
    assert again == found


def test_processes_share_the_inputs_of_a_seed() -> None:
    alone, shared = blocks.run(3, 2000), blocks.run(3, 2000, processes=2)
    assert shared.outcomes == alone.outcomes
    assert shared.inputs == 2000


# What Python says


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "()",
            "(())",
            "...",
            "e",
            "E5",
            "1 .e5",
            "(1).e5",
            "1(2)",
            "(1)(2)",
            "1 2",
            "1+",
        ),
        *(
            "2**3",
            "7//2",
            "007",
            "1_000",
            "0x10",
            "1e",
            "(1",
            "1)",
            "1\x002",
            "1\xa0+2",
            "１",
            "1j",
        ),
        *("(1/0)(2)", "1/0+e", "(" * 500 + "1", "1" + ")" * 500, "(1+" * 500 + ")" * 500),
        *("(" * 300 + "1" + ")" * 300 + "(2)", "9" * 4301),
    ],
)
def test_python_refuses_what_is_no_formula(text: str) -> None:
    with pytest.raises(reference.Refused):
        reference.value_by_steps(text)
    with pytest.raises((reference.Refused, ZeroDivisionError)):
        reference.value(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+\n2×3÷4−5\f", -2.5),
        ("-(0.0)", -0.0),
        ("-(" * 1000 + "7" + ")" * 1000, 7),
        ("(1+2*" * 300 + "1" + ")" * 300, 2**301 - 1),
        ("(1)-(2)" + "-((3))" * 100, -301),
    ],
)
def test_python_s_value_is_had_whatever_the_depth(text: str, value: float) -> None:
    assert reference.identical(reference.value(text), value)
    by_steps = reference.value_by_steps(text)
    assert by_steps is not None
    assert reference.identical(by_steps, value)


@pytest.mark.parametrize(
    "text", ["1/(1e308*10)", "1e999*0", "1/0", f"{'9' * 4300}*10/10", "0*(2/0)", "-(1e308+1e308)"]
)
def test_a_partial_result_that_does_not_travel_leaves_no_value(text: str) -> None:
    assert reference.value_by_steps(text) is None


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, 1.0), (1, 2), (0.1, 0.1 + 2**-55)])
def test_numbers_are_compared_bit_for_bit(one: float, other: float) -> None:
    assert reference.identical(one, one)
    assert not reference.identical(one, other)


# Servers that answer badly


def script_of(*requests: Request, target: str = MASTER) -> Script:
    return Script(target, requests, pipelined=False, ending=READ)


GOOD = Request("GET", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", clean=True)
BAD = Request("", b"\0\r\n\r\n", clean=False)


def replying(status: int, body: object, **headers: str) -> Conduct:
    async def conduct(_: Message, line: Line) -> None:
        await line.reply(status, body, **headers)

    return conduct


async def hanging_up(_: Message, line: Line) -> None:
    line.close()


@pytest.mark.parametrize(
    ("conduct", "fault"),
    [
        (replying(500, {"error": "Internal Server Error", "code": "http"}), "server's own fault"),
        (replying(502, {"error": "a", "code": "b"}), "server's own fault"),
        (replying(503, {"error": "a"}), "without ErrorReply"),
        (replying(304, None), "is not expected"),
        (replying(400, {"error": "a"}), "without ErrorReply"),
        (replying(400, {"error": "", "code": "a"}), "without error"),
        (replying(400, ["error", "code"]), "without ErrorReply"),
        (replying(201, {"status": "ok"}), "is not documented"),
        (replying(400, b""), "without JSON"),
        (replying(404, b"<html>", Content_Type="text/html"), "as text/html"),
        (replying(200, b'{"status": NaN'), "without JSON"),
        (hanging_up, "hung up without a reply"),
    ],
)
async def test_a_master_that_answers_badly_is_found(
    serve_plainly: ServePlainly, conduct: Conduct, fault: str
) -> None:
    server = await serve_plainly(conduct)
    (found,) = (await play(script_of(GOOD), server.port)).faults
    assert fault in found


@pytest.mark.parametrize(
    ("conduct", "fault"),
    [
        (replying(500, {"error": "division by zero"}), "without an operation"),
        (replying(500, b""), "without JSON"),
        (replying(503, {"error": "a"}), "is not expected"),
        (replying(400, {"reason": "a"}), "without error"),
    ],
)
async def test_a_worker_that_answers_badly_is_found(
    serve_plainly: ServePlainly, conduct: Conduct, fault: str
) -> None:
    server = await serve_plainly(conduct)
    (found,) = (await play(script_of(GOOD, target=WORKER), server.port)).faults
    assert fault in found


@pytest.mark.parametrize(
    ("requests", "conduct"),
    [
        ((GOOD, GOOD), replying(200, {"status": "ok"})),
        ((GOOD,), replying(503, {"error": "a", "code": "unavailable"})),
        ((GOOD,), replying(507, {"error": "a", "code": "storage_full"})),
        ((BAD,), replying(400, b"")),
        ((BAD,), hanging_up),
    ],
)
async def test_a_master_that_answers_well_is_no_fault(
    serve_plainly: ServePlainly, requests: tuple[Request, ...], conduct: Conduct
) -> None:
    server = await serve_plainly(conduct)
    exchange: Exchange = await play(script_of(*requests), server.port)
    assert not exchange.faults
    assert exchange.requests == len(requests)


# Dialects and streams, each in the form of its route


def asking(method: str, path: str) -> Request:
    return Request(method, f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), clean=True)


TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("request_", "conduct", "fault"),
    [
        (asking("GET", "/tasks/x"), replying(404, b"no\n", Content_Type=TEXT), None),
        (asking("BREW", "/tasks/x?a"), replying(405, b"no\n", Content_Type=TEXT), None),
        (asking("GET", "/tasks/x"), replying(404, b"", Content_Type=TEXT), "without a text"),
        (asking("GET", "/tasks/x"), replying(404, {"error": "a", "code": "b"}), "as application"),
        (asking("PUT", "/add_task"), replying(405, {"detail": "no"}), None),
        (asking("PUT", "/add_task"), replying(405, {"detail": ""}), "without detail"),
        (asking("PUT", "/add_task"), replying(405, {"error": "a", "code": "b"}), "without Refused"),
        (asking("POST", "/add_task"), replying(422, {"detail": []}), "without detail"),
        (asking("GET", "/task/1"), replying(404, {"status": "error", "message": "no"}), None),
        (asking("GET", "/task/1"), replying(404, {"error": "a", "code": "b"}), "without Missing"),
        (asking("PUT", "/workers/w/heartbeat"), replying(204, None, Content_Type=None), None),
        (asking("PUT", "/workers/w/heartbeat"), replying(204, b"x"), "with a body"),
        (asking("GET", "/nowhere"), replying(404, b"no\n", Content_Type=TEXT), "as text/plain"),
    ],
)
async def test_a_reply_is_judged_by_the_form_of_its_route(
    serve_plainly: ServePlainly, request_: Request, conduct: Conduct, fault: str | None
) -> None:
    server = await serve_plainly(conduct)
    faults = (await play(script_of(request_), server.port)).faults
    assert [fault in each for each in faults] == ([] if fault is None else [True])


def streaming(block: bytes) -> Conduct:
    async def conduct(_: Message, line: Line) -> None:
        head = {"Content_Type": "text/event-stream", "Content_Length": None}
        await line.reply(200, block, **head)
        if not block:
            line.close()

    return conduct


@pytest.mark.parametrize(
    ("block", "is_good"),
    [(b"retry: 1000\nid: 7\n\nevent: job\n", True), (b"event: job\n\n", False), (b"", False)],
)
async def test_of_a_stream_the_beginning_is_read(
    serve_plainly: ServePlainly, block: bytes, is_good: bool
) -> None:
    server = await serve_plainly(streaming(block))
    exchange = await play(script_of(asking("GET", "/events")), server.port)
    assert [fault.partition(" with ")[0] for fault in exchange.faults] == (
        [] if is_good else ["a stream begins"]
    )


def test_nothing_is_asked_behind_a_stream() -> None:
    for number in range(2000):
        script = scripts.script(1, number, PORTS)
        for request in script.requests[:-1]:
            assert not (script.target == MASTER and b"/events" in request.raw[:200]) or (
                not request.raw.startswith(b"GET")
            )


async def test_what_replies_name_is_asked_for(serve_plainly: ServePlainly) -> None:
    server = await serve_plainly(
        replying(201, b'{"job_id":5,"calls":[{"lease":6789,"job_id":345}]}')
    )
    body = b'{"leases": [%s]}' % calls.LEASE.encode()
    head = f"POST /job/{calls.JOB}/cancel HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    named = Request("POST", head.encode() + body, clean=True)
    await play(script_of(asking("POST", "/jobs"), named), server.port)
    second = server.requests[1]
    assert second.path == f"/job/{345:018}/cancel"
    assert second.json == {"leases": [6789]}


def test_a_process_that_has_ended_is_found(tmp_path: Path) -> None:
    with FuzzedCluster(tmp_path) as cluster:
        assert not cluster.faults()
        cluster.master.end(signal.SIGKILL)
        assert "master has ended" in cluster.faults()


# What is sent


PORTS = (40_001, 40_002)


def test_workers_are_announced_only_where_nobody_is() -> None:
    assert bodies.calls_elsewhere(b'{"worker_name":"a"}', PORTS)  # On port 6000, that is.
    assert bodies.calls_elsewhere(b'{"worker_name":"a","port":40003}', PORTS)
    assert not bodies.calls_elsewhere(b'{"worker_name":"a","port":40001}', PORTS)
    sent = [
        request.raw.partition(b"\r\n\r\n")[2]
        for number in range(3000)
        for request in scripts.script(1, number, PORTS).requests
    ]
    assert any(b'"port":40001' in body for body in sent)
    assert not any(bodies.calls_elsewhere(body, PORTS) for body in sent)


def test_a_script_follows_from_its_seed_and_number() -> None:
    def made(seed: int) -> list[Script]:
        return [scripts.script(seed, number, PORTS) for number in range(50)]

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_every_route_is_asked_for() -> None:
    asked = b" ".join(
        request.raw.partition(b" HTTP")[0]
        for number in range(1000)
        for request in scripts.script(1, number, PORTS).requests
    ).decode("latin-1")
    for method, pattern in (*paths.TARGETS, *paths.WORKER_TARGETS):
        assert re.search(f"{method} {paths.GROUP.sub('[^/ ]+', pattern)}\\b", asked), pattern


def test_texts_are_of_all_kinds() -> None:
    texts = [blocks.text_of(1, number)[0] for number in range(3000)]
    assert any(len(text) > 5000 for text in texts)
    assert any(text.count("(") > 500 for text in texts)
    assert any(re.search(r"\d{4000}", text) for text in texts)
    assert any("\ud800" <= char <= "\udfff" for text in texts for char in text)
    assert any("\0" in text for text in texts)
    assert any(re.search(r"[+− -]{20}", text) for text in texts)


# The command


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module("torture.fuzz", *arguments, timeout_s=60)


def test_the_command_prints_a_summary() -> None:
    ended = fuzz("--seed", "4", "--inputs", "500", "--processes", "1", "--json", "parser")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["seed"] == 4
    assert summary["parser"]["inputs"] == 500
    assert summary["parser"]["differences"] == 0
    assert "http" not in summary


def test_the_command_tries_one_input_again() -> None:
    ended = fuzz("--seed", "4", "--input", "17", "parser")
    assert ended.returncode == 0, ended.stderr
    assert repr(blocks.text_of(4, 17)[0]) in ended.stdout


def test_the_command_teaches() -> None:
    assert "examples:" in fuzz("--help").stdout
    assert fuzz("--input", "3").returncode == 2
