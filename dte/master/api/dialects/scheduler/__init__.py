"""The dialect of a scheduler of functions, which workers poll: ``/add_task``, ``/get_task`` and on.

A task is a job of one call, and its id the job's number as text. Each route is served under
``/scheduler`` as well. Errors are ``{"detail": …}``.
"""
