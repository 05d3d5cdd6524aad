"""A journal with everything in it that a journal may have: how it is filled, and how it is read.

All is asked over HTTP, so that a master of any commit can be filled and read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.cluster import Cluster, MasterClient
from harness.processes import until

FAR = 3_000_000_000.0
"""Seconds that no test lives to see: nothing runs out between a journal's making and its test."""
SETTINGS = {
    "DTE_JOURNAL_AGE_MAX_S": str(FAR),
    "DTE_NOTIFY_FOR_S": str(FAR),
    "DTE_RETRY_PAUSE_S": str(FAR),
    "DTE_RETRY_PAUSE_MAX_S": str(FAR),
    "DTE_LEASE_S": str(FAR),
    "DTE_HEARTBEAT_S": str(FAR),
    "DTE_DEAD_AFTER_S": str(FAR),
    "DTE_GRACE_S": "0.1",
}
"""Of the master that fills a journal, and of each that reads it."""
WORKER, RECEIVER = "127.0.0.1:1", "127.0.0.1:2"
"""Where a remembered worker listens and where notices go, as they stand in stored journals."""
NOTIFY = f"http://{RECEIVER}/ended"
CLAIMS = "a worker that claims"
LATER = """import dte


@dte.handler("later")
def later(value=None):
    return value
"""
"""Handlers that no worker has before the journal has been read."""

FORMULAS = [
    "1+(2*3)/4-5",
    "42",
    "0.1+0.2",
    "0*(0-1.5)",
    f"({'9' * 40})*({'9' * 40})",
    "1/0",
    "1e308*10",
    "2\n×\t3 ÷ 4",
    f"3*{' ' * 16_400}4",
    "fibonacci(30) + 2*3",
]
ENDING: list[dict[str, Any]] = [
    {"handler": "echo", "args": ["ß\u0000🙂"], "priority": 3},
    {"handler": "fibonacci", "args": [-1], "notify": NOTIFY},
    {"handler": "sleep", "args": [60], "timeout": 0.05},
    {
        "graph": {
            "a": {"handler": "echo", "args": [[1, {"b": None}]]},
            "b": {"handler": "process_data", "args": [{"ref": "a"}, [2.5]]},
            "c": {"handler": "echo", "args": [{"literal": {"ref": "a"}}], "after": ["b"]},
        },
        "answer": "b",
        "notify": NOTIFY,
    },
    {
        "graph": {
            "bad": {"handler": "fibonacci", "args": [-1]},
            "skipped": {"handler": "echo", "args": [{"ref": "bad"}]},
            "anyway": {"handler": "echo", "args": [1], "after": ["bad"], "when": "done"},
        },
    },
]
"""Jobs of calls that end before the journal is left."""
STATES: dict[str, Any] = {
    "graph": {
        "succeeded": {"handler": "claimed", "args": ["good"]},
        "failed": {"handler": "claimed", "args": ["bad"]},
        "skipped": {"handler": "later", "args": [{"ref": "failed"}]},
        "running": {"handler": "claimed", "args": ["held"], "timeout": 60},
        "paused": {"handler": "claimed", "args": ["again"], "retries": 3},
        "waiting": {"handler": "later", "args": [[{"ref": "succeeded"}, {"ref": "running"}]]},
        "ready": {"handler": "later", "args": [{"ref": "succeeded"}], "priority": 2},
        "delayed": {"handler": "later", "not_before": "2121-01-01T00:00:00Z"},
    },
    "priority": 1,
}
"""A job of which each call is in another state."""


def post(client: MasterClient, path: str, body: Any, **headers: str) -> Any:
    """The value of a good reply to a POST."""
    return client.value("POST", path, body, **headers)


