"""Workers that fetch their work: claims that wait, are answered, and are withdrawn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, LIMITS, PULLER, Core
from core.plans import call
from dte.core.errors import Conflict
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Delivery

DOES_ARITHMETIC = replace(PULLER, arithmetic=True, batch_max=64)


def attempts(job: Job, name: str = "a") -> int:
    assert job.calls is not None
    return job.calls.calls[name].record.attempts


def test_a_claim_gets_what_is_ready_up_to_its_slots() -> None:
    core = Core()
    core.graph(a=call("f"), b=call("f"), c=call("f"))
    claim = core.ask(0.0, slots=2)
    ticks = core.settle(0.0)
    assert [tick.claims for tick in ticks if tick.claims] == [[claim]]
    assert all(not tick.calls for tick in ticks), "nobody calls the worker"
    assert [lease.call.name for lease in core.got(claim)] == ["a", "b"]
    for lease in core.got(claim):
        core.succeed(1.0, lease)
    assert len(core.calls.leases) == 0
    core.settle(1.0)
    assert core.calls.jobs.ready.count == 1, "it asks for more first"


def test_a_claim_waits_until_there_is_work() -> None:
    core = Core()
    claim = core.ask(0.0)
    core.settle(5.0)
    assert not claim.answered
    core.graph(6.0, a=call("f"))
    core.settle(6.0)
    assert claim.answered
    assert [lease.call.name for lease in core.got(claim)] == ["a"]


def test_a_worker_whose_claim_waits_is_there_however_long() -> None:
    core = Core()
    claim = core.ask(0.0)
    for now in range(1000):
        core.settle(float(now))
    core.graph(1000.0, a=call("f"))
    core.settle(1000.0)
    assert claim.answered


def test_a_claim_is_answered_only_when_what_it_got_is_recorded() -> None:
    core = Core(records_at_once=False)
    core.graph(a=call("f"), b=call("p"))
    core.record()
    claim = core.ask(0.0)
    assert core.tick(0.0).claims == []
    core.graph(1.0, c=call("f"))
    core.record()
    (answered,) = core.tick(1.0).claims
    assert answered is claim
    assert [lease.call.name for lease in core.got(claim)] == ["a", "b"], "it got no more meanwhile"


def test_a_claim_whose_hand_over_is_void_gets_work_as_soon_as_that_can_be_recorded() -> None:
    core = Core(records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    claim = core.ask(0.0)
    core.tick(0.0)
    core.refuse()
    core.tick(0.0)
    assert len(claim.call_leases) == 1
    core.record()
    assert core.tick(1.0).claims == [claim]
    assert attempts(job) == 1


def test_a_claim_that_is_withdrawn_gives_back_what_it_got() -> None:
    for records_at_once in (True, False):
        core = Core(records_at_once=records_at_once)
        job = core.graph(a=call("f"))
        core.record()
        claim = core.ask(0.0)
        core.tick(0.0)
        core.hang_up(0.0, claim)
        core.record()
        assert (attempts(job), core.calls.jobs.ready.count, len(core.calls.leases)) == (0, 1, 0)
        assert core.tick(0.0).claims == []
        core.hang_up(0.0, claim)
        assert core.calls.jobs.ready.count == 1


def test_what_a_claim_was_answered_with_may_be_given_back_too() -> None:
    """The worker may have hung up just then."""
    core = Core()
    job = core.graph(a=call("f"))
    claim = core.ask(0.0)
    core.settle(0.0)
    (lease,) = core.got(claim)
    core.hang_up(0.0, claim)
    assert core.calls.leases.get(lease.number) is None
    assert attempts(job) == 0
    assert core.disk.records[job.number]["a"].lease == 0
    again = core.ask(1.0)
    core.settle(1.0)
    assert core.got(again) != [lease]


def test_a_claim_ends_an_older_one_of_the_same_worker() -> None:
    core = Core()
    old = core.ask(0.0)
    new = core.ask(1.0)
    assert old.closed
    core.graph(1.0, a=call("f"))
    core.settle(1.0)
    assert (len(old.call_leases), len(new.call_leases)) == (0, 1)
    core.hang_up(1.0, old)
    (lease,) = core.got(new)
    assert core.calls.leases.get(lease.number) is lease, "what the new one got is not touched"


def test_a_new_claim_does_not_take_from_an_old_one_what_is_being_recorded() -> None:
    core = Core(records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    old = core.ask(0.0)
    core.tick(0.0)
    new = core.ask(1.0)
    core.record()
    assert core.tick(1.0).claims == []
    core.hang_up(2.0, old)
    core.tick(2.0)
    core.record()
    assert core.tick(2.0).claims == [new]
    assert attempts(job) == 1


def test_two_workers_that_claim_share_the_work() -> None:
    core = Core()
    other = replace(PULLER, name="other")
    claims = [core.ask(0.0, slots=1), core.ask(0.0, other, slots=1)]
    core.graph(a=call("f"), b=call("f"))
    core.settle(0.0)
    assert [len(claim.call_leases) for claim in claims] == [1, 1]


def test_a_worker_that_is_started_anew_loses_its_claim_and_what_that_got() -> None:
    core = Core(records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    old = core.ask(0.0)
    core.tick(0.0)
    with pytest.raises(Conflict, match=r"worker name .* is taken"):
        core.ask(1.0, replace(PULLER, incarnation="b"))
    core.cancel_claim(1.0, old)  # Its connection is closed, as when its process ends.
    new = core.ask(1.0, replace(PULLER, incarnation="b"))
    assert old.closed
    assert attempts(job) == 0
    core.tick(1.0)
    core.record()
    assert core.tick(1.0).claims == [new]


def test_a_worker_that_leaves_claims_nothing() -> None:
    core = Core()
    claim = core.ask(0.0)
    (worker,) = core.workers()
    core.leave(1.0, worker)
    core.graph(1.0, a=call("f"))
    core.settle(1.0)
    assert claim.closed
    assert not claim.answered
    assert core.workers() == []


def test_a_worker_that_drains_gets_nothing() -> None:
    core = Core()
    core.graph(a=call("f"))
    claim = core.ask(0.0, replace(PULLER, draining=True))
    core.settle(0.0)
    assert not claim.answered


def test_a_worker_that_claims_may_have_more_calls_than_it_asks_for_at_a_time() -> None:
    core = Core()
    core.graph(a=call("f"), b=call("f"))
    for now in (0.0, 1.0):
        claim = core.ask(now, slots=1)
        core.settle(now)
        assert len(claim.call_leases) == 1
    assert len(core.calls.leases) == 2


def test_what_a_claim_got_is_known_once_it_is_answered_except_for_what_has_ended() -> None:
    core = Core(records_at_once=False)
    core.graph(a=call("f"), b=call("f"))
    core.add("1+2")
    core.record()
    claim = core.ask(0.0, DOES_ARITHMETIC)
    core.tick(0.0)
    assert core.claimed(claim) == ([], None)
    core.record()
    core.tick(0.0)
    leases, batch = core.claimed(claim)
    assert [lease.call.name for lease in leases] == ["a", "b"]
    assert batch is core.batch_of(claim)
    core.succeed(0.0, leases[0])
    core.answer(0.0, batch)
    assert core.claimed(claim) == ([leases[1]], None)


def test_a_name_is_free_again_when_its_worker_drains_or_is_gone() -> None:
    for draining in (True, False):
        core = Core()
        core.ask(0.0, replace(PULLER, draining=draining))
        now = 0.0
        if not draining:
            (worker,) = core.workers()
            assert worker.claim is not None
            core.hang_up(0.0, worker.claim)
            now = 2 * LIMITS.dead_after_s
            core.tick(now)
            assert worker.gone
        core.ask(now, replace(PULLER, incarnation="b"))


# Arithmetic


def test_a_claim_gets_arithmetic_too() -> None:
    core = Core()
    (job,) = core.add("(1+2)*(3+4)")
    while not job.is_terminal:
        claim = core.ask(0.0, DOES_ARITHMETIC)
        ticks = core.settle(0.0)
        assert claim.batch_lease
        assert all(not tick.batches for tick in ticks), "nobody calls the worker"
        core.answer(0.0, core.batch_of(claim))
    assert job.answer == 21


def test_a_claim_gets_arithmetic_and_calls_together() -> None:
    core = Core(records_at_once=False)
    core.add("1+2")
    core.graph(a=call("f"))
    core.record()
    claim = core.ask(0.0, DOES_ARITHMETIC)
    assert core.tick(0.0).claims == [], "the call is being recorded"
    core.record()
    assert core.tick(0.0).claims == [claim]
    assert claim.batch_lease
    assert len(claim.call_leases) == 1


def test_a_claim_that_is_withdrawn_gives_back_its_arithmetic() -> None:
    core = Core()
    (job,) = core.add("1+2")
    claim = core.ask(0.0, DOES_ARITHMETIC)
    core.settle(0.0)
    batch = core.batch_of(claim)
    core.hang_up(0.0, claim)
    core.hang_up(0.0, claim)
    assert not core.arithmetic.complete(0.0, batch.number, [999], {})
    again = core.ask(1.0, DOES_ARITHMETIC)
    core.settle(1.0)
    core.answer(1.0, core.batch_of(again))
    assert job.answer == 3


def test_of_arithmetic_a_claim_gets_one_batch() -> None:
    core = Core()
    core.add(*(f"{n}+1" for n in range(500)))
    claim = core.ask(0.0, DOES_ARITHMETIC)
    core.settle(0.0)
    assert claim.batch_lease
    assert len(core.arithmetic.leases) == 1


def test_a_worker_that_looks_gets_no_arithmetic() -> None:
    core = Core(replace(CALLER, address="", delivery=Delivery.MAILBOX, arithmetic=True))
    core.add("1+2")
    core.settle(0.0)
    assert len(core.arithmetic.leases) == 0


def test_a_job_goes_on_over_many_claims() -> None:
    core = Core()
    job = core.graph(**{f"n{n}": call("f", n) for n in range(7)})
    now = 0.0
    while not job.is_terminal:
        now += 1.0
        claim = core.ask(now)
        core.settle(now)
        assert claim.answered
        for lease in core.got(claim):
            core.succeed(now, lease)
    assert (now, job.state) == (4.0, JobState.SUCCEEDED)


def test_a_claim_that_has_lost_its_call_gets_arithmetic_at_once() -> None:
    core = Core(records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    claim = core.ask(0.0, DOES_ARITHMETIC)
    core.tick(0.0)
    core.cancel(0.0, job)
    core.add("1+2")
    core.record()
    assert core.tick(0.0).claims == [claim]
    assert claim.batch_lease


def test_a_worker_at_work_keeps_its_name_from_another_as_long_as_it_gives_signs_of_life() -> None:
    """Two of one name would end each other's leases by every claim."""
    core = Core()
    core.graph(a=call("f"))
    core.ask(0.0)
    core.settle(0.0)
    another = replace(PULLER, incarnation="b")
    with pytest.raises(Conflict):
        core.ask(LIMITS.lease_s / 2 - 0.1, another)
    core.ask(LIMITS.lease_s / 2, another)
    assert core.workers()[0].announcement.incarnation == "b"


def test_it_is_known_who_has_a_lease_of_arithmetic() -> None:
    core = Core(replace(CALLER, arithmetic=True))
    core.add("1+2")
    (lease,) = core.tick(0.0).batches
    assert core.arithmetic.may_be_of(lease.number, CALLER.name)
    assert not core.arithmetic.may_be_of(lease.number, "another")
    core.arithmetic.complete(0.0, lease.number, [3], {})
    assert core.arithmetic.may_be_of(lease.number, "another"), "it has ended"
