"""The routes of a master, as a table."""

from __future__ import annotations

from tornado.web import Application

from dte.master.access.roles import EVERYBODY, KNOWN, LOOK, OPERATE, READ, SEE, SUBMIT, WORK
from dte.master.api import backup, docs, events, formula, health, jobs, sessions, workers
from dte.master.api.base import UnknownPath
from dte.master.api.dialects.queue import stats as queue_stats
from dte.master.api.dialects.queue import tasks as queue_tasks
from dte.master.api.dialects.queue import workers as queue_workers
from dte.master.api.dialects.rest import base as rest_base
from dte.master.api.dialects.rest import tasks as rest_tasks
from dte.master.api.dialects.rest import workers as rest_workers
from dte.master.api.dialects.scheduler import base as scheduler_base
from dte.master.api.dialects.scheduler import status as scheduler_status
from dte.master.api.dialects.scheduler import tasks as scheduler_tasks
from dte.master.api.dialects.scheduler import workers as scheduler_workers
from dte.master.api.job_handler import job_reply
from dte.master.api.openapi import Route
from dte.master.http.meters import Budget
from dte.master.master import Master
from dte.wire.codec import encode

LONG_BODIES = 1
"""How many long bodies are read at a time."""
ROUTES = (
    Route("/submit", formula.Submit, may={"post": SUBMIT}),
    Route("/job/{id:int}", jobs.OneJob, may={"get": READ}),
    Route("/jobs", jobs.Jobs, may={"get": READ, "post": SUBMIT}),
    Route("/job/{id:int}/cancel", jobs.Cancel, may={"post": SUBMIT}),
    Route("/job/{id:int}/retry", jobs.Retry, may={"post": SUBMIT}),
    Route("/job/{id:int}/why", jobs.Why, may={"get": READ}),
    Route("/job/{id:int}/nodes", jobs.Nodes, may={"get": READ}),
    Route("/job/{id:int}/events", events.JobEvents, "jobs", may={"get": READ}),
    Route("/events", events.AllEvents, "jobs", may={"get": READ}),
    Route("/worker", workers.Workers, may={"get": SEE, "post": WORK}),
    Route("/claim", workers.Claims, may={"post": WORK}),
    Route("/result", workers.Results, may={"post": WORK}),
    Route("/extend", workers.Extends, may={"post": WORK}),
    Route("/tasks", rest_tasks.Tasks, "rest", may={"get": READ, "post": SUBMIT}),
    Route("/tasks/{id}", rest_tasks.OneTask, "rest", may={"get": READ}),
    Route("/workers", rest_workers.Workers, "rest", may={"get": SEE, "post": WORK}),
    Route("/workers/{id}", rest_workers.OneWorker, "rest", may={"get": LOOK}),
    Route("/workers/{id}/heartbeat", rest_workers.Heartbeat, "rest", may={"put": WORK}),
    Route(
        "/workers/{id}/tasks/{task_id}/complete", rest_workers.Complete, "rest", may={"post": WORK}
    ),
    Route("/submit-task", queue_tasks.SubmitTask, "queue", may={"post": SUBMIT}),
    Route("/get-task", queue_workers.GetTask, "queue", may={"post": WORK}),
    Route("/submit-result", queue_workers.SubmitResult, "queue", may={"post": WORK}),
    Route("/heartbeat", queue_workers.Heartbeats, "queue", may={"post": WORK}),
    Route("/task/{id:int}", queue_tasks.Task, "queue", may={"get": READ}),
    Route("/stats", queue_stats.StatsHandler, "queue", may={"get": SEE}),
    *(
        Route(f"{prefix}{path}", handler, "scheduler", may={method: roles})
        for prefix in ("", "/scheduler")
        for path, handler, method, roles in (
            ("/add_task", scheduler_tasks.AddTask, "post", SUBMIT),
            ("/get_task/{worker_id}", scheduler_workers.GetTask, "get", WORK),
            ("/task_status", scheduler_workers.ReportStatus, "post", WORK),
            ("/cancel_task/{task_id}", scheduler_tasks.CancelTask, "post", SUBMIT),
            ("/register_worker/{worker_id}", scheduler_workers.RegisterWorker, "post", WORK),
            ("/heartbeat/{worker_id}", scheduler_workers.Heartbeat, "put", WORK),
            ("/unregister_worker/{worker_id}", scheduler_workers.UnregisterWorker, "delete", WORK),
            ("/unregister/{worker_id}", scheduler_workers.UnregisterWorker, "delete", WORK),
            ("/status", scheduler_status.Status, "get", SEE),
        )
    ),
    Route("/live", health.Live, "operations", may={"get": EVERYBODY}),
    Route("/ready", health.Ready, "operations", may={"get": EVERYBODY}),
    Route(
        "/session",
        sessions.Session,
        "operations",
        may={"get": EVERYBODY, "post": EVERYBODY, "delete": KNOWN},
    ),
    Route("/session/link", sessions.Link, "operations", may={"post": KNOWN}),
    Route("/", docs.Index, "operations", may={"get": KNOWN}),
    Route("/health", health.Health, "operations", may={"get": EVERYBODY}),
    Route("/backup", backup.Backup, "operations", may={"post": OPERATE}),
    Route("/openapi.json", docs.Document, "operations", may={"get": KNOWN}),
    Route("/docs", docs.Page, "operations", may={"get": KNOWN}),
    Route("/docs/{file}", docs.Asset, "operations", may={"get": KNOWN}),
    Route("/scheduler/docs", docs.PageBelow, "scheduler", may={"get": KNOWN}),
)
"""Every path, with its handler, its section of the document, and the roles of its methods."""
UNKNOWN_PATHS = (
    (r"/scheduler(?:/.*)?", scheduler_base.UnknownPath),
    (r"/(?:tasks|workers)/.*", rest_base.UnknownPath),
)
"""The other paths below those of a dialect; their errors have the form of the dialect."""


def application(master: Master) -> Application:
    """The Tornado application that serves a master's routes.

    Raises:
        ValueError: a method of a route has no roles.
    """
    for route in ROUTES:
        route.check_roles()
    master.encode_job = lambda job: encode(job_reply(job, master.clock.wall_time))
    bodies = Budget("bodies_bytes_max", master.settings.bodies_bytes_max, LONG_BODIES)
    shared = {"master": master, "bodies": bodies}
    return Application(
        [
            *(
                (
                    route.pattern,
                    route.handler,
                    shared | {"path": route.shown_path, "may": route.may},
                )
                for route in ROUTES
            ),
            *((pattern, handler, shared) for pattern, handler in UNKNOWN_PATHS),
        ],
        default_handler_class=UnknownPath,
        default_handler_args=shared,
        log_function=lambda handler: None,
        openapi=docs.encoded(ROUTES),
        patterns=[route.pattern for route in ROUTES],
    )
