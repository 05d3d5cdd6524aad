"""Output of commands: tables, progress, and errors with a next step and an exit code."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest

import dte
from dte.cli import output
from dte.client.job import Job


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ScriptedClient:
    """A client whose job goes on to the next of some states each time it is asked about.

    Args:
        states: how the job stands.
        patient: whether waiting for the job sees the last state come.

    Attributes:
        waited_s: for how long it was asked to wait, each time.
        away_s: how long it takes to ask which workers there are: the master restarts meanwhile.
        now: the time, which only waiting and asking take.
    """

    def __init__(self, *states: Job, patient: bool = True, away_s: float = 0.0) -> None:
        self._states = list(states)
        self._patient = patient
        self.waited_s: list[float | None] = []
        self.away_s = away_s
        self.now = 0.0

    def wait(self, job: Job, timeout_s: float | None = None) -> Job:
        self.waited_s.append(timeout_s)
        state = self._states[0 if timeout_s is not None else -1]
        if state.finished and self._patient:
            return state
        self.now += timeout_s or 0.0
        raise dte.WaitTimeout([job.id], timeout_s or 0.0)

    def workers(self) -> list[SimpleNamespace]:
        self.now += self.away_s
        return [SimpleNamespace(state="free")]

    def job(self, job: Job) -> Job:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


def running(done: int, of: int = 100) -> Job:
    return Job(7, False, state="running", operations=of, operations_done=done)


ENDED = Job(7, True, 5050, operations=100, operations_done=100)


def watch(
    client: ScriptedClient,
    timeout_s: float | None,
    stderr: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> Job:
    monkeypatch.setattr(output, "sys", SimpleNamespace(stderr=stderr))
    monkeypatch.setattr(output, "time", SimpleNamespace(monotonic=lambda: client.now))
    return output.wait_visibly(client, Job(7, False), timeout_s)  # type: ignore[arg-type]


# Waiting


def test_a_job_that_is_soon_done_shows_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    assert watch(ScriptedClient(ENDED), None, terminal, monkeypatch) is ENDED
    assert terminal.getvalue() == ""


def percents(terminal: Terminal) -> list[int]:
    return [int(percent) for percent in re.findall(r"(\d+)%", terminal.getvalue())]


def test_a_long_job_shows_its_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    client = ScriptedClient(running(0), running(25), running(50), ENDED, patient=False)
    assert watch(client, None, terminal, monkeypatch) is ENDED
    assert percents(terminal) == [0, 25, 50, 100]
    assert "job 7" in terminal.getvalue()


def test_the_progress_of_a_job_that_ends_while_it_is_waited_for_is_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    client = ScriptedClient(running(0), running(50), ENDED)
    assert watch(client, None, terminal, monkeypatch) is ENDED
    assert percents(terminal)[-1] == 100


def test_a_long_job_of_calls_shows_what_is_done_now_and_how_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(output, "sys", SimpleNamespace(stderr=terminal))
    client = ScriptedClient(running(0, of=4), running(2, of=4), ENDED, patient=False)
    monkeypatch.setattr(output, "time", SimpleNamespace(monotonic=lambda: client.now))
    told: list[int] = []

    def how_far(_: object, job: Job) -> tuple[float, str]:
        return (0.5, "resize 50% half way") if job.operations_done else (0.0, "load")

    found = output.wait_visibly(
        client,  # type: ignore[arg-type]
        Job(7, False),
        None,
        lambda _, job: told.append(job.id),
        how_far,
    )
    assert (found, told) == (ENDED, [7])
    assert {62, 100} <= set(percents(terminal))
    assert "load" in terminal.getvalue()
    assert "resize 50% half way" in terminal.getvalue()


def test_a_long_job_shows_no_progress_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    client = ScriptedClient(running(0), ENDED)
    assert watch(client, None, log, monkeypatch) is ENDED
    assert log.getvalue() == ""


def test_a_wait_with_progress_is_over_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient(running(0))
    with pytest.raises(dte.WaitTimeout, match="job 7 has not ended within 3 s"):
        watch(client, 3.0, Terminal(), monkeypatch)
    assert sum(filter(None, client.waited_s)) == 3.0


def test_a_short_wait_is_not_made_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient(running(0))
    with pytest.raises(dte.WaitTimeout, match=r"within 0\.5 s"):
        watch(client, 0.5, io.StringIO(), monkeypatch)
    assert client.waited_s == [0.5]


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_a_wait_is_over_in_time_also_when_the_master_was_away(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ScriptedClient(running(0), away_s=5.0)
    with pytest.raises(dte.WaitTimeout, match="within 8 s"):
        watch(client, 8.0, stderr, monkeypatch)
    assert client.now == 8.0


def test_a_wait_without_progress_says_the_whole_time_that_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(dte.WaitTimeout, match="job 7 has not ended within 3 s"):
        watch(ScriptedClient(running(0)), 3.0, io.StringIO(), monkeypatch)


# Texts


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (Job(1, True, 3), "3"),
        (Job(1, True, 0), "0"),
        (Job(1, True, -0.0), "-0.0"),
        (Job(1, True, 0.1 + 0.2), "0.30000000000000004"),
        (Job(1, True, error="division by zero: 1 / 0"), "error: division by zero: 1 / 0"),
        (running(3, of=9), "running, 3 of 9 operations done"),
    ],
)
def test_how_a_job_stands(job: Job, expected: str) -> None:
    assert output.standing(job) == expected


def test_a_table_has_columns_as_wide_as_what_is_in_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_table(("A", "LONGER"), [("wide cell", ""), ("x", "y")], "nothing")
    assert capsys.readouterr().out == "A          LONGER\nwide cell\nx          y\n"


def test_an_empty_table_says_so_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("A", "B"), [], "nothing yet")
    assert capsys.readouterr() == ("", "nothing yet\n")


def test_a_long_text_is_cut_visibly() -> None:
    assert output.short("x" * 40) == "x" * 40
    assert output.short("x" * 41) == "x" * 39 + "…"


# Errors


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            dte.FormulaError("a ')' is missing", 3, "(1\n  ^"),
            2,
            "dte: a ')' is missing (column 3)\n  (1\n    ^\n",
        ),
        (
            dte.WaitTimeout([7], 3),
            4,
            "dte: job 7 has not ended within 3 s; it continues\nto see it: "
            "dte job 7 --master http://here:7\n",
        ),
        (dte.JobFailed(Job(7, True, error="1 / 0")), 1, "dte: 1 / 0\n"),
        (dte.InvalidRequest("give task"), 2, "dte: give task\n"),
        (dte.NotFound("Job not found"), 2, "dte: Job not found\n"),
        (dte.Conflict("the key was used"), 2, "dte: the key was used\n"),
        (dte.TooLarge("too long (formula_chars_max)"), 3, "dte: too long (formula_chars_max)\n"),
        (dte.Busy("busy (jobs_waiting_max)"), 3, "dte: busy (jobs_waiting_max)\n"),
        (dte.Unavailable("the master is ending"), 3, "dte: the master is ending\n"),
        (dte.StorageFull("its disk is full"), 3, "dte: its disk is full\n"),
        (dte.MasterFault("status 500"), 3, "dte: status 500\n"),
        (OSError(98, "Address already in use"), 3, "dte: Address already in use\n"),
        (OSError("odd"), 3, "dte: odd\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_leaves_with_its_code_and_a_message(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left, output.explained("http://here:7"):
        raise error
    assert left.value.code == code
    assert capsys.readouterr() == ("", message)


def test_a_master_that_ends_with_the_command_is_not_to_be_asked_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit), output.explained("http://localhost:1", master_stays=False):
        raise dte.WaitTimeout([7], 3)
    assert capsys.readouterr().err == "dte: job 7 has not ended within 3 s\n"


def test_an_unreachable_master_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, output.explained("http://master:5000"):
        raise dte.Unreachable("no reply from http://master:5000: refused")
    assert left.value.code == 3
    assert capsys.readouterr().err == (
        "dte: no reply from http://master:5000: refused\n"
        "Is a master running there? Start one with `dte run`, or pass --master URL\n"
    )


def test_a_bug_is_not_explained_away() -> None:
    with pytest.raises(ZeroDivisionError), output.explained("http://localhost:5000"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("formulas", "wrong"),
    [
        (("1+2", "--json5"), "--json5"),
        (("--x",), "--x"),
        (("--1", "-(1)", "-x", "--", "---1"), None),
    ],
)
def test_what_looks_like_an_option_is_no_formula(
    formulas: tuple[str, ...], wrong: str | None
) -> None:
    if wrong is None:
        output.check_formulas(formulas)
        return
    with pytest.raises(output.click.UsageError, match=f"no such option: {wrong}"):
        output.check_formulas(formulas)


def test_a_wait_that_is_interrupted_says_that_its_job_continues(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left, output.interruptible(Job(7, False), "http://m:1"):
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err.splitlines() == [
        "dte: job 7 continues",
        "to wait for it: dte job 7 --wait --master http://m:1",
        "to cancel it: dte cancel 7 --master http://m:1",
    ]
