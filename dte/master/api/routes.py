"""The routes of a master, as a table."""

from __future__ import annotations

from tornado.web import Application

from dte.master.api import formula, ops
from dte.master.api.base import BodyMeter, UnknownPath
from dte.master.master import Master

ROUTES = [
    (r"/submit", formula.Submit),
    (r"/job/([^/]+)", formula.OneJob),
    (r"/jobs", formula.Jobs),
    (r"/worker", formula.Workers),
    (r"/health", ops.Health),
]


def application(master: Master) -> Application:
    """The Tornado application that serves a master's routes."""
    shared = {"master": master, "bodies": BodyMeter(master.settings.bodies_bytes_max)}
    return Application(
        [(path, handler, shared) for path, handler in ROUTES],
        default_handler_class=UnknownPath,
        default_handler_args=shared,
        log_function=lambda handler: None,
    )
