"""Operations whose worker vanished: the line in which they wait, and how the scheduler uses it."""

from __future__ import annotations

from random import Random

import pytest

from core.checked import WORKER, Core, at, nodes, only, operations, parsed
from dte.core.arithmetic.quarantine import Quarantine, Suspicion
from dte.core.arithmetic.scheduler import LEASES_IN_TICK
from dte.core.backoff import BACKOFF_FIRST_S, BACKOFF_MAX_S
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Failure, Worker

SUMS = "1*2+3*4+5*6+7*8"
"""Four operations of it are ready at once."""


def make_job(number: int = 1) -> Job:
    graph = parsed(SUMS)[0].work.graph
    return Job(number, SUMS, 0.0, graph.remaining, graph, JobState.RUNNING)


# The line


IDLE = Worker(WORKER, 0.0, 0.0)
"""A worker that gets operations which are taken."""


def suspect(suspects: Quarantine, job: Job, node: int, **history: int) -> Suspicion:
    """Give an operation a history."""
    suspicion = suspects._suspicion(job, node)
    for name, value in history.items():
        setattr(suspicion, name, value)
    return suspicion


def test_suspects_come_one_by_one_the_first_to_come_first() -> None:
    suspects, first, second = Quarantine(Random(1), 3), make_job(1), make_job(2)
    suspects.add(0.0, first, nodes(3, 1))
    suspects.add(0.0, second, nodes(2))
    assert (suspects.count, suspects.next_moment()) == (3, None)
    taken = [suspects.take(IDLE) for _ in range(4)]
    assert taken == [[(first, nodes(3))], [(first, nodes(1))], [(second, nodes(2))], []]


def test_suspects_that_lost_workers_come_after_a_pause_longer_each_time() -> None:
    whole_s = BACKOFF_FIRST_S
    for lost in (1, 2, 3):
        suspects, job = Quarantine(Random(1), 4), make_job()
        suspect(suspects, job, 1, workers_lost=lost)
        suspect(suspects, job, 2, malformed=1)
        suspects.add(5.0, job, nodes(1, 2, 3))
        taken = [suspects.take(IDLE) for _ in range(3)]
        assert taken == [[(job, nodes(2))], [(job, nodes(3))], []]
        moment = suspects.next_moment()
        assert moment is not None
        assert 5.0 + whole_s / 2 <= moment <= 5.0 + whole_s
        suspects.resume(moment - 0.001)
        assert suspects.take(IDLE) == []
        suspects.resume(moment)
        assert suspects.take(IDLE) == [(job, nodes(1))]
        assert suspects.next_moment() is None
        whole_s *= 2


@pytest.mark.parametrize(("lost", "unknown"), [(0, 3), (1, 2), (2, 1)])
def test_a_suspect_that_may_have_lost_as_many_workers_as_it_may_is_held_back(lost, unknown) -> None:
    suspects, job = Quarantine(Random(1), 3), make_job()
    suspect(suspects, job, 1, workers_lost=lost, open=unknown)
    suspects.add(0.0, job, nodes(1, 2))
    assert [suspects.take(IDLE), suspects.take(IDLE)] == [[(job, nodes(2))], []]
    assert suspects.next_moment() is None
    suspects.resume(100.0)
    assert suspects.take(IDLE) == []
    assert suspects.check() == {(1, 1)}
    vanished = Worker(WORKER, 0.0, 0.0, suspects={(1, 1): None, (1, 2): None, (9, 9): None})
    suspects.clear(200.0, vanished)
    assert vanished.suspects == {}
    suspects.resume(200.0 + BACKOFF_MAX_S)
    assert [suspects.take(IDLE), suspects.take(IDLE)] == [[(job, nodes(1))], []]


def test_the_same_seed_gives_the_same_pauses() -> None:
    def moment(seed: int) -> float | None:
        suspects, job = Quarantine(Random(seed), 3), make_job()
        suspect(suspects, job, 1, workers_lost=1)
        suspects.add(0.0, job, nodes(1))
        return suspects.next_moment()

    assert moment(1) == moment(1)
    assert moment(1) != moment(2)


def test_suspects_of_jobs_that_have_ended_are_passed_over() -> None:
    suspects, ended, other = Quarantine(Random(1), 3), make_job(1), make_job(2)
    suspect(suspects, ended, 2, workers_lost=1)
    suspects.add(0.0, ended, nodes(1, 2))
    suspects.add(0.0, other, nodes(1))
    assert suspects.check() == {(1, 1), (1, 2), (2, 1)}
    ended.graph = None
    assert suspects.check() == {(2, 1)}
    assert suspects.next_moment() is None
    assert suspects.take(IDLE) == [(other, nodes(1))]
    suspects.resume(10.0)
    assert suspects.take(IDLE) == []
    assert suspects.count == 0


