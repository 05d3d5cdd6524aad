"""Both clients and a real master, with workers that call handlers."""

from __future__ import annotations

from contextlib import closing

import pytest
from harness.master_thread import MasterThread

import dte
from dte.client.exact import decimal_digits

FIBONACCI_100 = 354224848179261915075


def fibonacci(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def test_a_call_gives_what_the_handler_gives(client: dte.Client) -> None:
    assert client.call("fibonacci", 100) == FIBONACCI_100
    assert client.call("primes", limit=12) == [2, 3, 5, 7, 11]
    assert client.call("echo", {"ref": "x"}) == {"ref": "x"}
    assert client.call("echo", None) is None


def test_a_result_of_twenty_thousand_digits_is_exact(client: dte.Client) -> None:
    value = client.call("fibonacci", 100_000)
    assert value == fibonacci(100_000)
    assert len(decimal_digits(value)) == 20_899


def test_options_reach_the_call(client: dte.Client) -> None:
    with pytest.raises(dte.JobTimedOut):
        client.with_options(call_timeout_s=0.2).call("sleep", 20)
    job = client.with_options(priority=5, key="call 17").submit_call("echo", "hi")
    assert client.wait(job, 20).priority == 5
    again = client.with_options(priority=5, key="call 17").submit_call("echo", "hi")
    assert again.id == job.id


def test_bad_arguments_fail_the_job_and_are_named(client: dte.Client) -> None:
    with pytest.raises(dte.JobFailed, match="echo"):
        client.call("echo", 1, 2)


def test_a_graph_hands_results_on(client: dte.Client) -> None:
    graph = dte.Graph()
    primes = graph.call("primes", limit=12)
    pause = graph.with_options(priority=5).call("sleep", 0.01)
    copy = graph.with_options(after=[pause], retries=2).call("echo", {"found": primes})
    assert client.run(graph, answer=copy, timeout_s=20) == {"found": [2, 3, 5, 7, 11]}
    job = client.wait(client.submit_graph(graph, copy), 20)
    nodes = {node.name: node for node in client.nodes(job)}
    assert nodes.keys() == {"primes", "sleep", "echo"}
    assert (nodes["echo"].state, nodes["echo"].result) == ("succeeded", job.answer)


def test_a_plan_is_taken_as_a_dict_too(client: dte.Client) -> None:
    plan = {"formula": "fibonacci(30) + 2*3", "priority": 3}
    job = client.wait(client.submit_plan(plan), 20)
    assert (job.result(), job.priority) == (832_046, 3)


def test_a_mistake_in_a_graph_is_refused_at_once(client: dte.Client) -> None:
    with pytest.raises(dte.InvalidRequest, match="nobody"):
        client.submit_plan({"graph": {"a": {"handler": "echo", "args": [{"ref": "nobody"}]}}})


def test_what_waits_can_be_asked_why_and_cancelled(idle_master: MasterThread) -> None:
    with dte.Client(idle_master.url) as client:
        job = client.submit_call("echo", 1)
        (reason,) = client.why(job).reasons
        assert (reason.node, reason.waits_for) == ("call", "worker")
        assert client.cancel(job).id == job.id
        with pytest.raises(dte.JobCancelled):
            client.wait(job, 20).result()
        assert client.cancel(job).state == "cancelled"


def test_what_runs_is_stopped_and_can_be_done_again(client: dte.Client) -> None:
    job = client.submit_call("sleep", 20)
    with closing(client.events(job)) as events:
        next(event for event in events if event.state == "running")
    client.cancel(job)
    assert client.wait(job, 20).state == "cancelled"
    again = client.retry(job)
    assert (again.retry_of, again.id != job.id) == (job.id, True)
    client.cancel(again)


def test_what_did_not_fail_is_not_done_again(client: dte.Client) -> None:
    job = client.submit_call("echo", 1)
    client.wait(job, 20)
    for change in (client.retry, client.cancel):
        with pytest.raises(dte.Conflict):
            change(job)


def test_the_events_of_a_job_end_with_it(client: dte.Client) -> None:
    job = client.submit_call("echo", 1)
    *_, last = client.events(job)
    assert (last.kind, last.job_id, last.state) == ("job", job.id, "succeeded")
    assert last.at is not None
    assert list(client.events(job, after=last.id)) == []


def test_events_of_all_jobs_go_on_after_any_of_them(client: dte.Client) -> None:
    job = client.submit_call("echo", 1)
    *_, last = client.events(job)
    later = client.submit_call("echo", 2)
    client.wait(later, 20)
    with closing(client.events(after=last.id)) as events:
        first = next(event for event in events if event.job_id == later.id)
        assert first.id > last.id
        assert next(e for e in events if e.job_id == later.id and e.state == "succeeded")


def test_a_call_is_waited_for_no_longer_than_it_is_said(idle_master: MasterThread) -> None:
    with dte.Client(idle_master.url) as client:
        with pytest.raises(dte.WaitTimeout) as raised:
            client.with_options(timeout_s=0.05).call("echo", 1)
        assert not client.job(raised.value.jobs[0]).finished


async def test_it_is_all_the_same_on_a_loop(master: MasterThread) -> None:
    async with dte.AsyncClient(master.url) as client:
        assert await client.call("fibonacci", 100) == FIBONACCI_100
        assert await client.with_options(retries=0).call("echo", "hi") == "hi"
        graph = dte.Graph()
        answer = graph.call("echo", [graph.call("primes", limit=5)])
        assert await client.run(graph, answer, 20) == [[2, 3, 5]]
        job = await client.submit_call("sleep", 20)
        async for event in client.events(job):
            if event.state == "running":
                assert [node.name for node in await client.nodes(job)] == ["call"]
                assert (await client.why(job)).reasons
                await client.cancel(job)
        assert (await client.job(job)).state == "cancelled"
        again = await client.retry(job)
        assert (await client.cancel(again)).id == again.id
        other = await client.submit_graph(graph, answer)
        assert (await client.wait(other, 20)).result() == [[2, 3, 5]]
        assert await client.submit_plan({"handler": "echo", "args": [1]})


def test_a_handler_is_mapped_over_lists(client: dte.Client) -> None:
    assert client.map("echo", [1, {"ref": "a"}, "b"]) == [1, {"ref": "a"}, "b"]
    assert client.map("process_data", range(3), (4, 5, 6), timeout_s=20) == [4, 6, 8]
    assert client.map("echo", []) == []
    values = client.map("fibonacci", [1, -1, 10], return_exceptions=True)
    assert (values[0], values[2]) == (1, 55)
    assert isinstance(values[1], dte.JobFailed)
    with pytest.raises(dte.JobFailed):
        client.map("fibonacci", [-1])
    urgent = client.with_options(priority=7)
    assert urgent.map("echo", [1]) == [1]
    assert client.job(client.jobs()[0].id).priority == 7
    assert client.map(["1+2", "3*4"], 20.0) == [3, 12]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("echo",), "a list of formulas is expected, not one formula"),
        (("echo", "abc"), "map takes lists of arguments, not 'abc'"),
        (("echo", 5), "map takes lists of arguments, not 5"),
        (("echo", [1], [2, 3]), "differ in length"),
        (("echo", [1, float("nan")]), "cannot be converted"),
        (("echo", [1, object()]), "object"),
        ((["1+2"], ["a"]), "formulas take no arguments"),
        ((len, [[]]), "not a handler"),
    ],
)
def test_a_map_that_cannot_be_is_refused_before_anything_is_made(
    client: dte.Client, arguments: tuple[object, ...], error: str
) -> None:
    before = client.jobs()[:1]
    with pytest.raises((TypeError, ValueError), match=error):
        client.map(*arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a key is that of one job"):
        client.with_options(key="k").map("echo", [1])
    assert client.jobs()[:1] == before


async def test_the_asynchronous_client_maps_handlers_too(client: dte.Client) -> None:
    async with dte.AsyncClient(client.master_url) as other:
        assert await other.map("echo", [1, 2]) == [1, 2]
        assert await other.with_options(priority=1).map("echo", [3]) == [3]
