"""Masters with a journal, and without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from master.rig import Rig, StartMaster


@pytest.fixture(params=["memory", "journal"])
def start(request: pytest.FixtureRequest, start_master: StartMaster, tmp_path: Path) -> StartMaster:
    """Starts a master, once with a journal and once without."""
    journal = "none" if request.param == "memory" else str(tmp_path / "journal.db")

    async def start(**bounds: Any) -> Rig:
        return await start_master(journal=journal, **bounds)

    return start


@pytest.fixture
def keeping(io_loop: IOLoop, start: StartMaster) -> Rig:
    """A master with its default bounds, once with a journal and once without."""
    return io_loop.run_sync(start)


@pytest.fixture
def start_journaled(start_master: StartMaster, tmp_path: Path) -> StartMaster:
    """Starts a master with a journal, which the next one goes on with."""

    async def start(**bounds: Any) -> Rig:
        return await start_master(journal=str(tmp_path / "journal.db"), **bounds)

    return start
