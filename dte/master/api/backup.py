"""A copy of the journal, for its operators."""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus

from tornado.iostream import StreamClosedError

from dte.core.errors import Conflict, StorageFull, Unavailable
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import Content, documented

SQLITE = Content(None, "application/vnd.sqlite3")
CHUNK_BYTES = 262_144


class Backup(JsonHandler):
    @documented(
        "Copy the journal while the master runs",
        replies={200: SQLITE},
        errors=(Conflict.status, Unavailable.status, StorageFull.status),
        description="The reply is a SQLite file with all jobs of the moment in which the copy was "
        "finished; a master can start with it. It is complete if it has Content-Length bytes. One "
        "copy is made at a time. It needs as much room as the journal, beside it, for a while.",
    )
    async def post(self) -> None:
        async with self.master.recorder.copied(self.gone) as copy:
            self.set_status(HTTPStatus.OK)
            self.set_header("Content-Type", SQLITE.media)
            self.set_header("Content-Disposition", 'attachment; filename="dte-backup.db"')
            self.set_header("Content-Length", os.fstat(copy.fileno()).st_size)
            loop = asyncio.get_running_loop()
            try:
                # The disk may be slow, which must not block the loop.
                while chunk := await loop.run_in_executor(None, copy.read, CHUNK_BYTES):
                    self.write(chunk)
                    await self.flush()
            except StreamClosedError:
                return
            except OSError:
                # The client sees that bytes are missing.
                self.request.connection.close()  # type: ignore[union-attr]
                return
        self.finish()
