"""The dialect of a task queue that workers poll: ``/submit-task``, ``/get-task`` and more.

A task is a job of one call: `task_type` is the name of the handler, and `task_data` are its named
arguments. Jobs of other dialects are shown as tasks, too.
"""
