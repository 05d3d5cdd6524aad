"""Handlers that wait through a client for jobs which need the slots that they hold."""

from __future__ import annotations

from pathlib import Path

from harness.processes import until

import dte

from .conftest import StartCluster

HANDLERS = """
import os, dte

URL = os.environ["DTE_MASTER"]

@dte.handler("child")
def child():
    return 1

@dte.handler("parent")
def parent(handler="child"):
    with dte.Client(URL) as client:
        return client.call(handler)

@dte.handler("patient")
def patient():
    with dte.Client(URL) as client:
        return client.wait(client.submit_call("child")).answer

@dte.handler("listening")
def listening():
    with dte.Client(URL) as client:
        return [event.state for event in client.events(client.submit_call("child"))][-1]

@dte.handler("formula")
def formula():
    with dte.Client(URL) as client:
        return client.map(["child()+1"])

@dte.handler("asynchronous")
async def asynchronous():
    async with dte.AsyncClient(URL) as client:
        return await client.call("child")

@dte.handler("asynchronous_listening")
async def asynchronous_listening():
    async with dte.AsyncClient(URL) as client:
        return [event.state async for event in client.events(await client.submit_call("child"))]

@dte.handler("grand")
def grand():
    return parent("parent")
"""
HANDLERS_THAT_WAIT = (
    *("parent", "patient", "listening", "formula"),
    *("asynchronous", "asynchronous_listening"),
)


def texts(client: dte.Client, job: int) -> str:
    return " / ".join(reason.text for reason in client.why(job).reasons)


def test_why_of_each_names_the_other_whichever_way_the_handler_waits(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    cluster = start_cluster(0)
    worker = cluster.processes.start_worker(
        cluster.port, "w1", "--handlers", "mine", "--slots", "1", DTE_MASTER=cluster.url
    )
    number = 1
    with dte.Client(cluster.url) as client:
        for handler in HANDLERS_THAT_WAIT:
            assert client.submit_call(handler).id == number
            stuck = f"waits for job {number + 1}, which waits for a slot that job {number} holds"
            until(lambda n=number, s=stuck: s in texts(client, n), f"{handler} is explained")
            child = texts(client, number + 1)
            assert f"job {number}'s call of {handler} holds one on w1 and waits for job" in child
            told = cluster.processes.start(
                "job", str(number), "--wait", "--timeout", "4", DTE_MASTER=cluster.url
            )
            if handler == "parent":
                assert told.exit_code() == 4
                assert f"job {number} waits: call: running on worker w1" in told.output
                assert stuck in told.output
            else:
                told.kill()
            client.cancel(number + 1)
            client.wait(number, 30)
            number += 2
    assert worker.end() == 0


def test_a_chain_over_several_workers_is_explained_and_ends_with_another_slot(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    cluster = start_cluster(0)
    options = ("--handlers", "mine", "--slots", "1")
    for name in ("w1", "w2"):
        cluster.processes.start_worker(cluster.port, name, *options, DTE_MASTER=cluster.url)
    cluster.until_announced(2)
    with dte.Client(cluster.url) as client:
        job = client.submit_call("grand")
        chain = "waits for job 2, which waits for job 3, which waits for a slot that job 1 holds"
        until(lambda: chain in texts(client, 1), "the chain is explained")
        assert "waits for job 3, which waits for a slot that job 2 holds" in texts(client, 2)
        assert "job 1's call of grand holds one on" in texts(client, 3)
        cluster.processes.start_worker(cluster.port, "w3", *options, DTE_MASTER=cluster.url)
        assert client.wait(job, 60).result() == 1
