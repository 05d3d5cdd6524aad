"""Keeps in the journal what is known of workers that do not announce themselves again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dte.core.errors import Unavailable
from dte.core.graph.handlers import HandlerPolicy
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Announcement, Delivery
from dte.logs import LimitedLog, one_line
from dte.master.journal.memory import AnyRecorder

NOTED_MAX = 2_000
"""Stored announcements that are noted before those of workers that are not known any more go."""
UNSTORED = "announcements that cannot be stored"


@dataclass(eq=False)
class StoredWorkers:
    """The announcements and the replaced handlers that the journal has, or will have.

    What cannot be written is written when the journal works again.
    """

    core: Scheduler
    recorder: AnyRecorder
    limited: LimitedLog

    def __post_init__(self) -> None:
        self._stored: dict[str, Announcement] = {}
        self._to_store: dict[str, Announcement] = {}
        self._replaced: dict[str, HandlerPolicy] = {}
        self._storing: asyncio.Task[None] | None = None
        self._replaced_stored = True
        self._storing_replaced: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Write nothing more."""
        for storing in (self._storing, self._storing_replaced):
            if storing is not None:
                storing.cancel()

    def restore(self, replaced: Mapping[str, HandlerPolicy]) -> None:
        """Take over what the journal knows of built-in handlers that workers have replaced."""
        self._replaced = dict(replaced)

    def recorded(self) -> None:
        """Store what could not be stored before: the journal works again."""
        if self._to_store:
            self._storing = asyncio.get_running_loop().create_task(self._store())
        if not self._replaced_stored:
            self._start_storing_replaced()

    async def note(self, announcement: Announcement) -> None:
        """Store the announcement of a worker that announces itself only once."""
        if _is_stored(announcement) and self._stored.get(announcement.identity) != announcement:
            self._to_store[announcement.identity] = announcement
            await self._store()

    def forget(self, announcement: Announcement) -> None:
        """Store no longer the announcement of a worker that announces itself only once."""
        if _is_stored(announcement):
            self._to_store[announcement.identity] = replace(announcement, draining=True)
            self._storing = asyncio.get_running_loop().create_task(self._store())

    def note_replaced(self) -> None:
        """Store which built-in handlers are replaced, if that has changed."""
        if self._replaced == self.core.handlers.replaced:
            return
        self._replaced = dict(self.core.handlers.replaced)
        self._start_storing_replaced()

    def _start_storing_replaced(self) -> None:
        storing = self._store_replaced()
        self._storing_replaced = asyncio.get_running_loop().create_task(storing)

    async def _store_replaced(self) -> None:
        self._replaced_stored = True
        try:
            await self.recorder.remember_replaced(self._replaced)
        except Unavailable as error:
            text = "replaced handlers cannot be stored yet: %s"
            self.limited.add(UNSTORED, logging.WARNING, text, error)
            self._replaced_stored = False

    async def _store(self) -> None:
        """Store announcements in the journal, or keep them for later if it cannot be written."""
        while self._to_store:
            identity, announcement = self._to_store.popitem()
            try:
                await self.recorder.remember(announcement)
                self._note_stored(identity, announcement)
            except Unavailable as error:
                text, name = "worker %s cannot be stored yet: %s", one_line(announcement.name)
                self.limited.add(UNSTORED, logging.WARNING, text, name, error)
                self._to_store.setdefault(identity, announcement)
                return

    def _note_stored(self, identity: str, announcement: Announcement) -> None:
        if announcement.draining:
            self._stored.pop(identity, None)
            return
        self._stored[identity] = announcement
        if len(self._stored) > NOTED_MAX:
            known = self.core.worker
            self._stored = {each: said for each, said in self._stored.items() if known(each)}


def _is_stored(announcement: Announcement) -> bool:
    """True for a worker that announces itself only once."""
    return announcement.delivery is Delivery.MAILBOX or (
        announcement.delivery is Delivery.PUSH and not announcement.incarnation
    )
