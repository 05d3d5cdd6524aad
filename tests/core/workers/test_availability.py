from collections import deque
from dataclasses import replace
from random import Random

import pytest

from dte.core.backoff import BACKOFF_FIRST_S, BACKOFF_MAX_S
from dte.core.errors import Busy
from dte.core.limits import SchedulerLimits
from dte.core.workers import availability as module
from dte.core.workers.availability import (
    BATCH_FIRST,
    BATCH_MORE_S,
    BATCH_TARGET_S,
    FAILURES_MAX,
    FORGET_S,
    LEFT_S,
    LIVENESS_S,
    PROBE_GONE_S,
    AvailabilityQueue,
)
from dte.core.workers.worker import Announcement, Claim, Delivery, Worker

HEARTBEAT_S, DEAD_AFTER_S = 5.0, 15.0
SAID = Announcement("w", "10.0.0.1:6000", slots=2, batch_max=1024, incarnation="a")
SEED = Announcement("worker-1700000000", "10.0.0.9:6000")


def make_queue(*workers: Announcement, workers_max: int = 10) -> AvailabilityQueue:
    limits = SchedulerLimits(
        workers_max=workers_max, heartbeat_s=HEARTBEAT_S, dead_after_s=DEAD_AFTER_S
    )
    queue = AvailabilityQueue(limits, Random(1))
    for announcement in workers:
        queue.announce(0.0, announcement)
    queue.check()
    return queue


def at(port: int) -> Announcement:
    return replace(SAID, address=f"10.0.0.1:{port}")


def gone(queue: AvailabilityQueue, now: float) -> list[Worker]:
    """Those that a look at `now` finds to be gone."""
    found, _ = queue.check_liveness(now)
    queue.check()
    return found


def asked(queue: AvailabilityQueue, now: float) -> list[Worker]:
    """Those that a look at `now` finds to be asked."""
    _, silent = queue.check_liveness(now)
    queue.check()
    return silent


def fail(queue: AvailabilityQueue, worker: Worker, times: int, now: float = 0.0) -> float:
    """Fail so many times in a row, each after the pause that follows from the one before."""
    for _ in range(times):
        queue.resume(now)
        queue.failed(now, worker, "refused")
        now = worker.resumes_at or now
    return now


def test_workers_are_handed_out_in_line() -> None:
    queue = make_queue(at(1), at(2))
    first, second = queue.batches.next(), queue.batches.next()
    assert first is not None
    assert second is not None
    assert (first.announcement.address, second.announcement.address) == ("10.0.0.1:1", "10.0.0.1:2")
    assert queue.batches.next() is None
    queue.offer(first)
    queue.offer(second)
    queue.check()


def test_a_worker_without_a_free_slot_is_not_handed_out() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    worker.batch_leases |= {1, 2}
    assert queue.batches.next() is None
    queue.offer(worker)
    assert queue.batches.next() is None
    worker.batch_leases.clear()
    queue.offer(worker)
    assert queue.batches.next() is worker


def test_the_same_worker_announced_again_is_the_same_worker() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    again, reborn = queue.announce(5.0, SAID)
    assert again is worker
    assert not reborn
    assert (worker.joined_at, worker.last_seen_at) == (0.0, 5.0)
    queue.check()


@pytest.mark.parametrize("change", [{"incarnation": "b"}, {"name": "other"}])
def test_another_start_at_an_address_is_noticed(change) -> None:
    queue = make_queue(SAID)
    worker, reborn = queue.announce(5.0, replace(SAID, **change))
    assert reborn
    assert worker.joined_at == 5.0


def test_replicas_may_share_a_name() -> None:
    assert len(list(make_queue(at(1), at(2)))) == 2


