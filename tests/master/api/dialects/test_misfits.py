"""Bodies of the dialects with a wrong field: the error names it and what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from master.rig import Rig

ECHO = {"name": "n", "handler": "echo"}
ADD = {"func_name": "process_data", "args": [1, 2]}


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/submit-task", {"task_type": 5}, "task_type must be a text, not 5"),
        ("/get-task", {"worker_id": 5}, "worker_id must be a text, not 5"),
        ("/tasks", ECHO | {"priority": "high"}, 'priority must be an integer, not "high"'),
        ("/tasks", ECHO | {"args": "aGk=", "priority": "high"}, "priority must be an integer"),
        ("/tasks", ECHO | {"args": [1]}, "args must be a text, not a list"),
        ("/tasks", ECHO | {"name": 5}, "name must be a text, not 5"),
        ("/workers", {"resources": {"cpu": "4"}}, 'resources.cpu must be a number, not "4"'),
        ("/workers", {"capabilities": "x"}, 'capabilities must be a list, not "x"'),
        ("/tasks", [], "the JSON must be an object, not a list"),
        ("/add_task", ADD | {"priority": 5.5}, "priority must be an integer, not 5.5"),
        ("/add_task", ADD | {"args": "12"}, 'args must be a list, not "12"'),
        ("/add_task", ADD | {"dependencies": 7}, "dependencies must be a list"),
        ("/task_status", {"task_id": 5, "status": "COMPLETED"}, "task_id must be a text, not 5"),
        ("/task_status", {"task_id": "1", "status": "DONE"}, "status must be "),
    ],
)
async def test_the_error_names_the_field_and_its_right_type(
    rig: Rig, path: str, body: Any, text: str
) -> None:
    reply = await rig.post(path, body)
    assert reply.status in (400, 422)
    said = reply.body.decode().replace('\\"', '"')
    assert text in said
    assert "`" not in said, "the text of a library"


async def test_the_place_of_a_wrong_field_is_given_to_programs(rig: Rig) -> None:
    reply = await rig.post("/add_task", ADD | {"priority": "x"})
    (fault,) = reply.json["detail"]
    assert (fault["loc"], fault["type"], fault["input"]) == (
        ["body", "priority"],
        "type_error",
        "x",
    )


async def test_a_missing_field_is_named_as_before(rig: Rig) -> None:
    (fault,) = (await rig.post("/add_task", {"args": []})).json["detail"]
    assert (fault["loc"], fault["msg"]) == (["body", "func_name"], "Field required")
