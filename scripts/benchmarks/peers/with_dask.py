"""The workloads on Dask's distributed scheduler: one graph for each submission.

`Client.get` takes the graph itself, which costs less than building it of `delayed` or submitting
call by call. The dashboard is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, mul, sub, truediv
from typing import Any

from dask.distributed import Client, LocalCluster
from processes import unwind_on_sigterm

from peers.measuring import WORKERS, measure


class Dask:
    """A scheduler and two worker processes of one thread each."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._jobs = 0

    def tree(self, numbers: Sequence[int]) -> int:
        graph: dict[str, Any] = {}
        level: list[Any] = list(numbers)
        while len(level) > 1:
            pairs = list(zip(level[::2], level[1::2], strict=True))
            level = [f"sum-{numbers[0]}-{len(pairs)}-{place}" for place in range(len(pairs))]
            graph.update((name, (add, *pair)) for name, pair in zip(level, pairs, strict=True))
        answer: int = self._client.get(graph, level[0])
        return answer

    def jobs(self, numbers: Sequence[int]) -> list[float]:
        graph: dict[str, Any] = {}
        names = [self._put_job(graph, number) for number in numbers]
        return list(self._client.get(graph, names))

    def chain(self, number: int) -> float:
        graph: dict[str, Any] = {}
        answer: float = self._client.get(graph, self._put_job(graph, number))
        return answer

    def _put_job(self, graph: dict[str, Any], number: int) -> str:
        self._jobs += 1  # Equal names would be one task, whose result is known.
        name = f"job-{self._jobs}"
        graph[f"{name}-mul"] = (mul, 2, number)
        graph[f"{name}-div"] = (truediv, f"{name}-mul", 4)
        graph[f"{name}-add"] = (add, f"{name}-div", number)
        graph[name] = (sub, f"{name}-add", 5)
        return name


if __name__ == "__main__":
    unwind_on_sigterm()
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        measure(Dask(client))
