"""The policies of calls: each attempt has that of the worker that gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from core.checked import CALLER, LOOKER, PULLER, Core
from core.plans import Plan, call
from dte.core.calls.attempts import Outcome
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import Job
from dte.core.workers.worker import Announcement, Delivery

PATIENT, HASTY = HandlerPolicy(timeout_s=30.0, retries=3), HandlerPolicy(timeout_s=0.2, retries=0)


def caller(name: str, **handlers: HandlerPolicy) -> Announcement:
    """A worker that is called, with a slot for one call."""
    address = f"10.0.2.1:{6000 + len(name)}"
    return replace(CALLER, name=name, address=address, handlers=handlers, handler_slots=1)


def of_dialect(name: str, handlers: Mapping[str, HandlerPolicy]) -> Announcement:
    return replace(LOOKER, name=name, incarnation="1", handlers=handlers, dialect="rest")


def only_call(job: Job) -> Call:
    assert job.calls is not None
    (only,) = job.calls.calls.values()
    return only


def test_a_call_has_the_timeout_of_the_worker_that_gets_it() -> None:
    core = Core(caller("old", f=PATIENT), caller("newer", f=HASTY))
    core.graph(a=call("f"), b=call("f"), c=call("g"))
    timeouts = {lease.worker_name: lease.timeout_s for lease in core.hand_out().values()}
    assert timeouts == {"old": 30.0, "newer": 0.2}


@pytest.mark.parametrize("first", [PATIENT, HASTY])
def test_what_others_announce_changes_nothing_for_calls_of_a_worker(first: HandlerPolicy) -> None:
    core = Core(caller("mine", f=first))
    core.announce(0.0, replace(caller("stranger", f=HandlerPolicy(0.1, 9, True)), draining=True))
    core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    assert (lease.timeout_s, lease.call.pure) == (first.timeout_s, False)
    core.fail_at(0.0, lease)
    core.settle(0.0)
    assert core.jobs.job(1).is_terminal == (first is HASTY)


def test_a_worker_that_pulls_runs_calls_under_what_it_said() -> None:
    core = Core(caller("other", g=HASTY))
    core.announce(0.0, caller("other", f=HASTY))
    core.announce(0.0, replace(caller("other", f=HASTY), draining=True))
    core.graph(a=call("f"))
    claim = core.ask(0.0, replace(PULLER, handlers={"f": PATIENT}))
    core.settle(0.0)
    (lease,) = core.got(claim)
    assert lease.timeout_s == 30.0


def test_a_worker_of_a_dialect_has_the_policies_that_it_gives_and_not_those_of_others() -> None:
    core = Core(replace(caller("other", f=HASTY), draining=True))
    core.announce(0.0, of_dialect("looks", {"f": HandlerPolicy()}))
    core.graph(a=call("f"))
    core.settle(0.0)
    (lease,) = core.calls.leases
    assert (lease.worker_name, lease.timeout_s) == ("looks", None)


def test_a_call_s_own_terms_come_before_the_worker_s() -> None:
    core = Core(caller("w", f=HASTY))
    job = core.graph(a=call("f", timeout_s=2.0, retries=1))
    lease = core.hand_out()["a"]
    assert lease.timeout_s == 2.0
    core.fail_at(0.0, lease)
    core.settle(0.0)
    assert not job.is_terminal


def test_a_failure_is_judged_by_the_worker_that_reports_it_and_all_failures_count() -> None:
    core = Core(caller("patient", f=PATIENT))
    job = core.graph(a=call("f"))
    now = 0.0
    for _ in range(2):
        while not (handed := core.hand_out(now)):
            now += 1.0
        core.fail_at(now, handed["a"], "no")
    assert not job.is_terminal
    core.announce(now, replace(caller("patient", f=PATIENT), draining=True))
    core.announce(now, caller("hasty", f=HASTY))
    while not (handed := core.hand_out(now)):
        now += 1.0
    assert handed["a"].worker_name == "hasty", "it was allowed another attempt, whoever makes it"
    core.fail_at(now, handed["a"], "again")
    core.settle(now)
    assert (job.error, only_call(job).record.failures) == ("again", 3)


def test_what_a_worker_announced_goes_with_its_incarnation() -> None:
    core = Core(caller("w", f=HASTY))
    core.announce(1.0, replace(caller("w", f=PATIENT), incarnation="b"))
    core.graph(1.0, a=call("f"))
    assert core.hand_out(1.0)["a"].timeout_s == 30.0


def test_a_late_report_is_judged_by_what_the_worker_had_said() -> None:
    """Its lease has run out, and the call waits for another worker."""
    core = Core(caller("w", f=HASTY))
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.calls.lose_worker(1.0, core.workers()[0], "silent")
    core.announce(1.0, replace(caller("w", f=PATIENT), draining=True))
    core.calls.report_unleased(1.0, lease.call, "w", Outcome(CallState.FAILED, None, "no"))
    core.settle(1.0)
    assert (job.is_terminal, job.error) == (True, "no")


def test_after_a_restart_the_last_worker_s_policy_counts_or_else_that_of_the_next() -> None:
    for again, name in ((caller("w", f=HASTY), "w"), (caller("other", f=HASTY), "other")):
        core = Core(caller("w", f=HASTY))
        core.graph(a=call("f"))
        core.hand_out()
        core = core.restarted(now=1.0)
        (lease,) = core.calls.leases
        core.end_call(1.0, lease, Outcome(CallState.FAILED, None, "no"))
        assert not core.jobs.job(1).is_terminal
        core.announce(2.0, again)
        now = 2.0
        while not core.jobs.job(1).is_terminal:
            assert not core.hand_out(now), f"{name} got what had failed often enough"
            now += 1.0
            assert now < 100
        assert core.jobs.job(1).error == "no"


def test_a_task_of_a_dialect_has_the_policy_of_the_built_in_handler() -> None:
    own, built_in = HandlerPolicy(timeout_s=1.0), HandlerPolicy(timeout_s=9.0)
    announcement = replace(CALLER, handlers={"f": own}, replaced={"f": built_in})
    assert announcement.policy("f", "") == own
    assert announcement.policy("f", "queue") == built_in


# Pure


PURE, EFFECT = HandlerPolicy(pure=True), HandlerPolicy()


def pure_of(*workers: Announcement) -> frozenset[str]:
    return Core(*workers).handlers.pure


def test_a_handler_is_pure_while_all_who_have_it_say_so() -> None:
    first, second = caller("a", f=PURE), caller("bb", f=PURE, g=PURE)
    core = Core(first, second)
    assert core.handlers.pure == {"f", "g"}
    core.announce(1.0, caller("ccc", f=EFFECT))
    assert core.handlers.pure == {"g"}
    core.leave(2.0, core.workers()[2])
    assert core.handlers.pure == {"f", "g"}
    core.announce(3.0, replace(second, handlers={"g": PURE}, incarnation="b"))
    core.announce(3.0, replace(first, draining=True))
    assert core.handlers.pure == {"g"}


def test_one_who_takes_no_calls_does_not_count() -> None:
    core = Core(caller("a", f=EFFECT), replace(caller("bb", f=PURE), draining=True))
    assert core.handlers.pure == frozenset()
    assert pure_of(caller("a", f=PURE), replace(caller("bb", f=EFFECT), draining=True)) == {"f"}


def test_one_who_is_gone_does_not_count_until_it_is_back() -> None:
    core = Core(caller("a", f=PURE), caller("bb", f=EFFECT))
    first, second = core.workers()
    for second_ago in range(20):
        core.calls.seen(float(second_ago), first)
        core.tick(float(second_ago))
    assert second.gone
    assert core.handlers.pure == {"f"}
    core.calls.seen(20.0, second)
    assert core.handlers.pure == frozenset()


def test_workers_of_dialects_cannot_say_and_do_not_count() -> None:
    looks = of_dialect("looks", {"f": EFFECT})
    assert pure_of(caller("a", f=PURE), looks) == {"f"}
    assert pure_of(looks) == frozenset()


def test_of_a_replaced_handler_only_those_count_who_replaced_it() -> None:
    own = replace(caller("own", f=EFFECT), replaced={"f": PURE})
    built_in = caller("builtin", f=PURE)
    assert pure_of(own, built_in) == frozenset()
    assert pure_of(built_in, own) == frozenset()
    own = replace(own, handlers={"f": PURE})
    assert pure_of(own, replace(built_in, handlers={"f": EFFECT})) == {"f"}
    core = Core(own, built_in)
    core.leave(1.0, core.workers()[0])
    assert core.handlers.pure == frozenset(), "nobody who has it is there"


def test_a_call_that_was_built_as_pure_is_recorded_where_it_is_not() -> None:
    """Equal calls have become one, and stay so; its attempts are recorded from then on."""
    core = Core(caller("a", f=PURE))
    job = core.graph(a=call("f", 1), b=call("f", 1))
    assert job.calls is not None
    assert list(job.calls.calls) == ["a"]
    core.leave(0.0, core.workers()[0])
    core.announce(0.0, caller("bb", f=EFFECT))
    lease = core.hand_out()["a"]
    assert not lease.call.pure
    assert core.restarted().calls.leases.get(lease.number) is not None


def test_a_call_that_nobody_was_there_for_is_what_its_worker_says() -> None:
    core = Core()
    core.graph(a=call("f"))
    core.announce(0.0, caller("a", f=PURE))
    assert core.hand_out()["a"].call.pure


def test_a_task_of_a_dialect_is_as_pure_as_the_built_in_handler_that_another_has_replaced() -> None:
    """The worker gives the task to its built-in handler, whatever its own one of the name is."""
    for own, built_in in ((PURE, EFFECT), (EFFECT, PURE)):
        core = Core(replace(CALLER, handlers={"f": own}, replaced={"f": built_in}))
        core.plan(Plan({"a": call("f")}))
        core.plan(Plan({"b": call("f")}, origin="queue"))
        pure = {name: lease.call.pure for name, lease in core.hand_out().items()}
        assert pure == {"a": own.pure, "b": built_in.pure}


def test_one_who_says_pure_makes_no_effects_of_others_one() -> None:
    core = Core(caller("mine", transfer=EFFECT))
    core.announce(0.0, replace(caller("stranger", transfer=PURE), delivery=Delivery.PUSH))
    job = core.graph(a=call("transfer", 1), b=call("transfer", 1))
    assert job.calls is not None
    assert len(job.calls.calls) == 2
    assert not any(lease.call.pure for lease in core.hand_out().values())