def test_a_failed_worker_pauses_longer_each_time_and_comes_back() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    pauses = []
    now = 0.0
    for _ in range(FAILURES_MAX - 1):
        queue.failed(now, worker, "refused")
        assert worker.state == "pausing"
        assert queue.batches.next() is None
        resumes_at = worker.resumes_at
        assert resumes_at is not None
        assert queue.next_moment() in (resumes_at, float("-inf"))
        pauses.append(resumes_at - now)
        queue.resume(resumes_at - 0.001)
        assert worker.state == "pausing"
        queue.resume(resumes_at)
        queue.check()
        assert worker.state == "free"
        now = resumes_at
    for place, pause in enumerate(pauses):
        whole_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**place)
        assert whole_s / 2 <= pause <= whole_s
    assert now > 15, "a worker that registers before it listens has time to start"


def test_failures_of_several_slots_at_once_are_one_failure() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    queue.failed(0.0, worker, "reset")
    queue.failed(0.0, worker, "reset")
    assert worker.failures == 1


def test_a_worker_that_fails_too_often_is_taken_out_until_it_announces_itself() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    now = fail(queue, worker, FAILURES_MAX)
    assert worker.state == "gone"
    queue.resume(now + 1000)
    assert queue.batches.next() is None
    queue.announce(now, SAID)
    assert (worker.state, worker.failures, worker.joined_at) == ("free", 0, now)
    assert queue.batches.next() is worker


def test_a_heartbeat_does_not_shorten_a_pause() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    queue.failed(0.0, worker, "garbled")
    queue.announce(0.01, SAID)
    assert worker.state == "pausing"


def test_an_announcement_without_incarnation_may_be_a_new_start_and_ends_a_pause() -> None:
    queue = make_queue(SEED)
    (worker,) = queue
    queue.failed(0.0, worker, "refused")
    queue.announce(0.01, SEED)
    assert worker.state == "free"
    queue.resume(1.0)
    queue.check()


def test_a_worker_that_failed_is_tried_with_a_single_operation() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    now = fail(queue, worker, 1)
    queue.resume(now)
    assert (worker.batch, worker.free_slots) == (1, 1)
    queue.succeeded(now, worker, 1, BATCH_TARGET_S / 2)
    assert (worker.batch, worker.free_slots) == (2, 2)


def test_a_worker_that_says_nothing_for_long_is_gone() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    assert gone(queue, DEAD_AFTER_S) == []
    assert queue.next_moment() == DEAD_AFTER_S + LIVENESS_S
    assert gone(queue, DEAD_AFTER_S + LIVENESS_S / 2) == [], "it looks once a second"
    assert gone(queue, DEAD_AFTER_S + LIVENESS_S) == [worker]
    assert (worker.state, worker.last_failure) == ("gone", "silent for 16 s")
    assert gone(queue, DEAD_AFTER_S + 2 * LIVENESS_S) == []
    assert queue.batches.next() is None
    queue.announce(100.0, SAID)
    assert queue.batches.next() is worker


def test_answers_and_announcements_are_signs_of_life() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    queue.succeeded(DEAD_AFTER_S, worker, 1, 0.001)
    assert gone(queue, 2 * DEAD_AFTER_S) == []
    queue.announce(2 * DEAD_AFTER_S, SAID)
    assert gone(queue, 3 * DEAD_AFTER_S) == []


def test_a_worker_that_announces_itself_once_is_not_given_up_before_it_was_asked() -> None:
    queue = make_queue(SEED)
    assert gone(queue, 1e6) == []


def test_a_worker_that_announces_itself_once_is_asked_when_it_is_silent() -> None:
    queue = make_queue(SEED)
    (worker,) = queue
    assert asked(queue, HEARTBEAT_S) == []
    assert asked(queue, HEARTBEAT_S + LIVENESS_S / 2) == [], "it looks once a second"
    assert asked(queue, HEARTBEAT_S + LIVENESS_S) == [worker]
    assert worker.probed_at == HEARTBEAT_S + LIVENESS_S
    queue.succeeded(10.0, worker, 0, 0.001)
    assert asked(queue, 15.0) == []
    assert asked(queue, 16.0) == [worker]


def test_who_announces_itself_has_something_to_do_pauses_or_drains_is_not_asked() -> None:
    plain = [replace(SEED, address=f"10.0.1.{n}:6000") for n in range(4)]
    queue = make_queue(SAID, *plain[:2], replace(plain[2], draining=True), plain[3])
    _, busy, pausing, _, idle = queue
    busy.batch_leases.add(1)
    now = fail(queue, pausing, 5) - 0.001
    queue.announce(now, SAID)
    assert asked(queue, now + DEAD_AFTER_S / 2) == [idle]