class Filling:
    """Fills a journal; afterwards no worker is there.

    Args:
        cluster: a master whose journal is empty, with a worker.
        worker_port: where a worker listens that never answers.

    Attributes:
        keyed: submissions with keys, each with its reply.
        leases: those that a worker holds, by the arguments of their calls.
    """

    def __init__(self, cluster: Cluster, worker_port: int) -> None:
        self._cluster = cluster
        self._client = cluster.client
        self._worker_port = worker_port
        self.keyed: list[dict[str, Any]] = []
        self.leases: dict[str, int] = {}

    def fill(self) -> None:
        """Do it all. Then kill the master, which must not end in order."""
        self._end_some()
        self._leave_some()
        self._remember_workers()

    def _end_some(self) -> None:
        """Jobs that end in each way, by a worker that leaves when they have."""
        for task in FORMULAS:
            self._client.submit(task)
        for body in ENDING:
            post(self._client, "/jobs", body)
        self._submit("/submit", {"tasks": ["2*3", "1/0"]}, "ended")
        post(self._client, "/tasks", {"id": "mine", "name": "n", "handler": "echo", "args": "eA=="})
        post(self._client, "/submit-task", {"task_type": "compute", "task_data": {"limit": 20}})
        post(self._client, "/add_task", {"func_name": "process_data", "args": [1, 2]})
        until(lambda: not self._client.get("/health")["jobs_waiting"], "all has ended")
        failed = next(job for job in self._client.get("/jobs") if job["state"] == "failed")
        self._client.value("POST", f"/job/{failed['job_id']}/retry")
        until(lambda: not self._client.get("/health")["jobs_waiting"], "it has failed again")
        for worker in self._cluster.workers.values():
            assert worker.end() == 0

    def _submit(self, path: str, body: Any, key: str) -> Any:
        reply = post(self._client, path, body, Idempotency_Key=key)
        self.keyed.append({"path": path, "body": body, "key": key, "reply": reply})
        return reply

    def _leave_some(self) -> None:
        """Jobs that have not ended, in each state."""
        states = self._submit("/jobs", STATES, "states")["job_id"]
        self._claim(4)
        self._report("good", result={"is": "good"})
        self._report("bad", error="no", retry=False)
        self._report("again", error="not yet")
        cancelled = {"handler": "claimed", "args": ["cancelled"], "notify": NOTIFY}
        cancelling = post(self._client, "/jobs", cancelled)["job_id"]
        self._claim(1)
        self._client.value("POST", f"/job/{cancelling}/cancel")
        never = post(self._client, "/jobs", {"handler": "later"})["job_id"]
        self._client.value("POST", f"/job/{never}/cancel")
        self._submit("/submit", {"task": "(1+2)*(3+4)/5"}, "waiting")
        post(self._client, "/submit", {"tasks": ["6*7", f"1{' ' * 16_400}+2"]})
        post(self._client, "/jobs", {"formula": "later(1) + 2*3"})
        post(self._client, "/jobs", {"jobs": [{"handler": "later", "args": [n]} for n in (1, 2)]})
        after = {"handler": "later", "args": ["after"], "after": [states, cancelling]}
        post(self._client, "/jobs", after | {"when": "done", "notify": NOTIFY})
        post(self._client, "/tasks", {"id": "waits", "name": "n", "handler": "later"})
        post(self._client, "/add_task", {"func_name": "process_data", "args": [4, 5]})

    def _claim(self, calls: int) -> None:
        body = {"worker": CLAIMS, "handlers": ["claimed"], "slots": 10, "wait": 1}
        wanted = len(self.leases) + calls

        def claimed() -> bool:
            given = post(self._client, "/claim", body)["calls"]
            self.leases |= {call["args"][0]: call["lease"] for call in given}
            return len(self.leases) == wanted

        until(claimed, "the calls are claimed")

    def _report(self, argument: str, **outcome: Any) -> None:
        report(self._client, self.leases.pop(argument), **outcome)

    def _remember_workers(self) -> None:
        """Workers that will not say again that they are there."""
        post(self._client, "/worker", {"worker_name": "says it once", "port": self._worker_port})
        handlers = {"worker_name": "with handlers", "port": 3, "handlers": {"x": {"retries": 2}}}
        post(self._client, "/worker", handlers | {"handler_slots": 3, "arithmetic": False})
        looks = {"id": "looks", "capabilities": ["looked_for"], "slots": 2}
        post(self._client, "/workers", looks | {"resources": {"cpu": 4}})


def report(client: MasterClient, lease: int, **outcome: Any) -> None:
    """Say what came of a call, as the worker that has claimed it."""
    result = {"lease": lease} | outcome
    said = post(client, "/result", {"worker": CLAIMS, "results": [result]})
    assert said["accepted"] == [lease], said


