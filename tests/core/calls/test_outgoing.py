"""Workers get no more calls while too many bytes of arguments are on their way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, Core
from core.plans import call
from dte.core.calls import outgoing
from dte.core.calls.lease import CallLease
from dte.core.graph import call as calls
from dte.core.graph.call import Ref
from dte.core.why import reasons
from dte.core.workers.worker import Announcement

LONG = b'"' + b"x" * 9_998 + b'"'
WIDE = replace(CALLER, name="wide", address="10.0.1.1:6002", handler_slots=50)
NEIGHBOUR = replace(WIDE, name="neighbour", address="10.0.1.1:6001")
ELSEWHERE = replace(WIDE, name="elsewhere", address="10.0.1.2:6000")


@pytest.fixture(autouse=True)
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have room for the arguments of two calls at a worker, three at a host, and six at all."""
    monkeypatch.setattr(outgoing, "WORKER_BYTES_MAX", 20_000)
    monkeypatch.setattr(outgoing, "HOST_BYTES_MAX", 30_000)
    monkeypatch.setattr(outgoing, "BYTES_MAX", 60_000)


def with_readers(*workers: Announcement, count: int = 50) -> tuple[Core, list[CallLease]]:
    """A long result that is an argument of many calls, and the calls that workers get at once."""
    core = Core(CALLER)
    nodes = {f"n{number}": call("g", Ref("a")) for number in range(count)}
    core.graph(a=call("f"), **nodes)
    first = core.hand_out()["a"]
    core.workers()[0].resumes_at = 100.0
    for worker in workers:
        core.announce(0.0, worker)
    core.succeed(0.0, first, LONG)
    return core, list(core.hand_out().values())


def of(leases: list[CallLease], worker: Announcement) -> int:
    return sum(lease.worker_name == worker.name for lease in leases)


def test_a_worker_gets_calls_up_to_its_bound_and_another_when_it_has_received_one() -> None:
    core, leases = with_readers(ELSEWHERE)
    assert len(leases) == 2
    assert core.calls.leases.outgoing.bytes >= 20_000
    assert core.hand_out(1.0) == {}
    core.calls.leases.outgoing.sent(leases[0])
    core.calls.leases.outgoing.sent(leases[0])  # It counts once.
    assert len(core.hand_out(1.0)) == 1


def test_a_host_leaves_room_for_others() -> None:
    _, leases = with_readers(WIDE, NEIGHBOUR, ELSEWHERE)
    assert len(leases) == 5
    assert of(leases, ELSEWHERE) == 2


def test_all_workers_have_a_bound_together() -> None:
    hosts = [replace(ELSEWHERE, address=f"10.0.2.{number}:6000") for number in range(9)]
    _, leases = with_readers(*hosts)
    assert len(leases) == 6


def test_what_is_not_sent_because_it_could_not_be_recorded_is_not_counted() -> None:
    core = Core(ELSEWHERE, records_at_once=False)
    core.graph(a=call("f"), b=call("g", Ref("a")))
    core.record()
    core.tick(0.0)
    core.record()
    core.succeed(0.0, core.hand_out()["a"], LONG)
    core.record()
    core.tick(0.0)
    assert core.calls.leases.outgoing.bytes > 0
    core.refuse()
    assert core.calls.leases.outgoing.bytes == 0


def test_a_worker_that_claims_is_not_counted() -> None:
    core, leases = with_readers()
    assert leases == []
    claim = core.ask(0.0, slots=50)
    core.settle(0.0)
    assert len(core.got(claim)) == 50
    assert core.calls.leases.outgoing.bytes == 0


def test_calls_with_short_arguments_are_not_counted() -> None:
    core = Core(WIDE)
    core.graph(**{f"n{number}": call("f", number) for number in range(40)})
    assert len(core.hand_out()) == 40
    assert core.calls.leases.outgoing.bytes == 0


@pytest.fixture
def long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the long result of the tests be long."""
    monkeypatch.setattr(calls, "LONG_BYTES", 5_000)


@pytest.mark.usefixtures("long_ones")
def test_long_arguments_that_nobody_receives_leave_room_for_short_ones_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "HOST_BYTES_MAX", 40_000)
    core, leases = with_readers(WIDE, NEIGHBOUR)
    assert len(leases) == 3, "the host is full of long ones"
    other = replace(NEIGHBOUR, name="other", address="10.0.1.1:6003")
    core.announce(1.0, other)
    assert core.hand_out(1.0) == {}, "long ones wait"
    core.graph(short=call("g", 1))
    assert core.hand_out(1.0).keys() == {"short"}


@pytest.mark.usefixtures("long_ones")
def test_all_hosts_leave_room_for_short_ones() -> None:
    hosts = [replace(ELSEWHERE, address=f"10.0.2.{n}:6000", name=f"w{n}") for n in range(9)]
    core, leases = with_readers(*hosts)
    assert len(leases) == 5
    core.graph(short=call("g", 1), other=call("g", 2))
    assert core.hand_out(1.0).keys() == {"short", "other"}


@pytest.mark.usefixtures("long_ones")
def test_a_worker_that_vanishes_gives_its_room_back() -> None:
    core, leases = with_readers(ELSEWHERE)
    outgoing = core.calls.leases.outgoing
    core.announce(1.0, replace(ELSEWHERE, incarnation="b"))
    for lease in leases:  # Their requests fail.
        outgoing.sent(lease)
    assert len(core.hand_out(1.0)) == 2
    assert outgoing.bytes < 30_000


@pytest.mark.usefixtures("long_ones")
def test_why_names_the_room_that_calls_wait_for() -> None:
    core, leases = with_readers(ELSEWHERE)
    job = core.jobs.job(1)
    waiting = [each for each in reasons(core, 1.0, job) if each.state == "ready"]
    assert len(waiting) == 50 - len(leases)
    assert {each.waits_for for each in waiting} == {"room"}
    size = core.calls.leases.outgoing.bytes
    assert waiting[0].text.startswith(
        f"waiting for room on its way to worker elsewhere; {size} bytes of arguments have"
    )
    for lease in leases:
        core.calls.leases.outgoing.sent(lease)
    assert {each.waits_for for each in reasons(core, 1.0, job) if each.state == "ready"} == {"slot"}