def test_the_history_of_an_operation_goes_with_its_result_or_its_job() -> None:
    suspects, first, second = Quarantine(Random(1), 3), make_job(1), make_job(2)
    for job in (first, second):
        suspect(suspects, job, 1)
    suspect(suspects, first, 2)
    suspects.done([(first, nodes(1, 3)), (make_job(3), nodes(1))])
    assert suspects
    suspects.done([(first, nodes(2))])
    suspects.forget([second, make_job(4)])
    assert not suspects


# Handing them out


def test_what_a_broken_worker_had_is_handed_out_one_by_one() -> None:
    core = Core(at(1))
    (job,) = core.add(SUMS)
    lease = only(core.tick(0.0).batches)
    assert lease.count == 4
    core.announce(0.0, at(2))
    core.lose(0.0, lease, Failure.BROKEN)
    for _ in range(4):
        alone = only(core.tick(0.0).batches)
        assert (alone.count, alone.worker.announcement) == (1, at(2))
        core.answer(0.0, alone)
    core.run(0.0)
    assert job.answer == 1 * 2 + 3 * 4 + 5 * 6 + 7 * 8


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.NOT_SENT])
def test_what_a_worker_has_not_got_is_no_suspect(failure) -> None:
    core = Core(at(1))
    core.add(SUMS)
    lease = only(core.tick(0.0).batches)
    core.announce(0.0, at(2))
    core.lose(0.0, lease, failure)
    assert only(core.tick(0.0).batches).count == 4


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.NOT_SENT])
def test_a_suspect_that_a_worker_has_not_got_stays_one(failure) -> None:
    """Else it would be in a batch again, and others be suspected with it."""
    core = Core(at(1))
    core.add("1*2", "3*4")
    core.lose(0.0, only(core.tick(0.0).batches), Failure.BROKEN)
    core.announce(0.0, at(2, slots=1))
    first = only(core.tick(0.0).batches)
    core.lose(0.0, first, failure)
    core.add("5*6")
    core.announce(0.0, at(3, slots=1))
    for _ in range(3):
        lease = only(core.tick(0.0).batches)
        assert lease.count == 1
        core.answer(0.0, lease)
    assert core.jobs.waiting == 0


def test_a_suspect_goes_to_a_worker_that_has_nothing_else_and_normal_work_goes_on() -> None:
    core = Core(at(1, batch_max=1), at(2, batch_max=1))
    core.add(*(f"{n}*{n}" for n in range(2, 30)))
    first, second, third, fourth = core.tick(0.0).batches
    core.lose(0.0, first, Failure.BROKEN)
    suspect = operations(first)
    core.announce(0.0, at(3, batch_max=1))
    taken = {lease.worker.announcement.address: lease for lease in core.tick(0.0).batches}
    assert list(taken) == ["10.0.0.1:3"]
    assert operations(taken["10.0.0.1:3"]) == suspect, "it is alone there, though there are 2 slots"
    core.answer(0.0, second)
    core.answer(0.0, fourth)
    others = core.tick(0.0).batches
    assert [lease.worker.announcement.address for lease in others] == ["10.0.0.1:2", "10.0.0.1:2"]
    core.answer(0.0, third)
    assert core.tick(0.0).batches == [], "the first still pauses"
    core.answer(0.0, taken["10.0.0.1:3"])
    assert len(core.tick(0.0).batches) == 2, "it may have two again"


def test_a_worker_that_never_has_nothing_is_kept_free_for_a_suspect() -> None:
    core = Core(at(1, batch_max=1), at(2, batch_max=1))
    core.add(*(f"{n}*{n}" for n in range(2, 60)))
    leases = core.tick(0.0).batches
    lost = next(lease for lease in leases if lease.worker.announcement == at(1, batch_max=1))
    core.lose(0.0, lost, Failure.BROKEN)
    rest = [lease for lease in leases if lease.worker is not lost.worker]
    for _ in range(2):
        core.answer(0.0, rest.pop(0))
        rest += core.tick(0.0).batches
    assert operations(only(rest)) == operations(lost)


def test_who_is_kept_free_goes_on_when_no_suspect_is_left() -> None:
    """The worker that was kept free has a free slot, and there is work for it."""
    core = Core(at(1, batch_max=1), at(2, batch_max=1), at(3, batch_max=1))
    core.add(*(f"{n}*{n}" for n in range(2, 60)))
    leases = core.tick(0.0).batches
    by_worker = {
        port: [lease for lease in leases if lease.worker.announcement.address.endswith(f":{port}")]
        for port in (1, 2, 3)
    }
    core.lose(0.0, by_worker[1][0], Failure.BROKEN)
    core.answer(0.0, by_worker[2][0])
    assert core.tick(0.0).batches == [], "kept free"
    core.announce(0.0, at(4, batch_max=1))
    leases = core.tick(0.0).batches
    assert leases[0].worker.announcement.address == "10.0.0.1:4"
    assert operations(leases[0]) == operations(by_worker[1][0])
    core.answer(0.0, leases[0])
    workers = [
        lease.worker.announcement.address for lease in [*leases[1:], *core.tick(0.0).batches]
    ]
    assert "10.0.0.1:2" in workers