def read(client: MasterClient) -> dict[str, Any]:
    """A master's replies about its jobs and workers, by path, without what differs each time."""
    until(lambda: client.workers()["says it once"]["leases"], "it has the first operation")
    last = client.get("/jobs")[0]["job_id"]
    jobs = {number: client.get(f"/job/{number}") for number in range(1, last + 1)}
    assert client.get(f"/jobs?ids=1-{last}") == list(jobs.values())
    found: dict[str, Any] = {f"/job/{number}": lasting(job) for number, job in jobs.items()}
    for number, job in jobs.items():
        paths = [f"/job/{number}/nodes"] + [f"/job/{number}/why"] * (not job["finished"])
        found |= {path: lasting(client.get(path)) for path in paths}
    for path in ("/jobs", "/worker", "/workers", "/tasks", "/tasks/mine", "/stats", "/status"):
        found[path] = lasting(client.get(path))
    health = client.get("/health")
    found["/health"] = {name: health[name] for name in HEALTH}
    return {path: value for path, value in found.items() if value != []}


HEALTH = ("status", "workers", "jobs_waiting", "operations_waiting")
MOMENTARY = ("heard_at", "LastHeartbeat", "last_heartbeat", "failures", "last_failure")
"""Fields that tell of the present master's life alone."""
STARTS = ("started_at", "StartedAt")


def lasting(value: Any) -> Any:
    """A reply without what follows from the moment, and without sentences that are made for it."""
    if isinstance(value, list):
        return [lasting(each) for each in value]
    if not isinstance(value, dict):
        return value
    left_out = set(MOMENTARY)
    if "waits_for" in value:
        left_out |= {"text"}
    if "finished" in value and not value["finished"]:
        left_out |= set(STARTS)
    if not value.get("CompletedAt", True):
        left_out |= set(STARTS)
    if str(value.get("error")).startswith("not run"):
        left_out |= {"error"}
    return {name: lasting(each) for name, each in value.items() if name not in left_out}


def finish(cluster: Cluster, leases: Mapping[str, int]) -> dict[str, Any]:
    """Do all that waits, and give how each job has ended that waited, by its path.

    The worker that never answers must be gone by now: it holds arithmetic.

    Args:
        leases: as in `Filling`.
    """
    client = cluster.client
    waited = [job["job_id"] for job in client.get("/jobs") if not job["finished"]]
    report(client, leases["held"], result={"is": "held"})
    report(client, leases["cancelled"], state="cancelled")
    states = next(n for n in waited if len(client.get(f"/job/{n}/nodes")) == len(STATES["graph"]))
    (cluster.folder / "more.py").write_text(LATER)
    cluster.start_worker("late", "--handlers", "more")
    until(lambda: not unfinished(client, states), "what is neither paused nor delayed has ended")
    for task in client.get("/workers/looks")["CurrentTasks"]:  # The other worker has the handler.
        failed = {"status": "failed", "error": "unknown handler"}
        assert client.ask("POST", f"/workers/looks/tasks/{task}/complete", failed).status == 204
    client.value("POST", f"/job/{states}/cancel")
    jobs = {f"/job/{number}": client.finished(number) for number in waited}
    ends = {path: [job["state"], job["answer"]] for path, job in jobs.items()}
    return ends | {"looks": look(client)}


def look(client: MasterClient) -> list[Any]:
    """Do calls as the remembered worker that looks for its work, and cannot be stopped.

    Returns:
        How a call ended; how another ended, which is cancelled while the worker has it; and for
        both, how the master took the worker's word.
    """
    seen: list[Any] = []
    for cancel in (False, True):
        job = post(client, "/jobs", {"handler": "looked_for", "args": [1]})["job_id"]
        (task, *_) = until(lambda: client.get("/workers/looks")["CurrentTasks"], "it has a task")
        if cancel:
            client.value("POST", f"/job/{job}/cancel")
            client.finished(job)
        done = {"status": "completed", "result": "Mg=="}
        taken = client.ask("POST", f"/workers/looks/tasks/{task}/complete", done).status
        ended = client.finished(job)
        seen += [taken, ended["state"], ended["answer"]]
    return seen


def unfinished(client: MasterClient, states: int) -> list[str]:
    """The nodes of the job of `STATES` that are under way."""
    nodes = client.get(f"/job/{states}/nodes")
    return [each["node"] for each in nodes if each["state"] in ("ready", "running")]