def test_a_worker_that_was_asked_and_does_not_answer_is_gone_in_time() -> None:
    queue = make_queue(SEED)
    (worker,) = queue
    queue.failed(HEARTBEAT_S, worker, "refused")
    assert gone(queue, DEAD_AFTER_S) == []
    assert gone(queue, DEAD_AFTER_S + LIVENESS_S) == [worker]
    assert worker.state == "gone"


def test_a_worker_that_is_gone_and_does_not_announce_itself_is_asked_now_and_then() -> None:
    queue = make_queue(SEED)
    (worker,) = queue
    now = fail(queue, worker, FAILURES_MAX)
    assert worker.state == "gone"
    asked_at = [second for second in range(120) if asked(queue, float(second))]
    assert asked_at == [31, 62, 93]
    queue.succeeded(120.0, worker, 0, 0.001)
    queue.offer(worker)
    assert (worker.state, worker.joined_at, worker.failures) == ("free", 120.0, 0)
    assert queue.batches.next() is worker
    assert now < PROBE_GONE_S


def test_a_worker_that_is_gone_and_announces_itself_is_not_asked() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    fail(queue, worker, FAILURES_MAX)
    assert not any(asked(queue, float(second)) for second in range(500))


def test_who_waits_for_a_suspect_has_no_free_slot_until_it_has_nothing_else() -> None:
    queue = make_queue(replace(SAID, slots=4))
    (worker,) = queue
    worker.batch_leases |= {1}
    worker.reserved = True
    assert worker.free_slots == 0
    worker.batch_leases.clear()
    assert worker.free_slots == 1


def test_who_has_a_suspect_has_no_other_free_slot() -> None:
    queue = make_queue(replace(SAID, slots=4))
    (worker,) = queue
    worker.batch_leases |= {1}
    worker.exclusive = True
    assert worker.free_slots == 0


@pytest.mark.parametrize("failures", [1, FAILURES_MAX])
def test_what_became_of_a_worker_that_is_forgotten_is_said(failures) -> None:
    """Else operations that it may have ended by would be held back for ever."""
    queue = make_queue(at(1), workers_max=1)
    (worker,) = queue
    worker.suspects[1, 0] = None
    fail(queue, worker, failures)
    queue.announce(1.0, at(2))
    assert list(queue) != [worker]
    assert gone(queue, 1.0) == [worker]
    assert gone(queue, 10.0) == []


def test_what_became_of_a_worker_that_was_taken_out_is_said_when_it_stays_silent() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    fail(queue, worker, FAILURES_MAX)
    worker.suspects[1, 0] = None
    assert gone(queue, DEAD_AFTER_S) == []
    assert gone(queue, DEAD_AFTER_S + LIVENESS_S) == [worker]
    worker.suspects.clear()
    assert gone(queue, DEAD_AFTER_S + 2 * LIVENESS_S) == []


def test_a_worker_that_is_gone_for_long_is_forgotten() -> None:
    queue = make_queue(SAID)
    gone(queue, DEAD_AFTER_S + LIVENESS_S)
    assert len(list(queue)) == 1
    gone(queue, FORGET_S + 1)
    assert list(queue) == []
    assert queue.next_moment() is None
    queue.check()


def test_success_ends_a_row_of_failures() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    fail(queue, worker, FAILURES_MAX - 1)
    queue.succeeded(0.0, worker, 1, 0.001)
    assert (worker.failures, worker.last_failure) == (0, None)


def test_a_worker_that_left_properly_is_forgotten_without_a_failure() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    queue.announce(1.0, replace(SAID, draining=True))
    assert queue.check_liveness(1.0 + LEFT_S) == ([], [])
    assert [*queue] == [worker]
    gone, _ = queue.check_liveness(2.1 + LEFT_S)
    assert gone == [*queue] == []
    assert worker.last_failure is None


