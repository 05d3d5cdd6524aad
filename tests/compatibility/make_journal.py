"""Makes the journal of a landed commit, and notes what its own master says when it opens it.

    PYTHONPATH=tests .venv/bin/python -m compatibility.make_journal COMMIT

It writes `journals/COMMIT.sql` and `journals/COMMIT.json`. Then add the commit to `landed.LANDED`.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from harness.cluster import Cluster
from harness.machine import HOST, taken_port
from harness.processes import Processes

from compatibility.landed import extract
from compatibility.scenario import SETTINGS, Filling, finish, read
from compatibility.stored import FOLDER, WORKER, as_text, dump_journal


def main(commit: str) -> None:
    with tempfile.TemporaryDirectory(prefix="dte-") as place:
        folder = Path(place)
        extract(commit, folder / "code")
        with Processes(folder, PYTHONPATH=str(folder / "code")) as processes:
            with taken_port() as port:
                cluster = Cluster(processes, 1, **SETTINGS)
                filling = Filling(cluster, port)
                filling.fill()
                cluster.master.end(signal.SIGKILL)
                text = dump_journal(folder / "journal.db", f"{HOST}:{port}")
                cluster.start_master()
                replies = read(cluster.client)
            ends = finish(cluster, filling.leases)
    found = {"leases": filling.leases, "keyed": filling.keyed, "replies": replies, "ends": ends}
    (FOLDER / f"{commit}.sql").write_text(text)
    (FOLDER / f"{commit}.json").write_text(as_text(found).replace(f"{HOST}:{port}", WORKER))


if __name__ == "__main__":
    main(*sys.argv[1:])
