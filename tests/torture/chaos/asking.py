"""Requests of clients that know nothing but HTTP, and try again whatever happens to the master."""

from __future__ import annotations

import asyncio
from random import Random

from harness.http import Malformed, Message, NoReply, exchange
from torture.chaos.accounting import Anomaly, Ledger

RETRY_S = (0.02, 0.4)
TRY_AGAIN = (429, 503, 507)
WAIT_S = 2.0


class Asking:
    """Asks a master, on a connection for each request.

    Args:
        port: where clients find the master.
        ledger: is told of replies that nothing explains.
        randoms: decides about pauses.
    """

    def __init__(self, port: int, ledger: Ledger, randoms: Random) -> None:
        self._port = port
        self._ledger = ledger
        self._randoms = randoms
        self._key = randoms.randrange(10**12)

    def new_key(self) -> str:
        """An Idempotency-Key that was not used before."""
        self._key += 1
        return f"chaos-{self._key}"

    async def once(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> Message | None:
        """A reply that says something; None, after a pause, if it is worth another try."""
        try:
            timeout_s = WAIT_S + self._randoms.uniform(0.3, 3.0)
            headers = {} if key is None else {"Idempotency_Key": key}
            reply = await exchange(self._port, method, path, body, timeout_s=timeout_s, **headers)
            if reply.status not in TRY_AGAIN:
                return reply
        except NoReply:
            pass
        except Malformed as error:
            self.unexpected(f"for {method} {path}: {error}")
        await self.pause()
        return None

    async def until_replied(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> Message:
        """The first reply that says something, however often it takes."""
        while True:
            reply = await self.once(method, path, body, key)
            if reply is not None:
                return reply

    async def pause(self) -> None:
        """Wait a moment before another try."""
        await asyncio.sleep(self._randoms.uniform(*RETRY_S))

    def unexpected(self, sentence: str) -> None:
        """Note a reply that no kill and no fault explains."""
        self._ledger.found(Anomaly.UNEXPECTED, sentence, sentence)
