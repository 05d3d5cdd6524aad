"""The dialect of a queue of tasks, which workers poll: ``/submit-task``, ``/get-task`` and on.

A task is a job of one call: its `task_type` names the handler, its `task_data` are the named
arguments. Whatever else is in the master is shown as well as it can be in these words.
"""
