"""The workloads on Ray: tasks that take the references of others' results.

All tasks of a workload are submitted before the first result is asked for, and results are read in
one `ray.get`, as Ray's documentation advises. Small results travel inside of replies, not by way of
the object store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from processes import unwind_on_sigterm

from peers.measuring import WORKERS, measure
from peers.operations import add, div, mul, sub


class Ray:
    """Ray on this machine with a process for each of two CPUs."""

    def __init__(self) -> None:
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        self._add, self._sub, self._mul, self._div = (
            ray.remote(num_cpus=1)(function) for function in (add, sub, mul, div)
        )

    def tree(self, numbers: Sequence[int]) -> int:
        level: list[Any] = list(numbers)
        while len(level) > 1:
            level = [self._add.remote(*pair) for pair in zip(level[::2], level[1::2], strict=True)]
        answer: int = ray.get(level[0])
        return answer

    def jobs(self, numbers: Sequence[int]) -> list[float]:
        answers: list[float] = ray.get([self._job(number) for number in numbers])
        return answers

    def chain(self, number: int) -> float:
        answer: float = ray.get(self._job(number))
        return answer

    def _job(self, number: int) -> Any:
        half = self._div.remote(self._mul.remote(2, number), 4)
        return self._sub.remote(self._add.remote(half, number), 5)


if __name__ == "__main__":
    unwind_on_sigterm()
    try:
        measure(Ray())
    finally:
        ray.shutdown()
