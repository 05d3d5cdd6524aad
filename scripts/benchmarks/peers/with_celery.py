"""The workloads on Celery with Redis as broker and for results: a `chain` of four signatures a job.

All chains of a workload are submitted before the first result is waited for. Two workers of the
`solo` pool, which does more here than `prefork` with two children. What costs and is not needed is
off: gossip, mingling and heartbeats of the workers, and storing the results of the first three
operations of a job. A worker takes 64 messages ahead, as is advised for short tasks.

There is no tree: what waits for two others is a chord, of which each is many messages.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import create_server

import redis
from celery import Celery, Task, chain
from celery.canvas import Signature
from processes import unwind_on_sigterm

from peers.measuring import WORKERS, measure
from peers.operations import add, div, mul, sub

URL = "CELERY_BENCH_URL"
START_TIMEOUT_S = 10.0
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
def processes(port: int) -> Iterator[None]:
    """Redis, which keeps nothing on disk, and the workers, until the block ends."""
    bind = ["--bind", "127.0.0.1", "--port", str(port)]
    commands = [["redis-server", *bind, "--save", "", "--appendonly", "no"]]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    for number in range(WORKERS):
        worker = ["-A", "peers.with_celery", "worker", "--pool", "solo", "-n", f"bench-{number}@%h"]
        commands.append([sys.executable, "-m", "celery", *worker, *quiet])
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            silent = subprocess.DEVNULL
            started.append(subprocess.Popen(command, stdout=silent, stderr=silent))
            if len(started) == 1:
                wait_for_redis(port)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def wait_for_redis(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


if __name__ == "__main__":
    unwind_on_sigterm()
    with create_server(("127.0.0.1", 0)) as listener:
        free_port = listener.getsockname()[1]
    url = f"redis://127.0.0.1:{free_port}/0"
    os.environ[URL] = url
    app.conf.update(broker_url=url, result_backend=url)
    with processes(free_port):
        measure(OnCelery())