def test_a_worker_that_left_properly_is_no_lost_one_however_soon_others_are() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    queue.announce(1.0, replace(SAID, draining=True, dead_after_s=LEFT_S / 2))
    assert queue.check_liveness(1.0 + LEFT_S) == ([], [])
    assert worker.last_failure is None
    assert [*queue] == []


def test_a_worker_that_died_while_it_left_is_gone_with_what_it_had() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    queue.announce(1.0, replace(SAID, draining=True))
    worker.call_leases.add(7)
    assert queue.check_liveness(2.1 + LEFT_S) == ([], [])
    gone, _ = queue.check_liveness(1000.0)
    assert gone == [worker]


def test_a_draining_worker_gets_nothing_more() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    queue.announce(1.0, replace(SAID, draining=True))
    assert worker.state == "draining"
    assert queue.batches.next() is None


def test_a_worker_with_leases_is_busy() -> None:
    (worker,) = make_queue(SAID)
    worker.batch_leases.add(1)
    assert worker.state == "busy"


def test_batches_grow_while_they_are_quick() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    assert worker.batch == BATCH_FIRST
    queue.succeeded(0.0, worker, BATCH_FIRST, BATCH_TARGET_S / 2)
    assert worker.batch == 2 * BATCH_FIRST
    for _ in range(20):
        queue.succeeded(0.0, worker, worker.batch, BATCH_TARGET_S / 2)
    assert worker.batch == SAID.batch_max


