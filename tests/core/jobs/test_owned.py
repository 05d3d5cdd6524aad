"""The unfinished work of owners: counted from the acceptance to the end, and after a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, LIMITS, Core, parsed
from core.plans import call
from dte.core.errors import Busy, TooLarge
from dte.core.jobs.job import Job, JobState

FEW = replace(LIMITS, jobs_waiting_max=10)
LONG = "*".join(map(str, range(1, 14)))
STRANGER, OTHER = "10.0.0.5", "10.0.0.6"


def accept(core: Core, owner: str, count: int = 1, task: str = "1+2") -> list[Job]:
    jobs = core.jobs.accept(0.0, parsed(*[task] * count), owner=owner).jobs
    core._step(0.0)
    return jobs


def test_a_stranger_fills_half_and_leaves_room_for_others() -> None:
    core = Core(limits=FEW)
    for _ in range(5):
        accept(core, STRANGER)
    with pytest.raises(
        Busy, match=r"10\.0\.0\.5 has 5 unfinished jobs; its share is 5, half of 10"
    ):
        accept(core, STRANGER)
    accept(core, OTHER, 2)
    accept(core, "", 3)
    with pytest.raises(Busy, match=r"10 \+ 1 > 10 \(jobs_waiting_max\)"):
        accept(core, "")


def test_the_machine_s_own_user_fills_all() -> None:
    core = Core(limits=FEW)
    accept(core, "", 10)
    with pytest.raises(Busy):
        accept(core, STRANGER)


@pytest.mark.parametrize(
    ("bounds", "name", "fits", "never"),
    [
        ({"operations_waiting_max": 20}, "operations", "1+2+3+4+5+6+7+8", LONG),
        ({"bytes_waiting_max": 80}, "bytes", "1+2+3+4+5+6+7+8+1+2", f"{'1' * 60}+1"),
    ],
)
def test_operations_and_bytes_have_shares_too(
    bounds: dict[str, int], name: str, fits: str, never: str
) -> None:
    core = Core(limits=replace(LIMITS, **bounds))
    for _ in range(2 if name == "bytes" else 1):
        accept(core, STRANGER, task=fits)
    with pytest.raises(Busy, match=f"10.0.0.5 has .*unfinished.*{name}_waiting_max"):
        accept(core, STRANGER, task=fits)
    with pytest.raises(TooLarge, match=f"10.0.0.5 has .*unfinished.*{name}_waiting_max"):
        Core(limits=replace(LIMITS, **bounds)).jobs.accept(0.0, parsed(never), owner=STRANGER)
    accept(core, "", task=fits)


def test_what_ends_or_is_void_is_free_again() -> None:
    core = Core(limits=FEW, records_at_once=False)
    accept(core, STRANGER, 5)
    core.refuse()
    jobs = accept(core, STRANGER, 5)
    core.record()
    for job in jobs:
        core.cancel(0.0, job)
    core.record()
    assert all(job.state is JobState.CANCELLED for job in jobs)
    accept(core, STRANGER, 5)


def test_results_count_as_bytes_of_their_owner() -> None:
    core = Core(CALLER, limits=replace(LIMITS, bytes_waiting_max=2_000))
    new = [each for _ in range(2) for each in parsed("1+2")]
    plan = core.graph(a=call("f"), b=call("f"))
    plan.owner = STRANGER
    core.jobs.owned.add(plan)
    core.succeed(0.0, core.hand_out()["a"], b"9" * 990)
    with pytest.raises(Busy, match="bytes of"):
        core.jobs.accept(0.0, new * 5, owner=STRANGER)


def test_after_a_restart_each_job_has_its_owner_still() -> None:
    core = Core(limits=FEW)
    core.jobs.restore(4, [Job(n, "1+2", 0.0, 1, None, owner=STRANGER) for n in range(1, 5)], [])
    for job in list(core.jobs.newest(9)):
        job.enter(JobState.WAITING)
    for number in range(1, 5):
        core.resume(0.0, core.jobs._ring.get(number), parsed("1+2")[0])
    accept(core, STRANGER)
    with pytest.raises(Busy, match="its share"):
        accept(core, STRANGER)
