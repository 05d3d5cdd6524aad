"""The workloads on Celery with Redis as broker and for results: a `chain` of four signatures a job.

All chains of a workload are submitted before the first result is waited for. Two workers of the
`solo` pool, which does more here than `prefork` with two children. What costs and is not needed is
off: gossip, mingling and heartbeats of the workers, and storing the results of the first three
operations of a job. A worker takes 64 messages ahead, as is advised for short tasks.

There is no tree: what waits for two others is a chord, of which each is many messages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from celery import Celery, Task, chain
from celery.canvas import Signature
from harness.machine import HOST, free_port
from harness.processes import Processes, until_listening
from processes import unwind_on_sigterm

from peers.measuring import WORKERS, measure
from peers.operations import add, div, mul, sub

URL = "CELERY_BENCH_URL"
RESULT_TIMEOUT_S = 30.0

app = Celery("peers.with_celery", broker=os.environ.get(URL), backend=os.environ.get(URL))
app.conf.update(worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True)


adding: Task = app.task(add, ignore_result=True)
subtracting: Task = app.task(sub)
multiplying: Task = app.task(mul, ignore_result=True)
dividing: Task = app.task(div, ignore_result=True)


class OnCelery:
    """Chains, to be submitted to the workers that run."""

    def tree(self, numbers: Sequence[int]) -> int:
        raise NotImplementedError

    def jobs(self, numbers: Sequence[int]) -> list[float]:
        submitted = [job(number).apply_async() for number in numbers]
        return [result.get(timeout=RESULT_TIMEOUT_S) for result in submitted]

    def chain(self, number: int) -> float:
        answer: float = job(number).apply_async().get(timeout=RESULT_TIMEOUT_S)
        return answer


def job(number: int) -> Signature:
    return chain(multiplying.s(2, number), dividing.s(4), adding.s(number), subtracting.s(5))


@contextmanager
def redis_and_workers(port: int) -> Iterator[None]:
    """Redis, which keeps nothing on disk, and the workers, until the block ends."""
    bind = ["--bind", HOST, "--port", str(port)]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    with TemporaryDirectory(prefix="dte-bench-") as folder, Processes(Path(folder)) as processes:
        command = ["redis-server", *bind, "--save", "", "--appendonly", "no"]
        until_listening(processes.start(program=command), port)
        for number in range(WORKERS):
            worker = ["-A", "peers.with_celery", "worker", "--pool", "solo"]
            name = ["-n", f"bench-{number}@%h"]
            processes.start(program=[sys.executable, "-m", "celery", *worker, *name, *quiet])
        yield


if __name__ == "__main__":
    unwind_on_sigterm()
    port = free_port()
    url = f"redis://{HOST}:{port}/0"
    os.environ[URL] = url
    app.conf.update(broker_url=url, result_backend=url)
    with redis_and_workers(port):
        measure(OnCelery())
