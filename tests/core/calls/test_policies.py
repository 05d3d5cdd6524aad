"""The policies of handlers: the last announcement that says more than a name."""

from __future__ import annotations

from dataclasses import replace

from core.checked import CALLER
from dte.core.calls.policies import Policies
from dte.core.graph.call import Call, CallTerms
from dte.core.graph.handlers import HandlerPolicy


def failed(times: int, retries: int | None = None) -> Call:
    call = Call("a", "f", [], terms=CallTerms(retries=retries))
    call.record.failures = times
    return call


def test_the_last_policy_holds_and_a_bare_name_changes_nothing() -> None:
    policies = Policies()
    policies.learn({"f": HandlerPolicy(timeout_s=5.0), "p": HandlerPolicy(pure=True)})
    policies.learn({"f": HandlerPolicy(), "g": HandlerPolicy()})
    assert policies.timeout_s(failed(0)) == 5.0
    assert policies.pure == {"p"}
    policies.learn({"f": HandlerPolicy(timeout_s=7.0), "p": HandlerPolicy(retries=1)})
    assert policies.timeout_s(failed(0)) == 7.0
    assert policies.pure == frozenset()


def test_a_call_s_own_terms_come_before_its_handler_s() -> None:
    policies = Policies()
    policies.learn({"f": HandlerPolicy(timeout_s=5.0, retries=1)})
    call = Call("a", "f", [], terms=CallTerms(timeout_s=2.0, retries=3))
    call.record.failures = 3
    assert (policies.timeout_s(call), policies.is_spent(call)) == (2.0, False)
    assert [policies.is_spent(failed(times)) for times in (1, 2)] == [False, True]


def test_a_call_of_an_unknown_handler_is_not_spent() -> None:
    policies = Policies()
    assert not policies.is_spent(failed(99))
    assert policies.is_spent(failed(1, retries=0))
    policies.learn({"f": HandlerPolicy()})
    assert policies.is_spent(failed(1))


def test_a_task_of_a_dialect_has_the_policy_of_the_built_in_handler() -> None:
    own, built_in = HandlerPolicy(timeout_s=1.0), HandlerPolicy(timeout_s=9.0)
    policies = Policies()
    policies.learn({"f": own}, {"f": built_in})
    assert policies.timeout_s(Call("a", "f", [])) == 1.0
    assert policies.timeout_s(Call("a", "f", [], origin="queue")) == 9.0
    announcement = replace(CALLER, handlers={"f": own}, replaced={"f": built_in})
    assert announcement.policy("f", "") == own
    assert announcement.policy("f", "queue") == built_in
