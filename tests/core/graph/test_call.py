from itertools import product

import pytest

from dte.core.graph.call import TERMINAL, Call, CallRecord, CallState, Ref, filled

WAITING, PAUSED, READY, RUNNING, CANCELLING, ENDING = [*CallState][:6]
SUCCEEDED, FAILED, TIMED_OUT, CANCELLED, SKIPPED = [*CallState][6:]
TO_AN_END = [SUCCEEDED, FAILED, TIMED_OUT, CANCELLED]
WAYS = {
    WAITING: [PAUSED, READY, RUNNING, ENDING, *TO_AN_END, SKIPPED],
    PAUSED: [READY, RUNNING, ENDING, *TO_AN_END],
    READY: [RUNNING, PAUSED, ENDING, *TO_AN_END],
    RUNNING: [WAITING, READY, PAUSED, CANCELLING, ENDING, *TO_AN_END],
    CANCELLING: [ENDING, *TO_AN_END],
    ENDING: TO_AN_END,
    SUCCEEDED: [],
    FAILED: [],
    TIMED_OUT: [],
    CANCELLED: [],
    SKIPPED: [],
}


def make_call(
    state: CallState = WAITING, attempts: int = 0, pure: bool = False, recorded: bool = False
) -> Call:
    call = Call("a", "f", [], pure=pure, recorded=recorded)
    call.state, call.record.attempts = state, attempts
    return call


@pytest.mark.parametrize(("state", "following"), list(product(CallState, repeat=2)))
def test_a_state_follows_only_from_those_before_it(state, following) -> None:
    call = make_call(state)
    if following in WAYS[state]:
        call.enter(following)
        assert call.state is following
    else:
        with pytest.raises(ValueError, match=f"call a is {state.value} and cannot become"):
            call.enter(following)
        assert call.state is state, "an illegal change changes nothing"


@pytest.mark.parametrize("state", CallState)
def test_a_call_has_ended_in_the_states_that_never_change(state) -> None:
    assert make_call(state).is_terminal == (state in TERMINAL) == (not WAYS[state])


def test_a_record_has_the_call_s_name_and_how_it_ended_also_before_that_is_recorded() -> None:
    call = make_call(RUNNING, attempts=2)
    call.conclude(3.0, SUCCEEDED, b"7")
    call.enter(ENDING)
    assert call.record == CallRecord("a", SUCCEEDED, 2, ended_at=3.0, value=b"7")
    call = make_call()
    call.end(3.0, FAILED, "no disk")
    assert (call.state, call.record.state, call.record.error) == (FAILED, FAILED, "no disk")


def test_a_copy_of_a_record_stays_as_it_is() -> None:
    record = CallRecord("a", None, 1, 2, 3, 4, 5.0, "w", 6.0, 7.0, 8.0, b"9", "no")
    copy = record.copy()
    assert copy == record
    record.lease = 0
    assert copy.lease == 4


@pytest.mark.parametrize("state", CallState)
def test_an_end_is_not_shown_before_it_is_recorded(state) -> None:
    shown = make_call(state, attempts=1).shown_state
    assert shown is (RUNNING if state in (ENDING, *TERMINAL) else state)
    if state in TERMINAL:
        assert make_call(state, attempts=0).shown_state is WAITING
        assert make_call(state, attempts=1, recorded=True).shown_state is state


@pytest.mark.parametrize("state", TO_AN_END)
def test_the_end_of_a_pure_call_is_shown_at_once(state) -> None:
    assert make_call(state, pure=True).shown_state is state


def test_arguments_are_filled_wherever_a_reference_stands() -> None:
    args = [Ref("a"), {"x": [Ref("b"), 1], "ref": "a"}, "a", None, [Ref("a")]]
    assert filled(args, {"a": 1, "b": [2]}) == [1, {"x": [[2], 1], "ref": "a"}, "a", None, [1]]
    assert filled({"n": Ref("a")}, {"a": 1}) == {"n": 1}
    assert args[0] == Ref("a"), "what is filled is a copy"


def test_only_an_end_is_replaced_and_only_by_an_end() -> None:
    call = Call("a", "f", [])
    with pytest.raises(ValueError, match="call a is waiting and cannot end as failed"):
        call.replace_end(CallState.FAILED)
    call.state = CallState.SUCCEEDED
    with pytest.raises(ValueError, match="call a is succeeded and cannot end as running"):
        call.replace_end(CallState.RUNNING)
    call.replace_end(CallState.FAILED)
    assert call.state is CallState.FAILED
