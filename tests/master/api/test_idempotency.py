"""Submissions with an Idempotency-Key: sent twice, they are accepted once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.http import Message
from harness.until import until

from master import fakes
from master.rig import Hire, Rig, StartMaster

SINGLE, BATCH = {"task": "1+2"}, {"tasks": ["1+2", "3", "4/0", "5*6"]}


async def submit(rig: Rig, body: Any, key: str = "mine", wait_s: float = 0) -> Message:
    path = f"/submit?wait={wait_s}" if wait_s else "/submit"
    return await rig.post(path, body, Idempotency_Key=key)


async def accepted(rig: Rig) -> int:
    """The number of accepted jobs."""
    return len((await rig.get("/jobs")).json)


# Repeats


async def test_a_repeat_is_answered_as_the_first(keeping: Rig) -> None:
    first, second = await submit(keeping, SINGLE), await submit(keeping, SINGLE)
    assert (first.status, first.json) == (200, {"job_id": 1, "finished": False})
    assert (second.status, second.body) == (200, first.body)
    assert await accepted(keeping) == 1


async def test_a_repeat_of_a_batch_gives_the_same_jobs_in_the_same_order(keeping: Rig) -> None:
    first, second = await submit(keeping, BATCH), await submit(keeping, BATCH)
    assert first.json == {"job_ids": [1, 2, 3, 4]}
    assert (second.status, second.body) == (200, first.body)
    assert await accepted(keeping) == 4


async def test_a_repeat_of_a_lone_number_gives_the_job_that_has_ended(keeping: Rig) -> None:
    first, second = await submit(keeping, {"task": "42"}), await submit(keeping, {"task": "42"})
    assert first.json == {"job_id": 1, "finished": True}
    assert second.body == first.body
    assert await accepted(keeping) == 1


async def test_a_repeat_with_a_wait_waits_for_the_first_ones_job(keeping: Rig, hire: Hire) -> None:
    await submit(keeping, SINGLE)
    repeat = asyncio.create_task(submit(keeping, SINGLE, wait_s=20))
    await until(lambda: len(keeping.master.waiters), "it waits")
    await hire(keeping, fakes.good)
    job = (await repeat).json
    assert (job["job_id"], job["answer"]) == (1, 3)
    assert (await submit(keeping, SINGLE)).json == {"job_id": 1, "finished": True}
    assert await accepted(keeping) == 1


async def test_a_repeat_of_a_batch_with_a_wait_returns_its_jobs(keeping: Rig, hire: Hire) -> None:
    await hire(keeping, fakes.good)
    first = await submit(keeping, BATCH, wait_s=20)
    second = await submit(keeping, BATCH, wait_s=20)
    assert [job["answer"] for job in first.json["jobs"]] == [3, 3, None, 30]
    assert second.body == first.body
    assert await accepted(keeping) == 4


@pytest.mark.parametrize("body", [SINGLE, BATCH], ids=["single", "batch"])
async def test_two_that_are_sent_at_once_are_one(keeping: Rig, body: Any) -> None:
    first, second = await asyncio.gather(submit(keeping, body), submit(keeping, body))
    assert first.status == second.status == 200
    assert first.body == second.body
    assert await accepted(keeping) == len(body.get("tasks", [0]))


async def test_a_repeat_that_comes_while_the_first_is_parsed_is_the_same_job(keeping: Rig) -> None:
    """Both may be parsed; the first one that is ready is the first submission."""
    body = {"task": "+".join(["1.5"] * 12_000)}
    replies = await asyncio.gather(*(submit(keeping, body) for _ in range(4)))
    assert len({reply.body for reply in replies}) == 1
    assert await accepted(keeping) == 1
    waiting = (await keeping.get("/health")).json["operations_waiting"]
    assert waiting == (await keeping.job(replies[0].json["job_id"]))["operations"]


async def test_ids_go_on_after_repeats(keeping: Rig) -> None:
    numbers = [(await submit(keeping, SINGLE, key)).json["job_id"] for key in "aababc"]
    assert numbers[0] == numbers[1] == numbers[3]
    assert numbers[2] == numbers[4]
    assert numbers[0] < numbers[2] < numbers[5]


async def test_without_a_key_the_same_formula_is_another_job(keeping: Rig) -> None:
    assert await keeping.submit("1+2") != await keeping.submit("1+2")


# Another body, odd keys


@pytest.mark.parametrize(
    "other",
    [{"task": "1+3"}, {"tasks": ["1+2"]}, BATCH, b'{"task":"1+2"}', b'{"task": "1+2" }'],
    ids=["formula", "form", "batch", "white space", "more white space"],
)
async def test_another_body_under_the_same_key_is_a_conflict_and_nothing_is_accepted(
    keeping: Rig, other: Any
) -> None:
    await submit(keeping, SINGLE)
    before = (await keeping.get("/health")).json["operations_waiting"]
    reply = await submit(keeping, other)
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert "for job 1; use a new key" in reply.json["error"]
    assert "Idempotency-Key" in reply.json["error"]
    assert await accepted(keeping) == 1
    assert (await keeping.get("/health")).json["operations_waiting"] == before
    assert (await submit(keeping, SINGLE)).json["job_id"] == 1, "the first is what it was"


async def test_of_two_bodies_that_are_sent_at_once_one_is_a_conflict(keeping: Rig) -> None:
    replies = await asyncio.gather(submit(keeping, SINGLE), submit(keeping, BATCH))
    assert sorted(reply.status for reply in replies) == [200, 409]
    assert await accepted(keeping) in (1, 4)


@pytest.mark.parametrize(
    "key", ["k" * 200, "~", "a b", "(){}[]\"'", "1", "0b6b7b0e-9b0a-4c6e-8c55-3a1f2f0d8d0c"]
)
async def test_a_key_is_printable_ascii_of_up_to_200_characters(keeping: Rig, key: str) -> None:
    assert (await submit(keeping, SINGLE, key)).json["job_id"] == 1
    assert (await submit(keeping, SINGLE, key)).json["job_id"] == 1


@pytest.mark.parametrize(
    "key",
    ["", "k" * 201, "k" * 5_000, "schlüssel", "a\tb", "\xff"],
    ids=["empty", "201", "5000", "not ASCII", "tab", "a byte"],
)
async def test_an_odd_key_is_refused_in_clear_words(rig: Rig, key: str) -> None:
    reply = await submit(rig, SINGLE, key)
    assert (reply.status, reply.json["code"]) == (400, "invalid")
    assert "one Idempotency-Key of 1 to 200 printable ASCII characters" in reply.json["error"]
    assert await accepted(rig) == 0


async def test_two_keys_are_refused(rig: Rig) -> None:
    reply = await rig.ask("POST", "/submit", SINGLE, Idempotency_Key="a", idempotency_key="b")
    assert reply.status == 400
    assert "one Idempotency-Key" in reply.json["error"]
    assert await accepted(rig) == 0


async def test_keys_differ_by_a_single_letter(keeping: Rig) -> None:
    numbers = {(await submit(keeping, SINGLE, key)).json["job_id"] for key in ("a", "A", "aa")}
    assert len(numbers) == 3


# Refusals


@pytest.mark.parametrize("refused", [{"task": "1+"}, {"tasks": ["1+2", "1+"]}, {"task": 7}, b"{"])
async def test_a_key_is_not_used_up_by_what_is_refused(keeping: Rig, refused: Any) -> None:
    assert (await submit(keeping, refused)).status == 400
    assert (await submit(keeping, refused)).status == 400
    assert (await submit(keeping, SINGLE)).status == 200, "nor has it a body yet"
    assert await accepted(keeping) == 1


async def test_a_repeat_of_what_was_refused_for_lack_of_room_is_a_first(
    start: StartMaster, hire: Hire
) -> None:
    rig = await start(jobs_waiting_max=1)
    other = await rig.submit("5*6")
    assert (await submit(rig, SINGLE)).status == 429
    await hire(rig, fakes.good)
    await rig.job(other, wait_s=20)
    job = (await submit(rig, SINGLE, wait_s=20)).json
    assert (job["answer"], await accepted(rig)) == (3, 2)


@pytest.mark.parametrize("bound", ["jobs_waiting_max", "operations_waiting_max"])
async def test_a_repeat_is_recognised_although_there_is_no_room_for_more(
    start: StartMaster, bound: str
) -> None:
    """It needs no room, and its sender would otherwise never learn which job it has."""
    rig = await start(**{bound: 1})
    first = await submit(rig, SINGLE)
    assert (await submit(rig, SINGLE, "another")).status == 429
    again = await submit(rig, SINGLE)
    assert (again.status, again.body) == (200, first.body)


# How long keys are known


async def test_keys_are_known_after_a_restart_with_a_journal(
    start_journaled: StartMaster, hire: Hire
) -> None:
    rig = await start_journaled()
    await submit(rig, SINGLE, "single")
    await submit(rig, BATCH, "batch")
    await rig.stop()
    rig = await start_journaled()
    assert (await submit(rig, SINGLE, "single")).json == {"job_id": 1, "finished": False}
    assert (await submit(rig, BATCH, "batch")).json == {"job_ids": [2, 3, 4, 5]}
    assert (await submit(rig, BATCH, "single")).status == 409
    await hire(rig, fakes.good)
    assert (await submit(rig, SINGLE, "single", wait_s=20)).json["answer"] == 3
    assert await accepted(rig) == 5


async def test_a_repeat_gives_jobs_that_are_only_in_the_journal(
    start_journaled: StartMaster, hire: Hire
) -> None:
    rig = await start_journaled(jobs_kept=2)
    await hire(rig, fakes.good)
    first = await submit(rig, BATCH, wait_s=20)
    for number in range(3):
        await rig.compute(f"{number}+{number}")
    assert await accepted(rig) == 2, "the others are out of the ring"
    assert (await submit(rig, BATCH, wait_s=20)).body == first.body


async def test_without_a_journal_so_many_keys_are_known_as_jobs_are_kept(
    start_master: StartMaster,
) -> None:
    rig = await start_master(jobs_kept=3)
    for key in ("a", "b", "c", "d"):
        await submit(rig, {"task": "7"}, key)
    assert [(await submit(rig, {"task": "7"}, key)).json["job_id"] for key in "bcd"] == [2, 3, 4]
    assert (await submit(rig, {"task": "7"}, "a")).json["job_id"] > 4


async def test_a_repeat_for_a_deleted_job_is_not_found_and_makes_no_other(
    start_master: StartMaster,
) -> None:
    """Without a journal, memory forgets the oldest jobs before their keys."""
    rig = await start_master(jobs_kept=3)
    for number in range(3):
        await submit(rig, {"task": str(number)}, key=f"key {number}")
    await rig.post("/submit", {"task": "7"})
    repeat = await submit(rig, {"task": "0"}, key="key 0")
    assert (repeat.status, repeat.json["code"]) == (404, "not_found")
    assert "was used for job 1, which has been deleted" in repeat.json["error"]
