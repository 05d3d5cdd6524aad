"""A short run of scripts, what they are made of, and the command."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

from harness.processes import run_module
from torture.fuzz import blocks, bodies, http, paths, scripts
from torture.fuzz.cluster import FuzzedCluster
from torture.fuzz.scripts import MASTER, WORKER, Script

REQUESTS = 500


def test_a_master_and_its_workers_bear_whatever_is_sent() -> None:
    tally = http.run(1, REQUESTS)
    assert not tally.found
    assert tally.requests >= REQUESTS
    assert tally.statuses[MASTER].keys() >= {200, 400, 404, 405}
    assert tally.statuses[MASTER].keys() >= {201, 409}, "calls have been accepted"
    assert tally.statuses[WORKER].keys() >= {200, 400, 404, 405}


def test_nothing_is_asked_behind_a_stream() -> None:
    for number in range(2000):
        script = scripts.script(1, number, PORTS)
        for request in script.requests[:-1]:
            assert not (script.target == MASTER and b"/events" in request.raw[:200]) or (
                not request.raw.startswith(b"GET")
            )


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
