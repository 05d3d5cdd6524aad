"""The acceptance formulas: `formulas.jsonl` has for each its answer, or the kind of its error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.cluster import Cluster, MasterClient

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "formulas.jsonl").read_text("utf-8").splitlines()
]


def same(left: Any, right: Any) -> bool:
    """Compare two numbers bit for bit and by type: -0.0 is not 0.0, nor 1 1.0."""
    return type(left) is type(right) and repr(left) == repr(right)


def outcomes(client: MasterClient, tasks: list[str]) -> Iterator[dict[str, Any]]:
    """The outcomes of formulas in the form of `formulas.jsonl`, with the replies for the reader."""
    submitted = [(task, client.ask("POST", "/submit", {"task": task})) for task in tasks]
    for task, reply in submitted:
        if reply.status == 400:
            yield {"task": task, "error": "syntax", "reply": reply.json}
            continue
        assert reply.status == 200, reply.json
        job = client.finished(reply.json["job_id"])
        if job["answer"] is None and job["error"]:
            yield {"task": task, "error": "arithmetic", "reply": job}
        else:
            yield {"task": task, "answer": job["answer"], "reply": job}


def right(case: dict[str, Any], found: dict[str, Any]) -> bool:
    if "answer" in case:
        return same(case["answer"], found.get("answer"))
    return case["error"] == found.get("error")


def test_every_formula_has_its_answer_bit_for_bit_or_its_kind_of_error(cluster: Cluster) -> None:
    assert len(CASES) > 600
    found = outcomes(cluster.client, [case["task"] for case in CASES])
    wrong = [pair for pair in zip(CASES, found, strict=True) if not right(*pair)]
    assert not wrong


def test_what_counts_as_the_same_answer() -> None:
    assert same(3, 3)
    assert same(-0.0, -0.0)
    assert same(0.1 + 0.2, 0.30000000000000004)
    assert not same(-0.0, 0.0)
    assert not same(1, 1.0)
    assert not same(True, 1)
    assert not same(None, 0)
    assert not right({"task": "1", "answer": 1}, {"task": "1", "error": "arithmetic"})
    assert not right({"task": "1/0", "error": "arithmetic"}, {"task": "1/0", "answer": 0})


def test_the_documents_example_goes_as_the_document_says(cluster: Cluster) -> None:
    reply = cluster.client.value("POST", "/submit", {"task": "1+(2*3)/4-5"})
    assert reply == {"job_id": reply["job_id"], "finished": False}
    assert reply["job_id"] in [job["job_id"] for job in cluster.client.get("/jobs")]
    job = cluster.client.finished(reply["job_id"])
    assert (job["job_id"], job["finished"], job["answer"]) == (reply["job_id"], True, -2.5)


def test_both_workers_take_part(cluster: Cluster) -> None:
    job = cluster.client.submit("+".join(f"{n}*{n + 1}" for n in range(5_000)))
    assert cluster.client.finished(job)["answer"] == sum(n * (n + 1) for n in range(5_000))
    assert all(worker["operations_done"] for worker in cluster.client.workers().values())
