"""The routes of a master, as a table."""

from __future__ import annotations

from tornado.web import Application

from dte.master.api import backup, docs, events, formula, health, jobs, workers
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
    Route("/submit", formula.Submit),
    Route("/job/{id:int}", jobs.OneJob),
    Route("/jobs", jobs.Jobs),
    Route("/job/{id:int}/cancel", jobs.Cancel),
    Route("/job/{id:int}/retry", jobs.Retry),
    Route("/job/{id:int}/why", jobs.Why),
    Route("/job/{id:int}/nodes", jobs.Nodes),
    Route("/job/{id:int}/events", events.JobEvents, "jobs"),
    Route("/events", events.AllEvents, "jobs"),
    Route("/worker", workers.Workers),
    Route("/claim", workers.Claims),
    Route("/result", workers.Results),
    Route("/extend", workers.Extends),
    Route("/tasks", rest_tasks.Tasks, "rest"),
    Route("/tasks/{id}", rest_tasks.OneTask, "rest"),
    Route("/workers", rest_workers.Workers, "rest"),
    Route("/workers/{id}", rest_workers.OneWorker, "rest"),
    Route("/workers/{id}/heartbeat", rest_workers.Heartbeat, "rest"),
    Route("/workers/{id}/tasks/{task_id}/complete", rest_workers.Complete, "rest"),
    Route("/submit-task", queue_tasks.SubmitTask, "queue"),
    Route("/get-task", queue_workers.GetTask, "queue"),
    Route("/submit-result", queue_workers.SubmitResult, "queue"),
    Route("/heartbeat", queue_workers.Heartbeats, "queue"),
    Route("/task/{id:int}", queue_tasks.Task, "queue"),
    Route("/stats", queue_stats.StatsHandler, "queue"),
    *(
        Route(f"{prefix}{path}", handler, "scheduler")
        for prefix in ("", "/scheduler")
        for path, handler in (
            ("/add_task", scheduler_tasks.AddTask),
            ("/get_task/{worker_id}", scheduler_workers.GetTask),
            ("/task_status", scheduler_workers.ReportStatus),
            ("/cancel_task/{task_id}", scheduler_tasks.CancelTask),
            ("/register_worker/{worker_id}", scheduler_workers.RegisterWorker),
            ("/heartbeat/{worker_id}", scheduler_workers.Heartbeat),
            ("/unregister_worker/{worker_id}", scheduler_workers.UnregisterWorker),
            ("/unregister/{worker_id}", scheduler_workers.UnregisterWorker),
            ("/status", scheduler_status.Status),
        )
    ),
    Route("/", docs.Index, "operations"),
    Route("/health", health.Health, "operations"),
    Route("/backup", backup.Backup, "operations"),
    Route("/openapi.json", docs.Document, "operations"),
    Route("/docs", docs.Page, "operations"),
    Route("/docs/{file}", docs.Asset, "operations"),
    Route("/scheduler/docs", docs.PageBelow, "scheduler"),
)
"""Every path, with its handler and its section of the document."""
UNKNOWN_PATHS = (
    (r"/scheduler(?:/.*)?", scheduler_base.UnknownPath),
    (r"/(?:tasks|workers)/.*", rest_base.UnknownPath),
)
"""The other paths below those of a dialect; their errors have the form of the dialect."""


def application(master: Master) -> Application:
    """The Tornado application that serves a master's routes."""
    master.encode_job = lambda job: encode(job_reply(job, master.clock.wall_time))
    bodies = Budget("bodies_bytes_max", master.settings.bodies_bytes_max, LONG_BODIES)
    shared = {"master": master, "bodies": bodies}
    return Application(
        [
            *(
                (route.pattern, route.handler, shared | {"path": route.shown_path})
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
