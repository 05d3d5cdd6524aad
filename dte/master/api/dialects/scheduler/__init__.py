"""The dialect of a function scheduler that workers poll: ``/add_task``, ``/get_task`` and more.

A task is a job of one call; its id is the job's number as text. Each route is also served under
``/scheduler``. Errors are ``{"detail": …}``.
"""