def test_batches_grow_if_full_ones_would_be_quick() -> None:
    """Where what is ready is shared among many workers, few of them ever get a full one."""
    queue = make_queue(SAID)
    (worker,) = queue
    queue.succeeded(0.0, worker, BATCH_FIRST // 2, BATCH_TARGET_S / 3)
    assert worker.batch == 2 * BATCH_FIRST
    queue.succeeded(0.0, worker, 1, BATCH_TARGET_S / 3)
    assert worker.batch == 2 * BATCH_FIRST


def others(count: int, **different: object) -> list[Announcement]:
    """Announcements of workers at other addresses."""
    return [
        replace(SAID, name=f"w{n}", address=f"10.0.2.{n}:6000", **different)  # type: ignore[arg-type]
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("beside", "longest_s"),
    [
        (others(9), BATCH_TARGET_S + 10 * BATCH_MORE_S),
        (others(9, arithmetic=False), BATCH_TARGET_S + BATCH_MORE_S),
        (others(9, draining=True), BATCH_TARGET_S + BATCH_MORE_S),
    ],
)
def test_batches_may_take_longer_where_more_workers_do_arithmetic(
    beside: list[Announcement], longest_s: float
) -> None:
    queue = make_queue(SAID, *beside)
    queue.check_liveness(0.0)
    worker = next(iter(queue))
    queue.succeeded(0.0, worker, BATCH_FIRST, longest_s * 1.01)
    assert worker.batch == BATCH_FIRST
    queue.succeeded(0.0, worker, BATCH_FIRST, longest_s * 0.99)
    assert worker.batch == 2 * BATCH_FIRST


def test_batches_take_no_longer_than_a_bound_however_many_workers_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH_LONGEST_S", 2 * BATCH_TARGET_S)
    queue = make_queue(SAID, *others(9))
    queue.check_liveness(0.0)
    worker = next(iter(queue))
    queue.succeeded(0.0, worker, BATCH_FIRST, 2.01 * BATCH_TARGET_S)
    assert worker.batch == BATCH_FIRST


def test_batches_shrink_when_they_take_too_long() -> None:
    queue = make_queue(SAID)
    (worker,) = queue
    for _ in range(20):
        queue.succeeded(0.0, worker, worker.batch, 3 * BATCH_TARGET_S)
    assert worker.batch == 1


LEASE_COSTS_S, OPERATION_COSTS_S = 50e-6, 3e-6
"""How long a master is at work that is as slow as ours."""


def cost_s(workers: int) -> float:
    """What an operation costs a master whose workers take no time: all that they wait for is it."""
    queue = make_queue(*map(at, range(1, workers + 1)), workers_max=workers)
    waiting: deque[tuple[Worker, int, float]] = deque()
    now, turned_at, done = 0.0, 0.0, 0
    for turn in range(200):
        if turn == 100:
            turned_at, done = now, 0
        queue.check_liveness(now)
        while worker := queue.batches.next():
            worker.batch_leases.add(len(waiting))
            waiting.append((worker, worker.batch, now))
            queue.offer(worker)
        for _ in range(len(waiting)):
            worker, operations, leased_at = waiting.popleft()
            now += LEASE_COSTS_S + OPERATION_COSTS_S * operations
            done += operations
            worker.batch_leases.pop()
            queue.succeeded(now, worker, operations, now - leased_at)
            queue.offer(worker)
    queue.check()
    return (now - turned_at) / done


def test_what_an_operation_costs_does_not_grow_with_the_workers() -> None:
    """Even if they do not say how long they took, so that waiting for the master counts."""
    costs_s = [cost_s(workers) for workers in (1, 10, 100)]
    assert max(costs_s) < 1.1 * min(costs_s)


def test_a_worker_that_takes_single_operations_gets_single_operations() -> None:
    queue = make_queue(Announcement("seed", "10.0.0.2:6000"))
    (worker,) = queue
    queue.succeeded(0.0, worker, 1, 0.0001)
    assert worker.batch == 1


def test_more_workers_than_the_bound_are_refused() -> None:
    queue = make_queue(at(1), at(2), workers_max=2)
    with pytest.raises(Busy, match="workers_max"):
        queue.announce(0.0, at(3))
    queue.announce(1.0, at(2))


def test_a_pausing_worker_that_made_room_does_not_come_back_from_its_pause() -> None:
    queue = make_queue(at(1), workers_max=1)
    (worker,) = queue
    queue.failed(0.0, worker, "refused")
    queue.announce(0.0, at(2))
    queue.resume(1000.0)
    queue.check()
    following = queue.batches.next()
    assert following is not None
    assert following.announcement == at(2)
    assert queue.batches.next() is None, "the other is passed over"
    assert worker.free_slots == 0


def test_plain_workers_that_never_did_anything_make_room_in_time() -> None:
    plain = [Announcement("seed", f"10.0.0.{n}:6000") for n in range(3)]
    queue = make_queue(plain[0], plain[1], workers_max=2)
    with pytest.raises(Busy, match="workers_max"):
        queue.announce(FORGET_S, plain[2])
    queue.announce(FORGET_S + 1, plain[2])
    assert [worker.announcement for worker in queue] == plain[1:]
    assert queue.batches.next() is not None
    queue.offer(next(iter(queue)))


def test_workers_that_are_gone_make_room() -> None:
    queue = make_queue(at(1), at(2), workers_max=2)
    worker, _ = queue.announce(0.0, replace(at(1), draining=True))
    queue.announce(0.0, at(3))
    assert worker not in list(queue)
    queue.check()


def test_a_worker_that_is_forgotten_is_not_heard() -> None:
    queue = AvailabilityQueue(SchedulerLimits(workers_max=1), Random(0))
    old, _ = queue.announce(0.0, at(1))
    old.gone = True
    queue.announce(1.0, at(2))
    queue.seen(2.0, old)
    assert (old.gone, old.last_seen_at) == (True, 0.0)
    queue.check()


def test_at_the_bound_a_worker_that_has_done_calls_is_not_forgotten() -> None:
    queue = make_queue(at(1), at(2), workers_max=2)
    first, second = queue
    first.calls_done = 1
    queue.announce(FORGET_S + 1, at(3))
    assert first in list(queue)
    assert second not in list(queue)


@pytest.mark.parametrize("why", ["exclusive", "reserved"])
def test_a_worker_that_claims_gets_nothing_beside_a_suspect(why) -> None:
    queue = make_queue(replace(SAID, address="", delivery=Delivery.PULL))
    (worker,) = queue
    worker.claim = Claim(worker, 1)
    assert worker.free_slots == 1
    setattr(worker, why, True)
    assert worker.free_slots == 1, "it has nothing else"
    worker.batch_leases.add(1)
    assert worker.free_slots == 0
