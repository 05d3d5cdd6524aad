"""A short run, and that replies which are not as documented are found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torture.fuzz import contract
from torture.fuzz.cluster import FuzzedCluster

REQUESTS = 400
REQUESTS_TO_FIND_A_FAULT = 60


def test_a_master_answers_as_its_document_says() -> None:
    tally = contract.run(1, REQUESTS)
    assert tally.found == []
    assert tally.requests > REQUESTS / 4
    assert all(tally.statuses.values()), "each route has been asked"
    assert {200, 400} <= tally.statuses["POST /submit"].keys()
    assert {200, 404} <= tally.statuses["GET /job/{id}"].keys()


def test_requests_follow_from_the_seed(cluster: FuzzedCluster) -> None:
    document = only(cluster, "/jobs")
    one, same, other = (judged(cluster, document, seed).statuses for seed in (3, 3, 4))
    assert one == same
    assert one != other


# Documents that promise what the master does not keep


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedCluster]:
    with FuzzedCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def only(cluster: FuzzedCluster, path: str) -> dict[str, Any]:
    """The master's document, of which just one path is left."""
    document: dict[str, Any] = copy.deepcopy(cluster.client.get("/openapi.json"))
    document["paths"] = {path: document["paths"][path]}
    return document


def judged(cluster: FuzzedCluster, document: dict[str, Any], seed: int = 1) -> contract.Tally:
    return contract.judge(
        document, cluster.port, seed, REQUESTS_TO_FIND_A_FAULT, cluster.silent_ports
    )


def without_a_status(responses: dict[str, Any]) -> None:
    del responses["400"]


def of_another_type(responses: dict[str, Any]) -> None:
    responses["200"]["content"]["application/json"]["schema"] = {"type": "object"}


def of_another_media_type(responses: dict[str, Any]) -> None:
    responses["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}


def with_a_header(responses: dict[str, Any]) -> None:
    responses["200"]["headers"] = {"X-Count": {"required": True, "schema": {"type": "integer"}}}


def test_promises_that_are_kept_are_no_faults(cluster: FuzzedCluster) -> None:
    assert judged(cluster, only(cluster, "/jobs")).found == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_a_status, "Undocumented status code"),
        (of_another_type, "Response violates schema"),
        (of_another_media_type, "Undocumented Content-Type"),
        (with_a_header, "Missing required response headers"),
    ],
)
def test_a_broken_promise_is_found(
    cluster: FuzzedCluster, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    document = only(cluster, "/jobs")
    change(document["paths"]["/jobs"]["get"]["responses"])
    found = judged(cluster, document).found
    assert [fault.route for fault in found] == ["GET /jobs"]
    assert said in found[0].what


def test_a_master_that_hangs_up_is_found(cluster: FuzzedCluster) -> None:
    document = only(cluster, "/health")
    (found,) = contract.judge(document, cluster.silent_ports[0], 1, 2, cluster.silent_ports).found
    assert "ConnectionError" in found.what


def test_streams_of_events_are_left_out(cluster: FuzzedCluster) -> None:
    document = only(cluster, "/health")
    jobs = only(cluster, "/jobs")["paths"]["/jobs"]
    document["paths"]["/jobs"] = {"get": jobs["get"]}
    reply = document["paths"]["/jobs"]["get"]["responses"]["200"]
    reply["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    assert list(judged(cluster, document).statuses) == ["GET /health"]
