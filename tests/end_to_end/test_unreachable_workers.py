"""Workers that the master cannot call: they learn it, and say what would be right."""

from __future__ import annotations

import socket

import pytest
from harness.cluster import Cluster, MasterClient
from harness.machine import HOST, free_port
from harness.processes import Processes, until

from end_to_end.conftest import StartCluster


def warned(cluster: Cluster, name: str, reason: str) -> bool:
    return reason in cluster.workers[name].output


def test_a_worker_whose_port_is_mapped_elsewhere_says_what_would_help(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(0)
    with socket.socket() as elsewhere:  # Bound, so that nobody else listens there meanwhile.
        elsewhere.bind((HOST, 0))
        port = elsewhere.getsockname()[1]
        cluster.start_worker("mapped", "--announce-port", str(port), "--heartbeat-s", "0.5")
        reason = f"calls to {HOST}:{port} fail: Connection refused; if another port leads here"
        until(lambda: warned(cluster, "mapped", reason), "the worker warns")
        job = cluster.client.submit("1+2")
        (found,) = cluster.client.get(f"/job/{job}/why")["reasons"]
        assert f"calls to worker mapped at {HOST}:{port} fail" in found["text"]
        assert cluster.workers["mapped"].output.count("WARNING") == 1


def test_master_and_worker_meet_over_ipv6_by_default(processes: Processes) -> None:
    port = free_port()
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    processes.start("master", "--port", str(port))
    client = MasterClient(port)
    until(lambda: _answers(client), "the master answers over IPv4")
    url = f"http://[::1]:{port}"
    processes.start("worker", "--master", url, "--port", "0", "--name", "six")
    until(client.workers, "the worker is announced")
    assert client.workers()["six"]["address"].startswith("::1:")
    assert client.compute("1+2") == 3


def _answers(client: MasterClient) -> bool:
    try:
        return client.get("/health") is not None
    except OSError:
        return False
