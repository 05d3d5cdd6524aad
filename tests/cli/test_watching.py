"""Messages while a command waits for a job."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dte.cli.watching import Explainer, explain_calls, how_far
from dte.client.job import Job
from dte.client.replies import NodeInfo, Progress, Reason, Why


def asked(**replies: Any) -> Any:
    """A client whose methods give the same whatever they are asked."""
    methods = {name: lambda job, reply=reply: reply for name, reply in replies.items()}
    return SimpleNamespace(master_url="http://x", **methods)


def test_what_is_first_in_the_way_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [
        Reason("b", "waiting", "operands", "it waits for a"),
        Reason("a", "paused", "delay", "it begins at noon"),
    ]
    explain_calls(asked(why=Why(1, "waiting", reasons)), Job(1, False))
    assert capsys.readouterr().err == "job 1 waits: a: it begins at noon\n"


def test_nothing_is_told_while_a_worker_is_at_it(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [Reason("b", "waiting", "operands", "a"), Reason("a", "running", "result", "x")]
    explain_calls(asked(why=Why(1, "running", reasons)), Job(1, False))
    explain_calls(asked(why=Why(1, "succeeded")), Job(1, False))
    assert capsys.readouterr().err == ""


def test_progress_counts_what_handlers_say() -> None:
    nodes = [
        NodeInfo("a", "x", "succeeded", progress=Progress(1.0)),
        NodeInfo("b", "x", "running"),
        NodeInfo("c", "x", "running", progress=Progress(0.4, "half way")),
        NodeInfo("d", "x", "running", progress=Progress(7.0)),
    ]
    assert how_far(asked(nodes=nodes), Job(1, False, operations=4)) == (1.4, "c 40% half way")
    assert how_far(asked(nodes=nodes[:2]), Job(1, False, operations=2)) == (0, "b")
    assert how_far(asked(), Job(1, False, operations=1_000)) == (0, "")


def test_a_reason_is_printed_again_only_when_it_is_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    explain = Explainer()
    for text, worker in [("busy for 2 s", "a"), ("busy for 12 s", "a"), ("busy for 1 s", "b")]:
        why = Why(1, "waiting", [Reason("call", "ready", "slot", text, [worker])])
        explain(asked(why=why), Job(1, False))
    expected = "job 1 waits: call: busy for 2 s\njob 1 waits: call: busy for 1 s\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("waits_for", ["jobs", "silence"])
def test_a_running_call_that_waits_for_more_than_its_result_is_explained(
    capsys: pytest.CaptureFixture[str], waits_for: str
) -> None:
    why = Why(1, "running", [Reason("call", "running", waits_for, "running, but")])
    explain_calls(asked(why=why), Job(1, False))
    assert capsys.readouterr().err == "job 1 waits: call: running, but\n"


def test_a_missing_worker_is_named_with_the_command_that_starts_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reasons = [
        Reason("", "waiting", "operands", "1 arithmetic operation is left"),
        Reason("foo@1", "ready", "worker", "no connected worker has the handler 'foo'"),
    ]
    Explainer("dte run --handlers MODULE")(asked(why=Why(1, "waiting", reasons)), Job(1, False))
    assert capsys.readouterr().err == (
        "job 1 waits: foo@1: no connected worker has the handler 'foo'\n"
        "to start one: dte run --handlers MODULE\n"
    )


def told(capsys: pytest.CaptureFixture[str], reason: Reason) -> str:
    Explainer("dte worker")(asked(why=Why(1, "waiting", [reason])), Job(1, False))
    return capsys.readouterr().err


def test_a_worker_that_cannot_be_called_is_told_of_in_whole_and_none_is_to_be_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = "1 arithmetic operation is left, 1 of them ready"
    trouble = "no worker does arithmetic; calls to worker w at http://x fail: refused; for long"
    reason = Reason("", "waiting", "worker", f"{left}; {trouble}", ["w"])
    assert told(capsys, reason) == f"{trouble}\n"
    text = "calls to worker w at http://x fail: refused"
    reason = Reason("call", "ready", "worker", text, ["w"])
    assert told(capsys, reason) == f"job 1 waits: call: {text}\n"


def test_a_worker_that_has_gone_does_not_hide_how_to_start_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = "1 arithmetic operation is left, 1 of them ready"
    gone = "no worker does arithmetic (1 gone, draining or pausing)"
    reason = Reason("", "waiting", "worker", f"{left}; {gone}", ["w"])
    assert told(capsys, reason) == f"{gone}; to start one: dte worker\n"