def test_nobody_is_kept_free_for_suspects_of_a_job_that_has_ended() -> None:
    core = Core(at(1, slots=1))
    (failed,) = core.add(SUMS)
    lost = only(core.tick(0.0).batches)
    core.add(*(f"{n}*{n}" for n in range(2, 30)))
    busy = core.announce(0.0, at(2, batch_max=1))
    first, _ = core.tick(0.0).batches
    core.lose(0.0, lost, Failure.BROKEN)
    core.answer(0.0, first)
    assert core.tick(0.0).batches == [], "it is kept free"
    core.jobs.end(0.0, failed, error="as another operation failed")
    assert only(core.tick(0.0).batches).worker is busy


def test_a_worker_that_takes_fewer_requests_than_before_gets_no_more_than_that() -> None:
    core = Core(at(1, slots=1, batch_max=1), at(2, slots=2, batch_max=1))
    core.add(*(f"{n}*{n}" for n in range(2, 30)))
    lost, *others = core.tick(0.0).batches
    core.lose(0.0, lost, Failure.BROKEN)
    core.answer(0.0, others[0])
    assert core.tick(0.0).batches == [], "it is kept free"
    core.announce(0.0, at(2, slots=1, batch_max=1))
    core.announce(0.0, at(3, slots=1, batch_max=1))
    assert only(core.tick(0.0).batches).worker.announcement.address == "10.0.0.1:3"


@pytest.mark.parametrize("change", ["it fails", "it drains"])
def test_who_was_kept_free_and_cannot_be_used_makes_way_for_another(change) -> None:
    core = Core(at(1, batch_max=1, slots=1), at(2, batch_max=1), at(3, batch_max=1))
    core.add(*(f"{n}*{n}" for n in range(2, 90)))
    lost, *others = core.tick(0.0).batches
    core.lose(0.0, lost, Failure.BROKEN)
    second, third = ([o for o in others if o.worker is worker] for worker in core.workers()[1:])
    core.answer(0.0, second.pop())
    assert core.tick(0.0).batches == [], "it is kept free"
    if change == "it fails":
        core.lose(0.0, second.pop(), Failure.NOT_SENT)
    else:
        core.announce(0.0, at(2, batch_max=1, draining=True))
    core.answer(0.0, third.pop())
    assert core.tick(0.0).batches == [], "now this one is kept free"
    core.answer(0.0, third.pop())
    assert operations(only(core.tick(0.0).batches)) == operations(lost)


def test_who_is_gone_keeps_no_suspect_from_others() -> None:
    """A worker that had a suspect when it vanished is not waited for."""
    core = Core(at(1, batch_max=1, slots=1))
    core.add("666*667", *(f"{n}*{n}" for n in range(2, 90)))
    core.lose(0.0, only(core.tick(0.0).batches), Failure.BROKEN)
    core.announce(0.0, at(2, batch_max=1))
    poison = core.tick(0.0).batches[0]
    core.announce(0.0, at(3, batch_max=1))
    leases = core.tick(0.0).batches
    core.lose(0.0, poison, Failure.BROKEN)
    for _ in range(5):
        core.answer(0.0, leases.pop(0))
        leases += core.tick(0.0).batches
        if operations(poison) in map(operations, leases):
            break
    else:
        raise AssertionError("the suspect waits while there is other work")


def test_one_worker_is_kept_free_for_one_suspect() -> None:
    core = Core(at(1, batch_max=1, slots=1), at(2, batch_max=1), at(3, batch_max=1))
    core.add("1*1", "2*2", "3*3")
    lost, second, third = core.tick(0.0).batches
    core.lose(0.0, lost, Failure.BROKEN)
    assert core.tick(0.0).batches == []
    core.add("4*4", "5*5")
    assert only(core.tick(0.0).batches).worker is third.worker
    core.answer(0.0, second)
    assert operations(only(core.tick(0.0).batches)) == operations(lost)


def test_many_suspects_take_several_ticks() -> None:
    core = Core(at(1, slots=1, batch_max=256))
    core.workers()[0].batch = 256
    core.add(*(f"{n}*{n}" for n in range(2, 122)))
    large = only(core.tick(0.0).batches)
    for port in range(100, 220):
        core.announce(0.0, at(port))
    core.lose(0.0, large, Failure.BROKEN)
    assert len(core.tick(0.0).batches) == LEASES_IN_TICK
    assert core.next_tick() == float("-inf")
    assert len(core.tick(0.0).batches) == 120 - LEASES_IN_TICK
    assert core.next_tick() != float("-inf")
