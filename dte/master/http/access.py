"""Decides who makes a request, and whether it is served.

A master has two states. Without tokens it serves its own machine alone, unless its operator says
otherwise, and whoever reaches it may do all. With tokens, a request needs one whose role is among
those of its route. Requests that pages of other sites make are refused in both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus

from tornado.httputil import HTTPServerRequest

from dte.core.errors import Busy, DteError, Forbidden, Unauthorized
from dte.core.shares import OWN_USER
from dte.master.access import audit
from dte.master.access.caller import Caller, owner_named
from dte.master.access.guesses import Guesses
from dte.master.access.logins import COOKIE, Logins
from dte.master.access.roles import Roles
from dte.master.access.seeds import seed_at
from dte.master.access.tokens import Role, Token, Tokens
from dte.master.clock import Clock
from dte.master.http.forwarded import forwarded_host
from dte.master.http.stream import certified_name
from dte.master.networks import Networks
from dte.master.owners import owner_of
from dte.master.settings import Settings
from dte.wire.http.browsers import HostNames, refusal_of

BEARER = "bearer "
PATH_CHARS_SHOWN = 200
NO_TOKEN = "a token is needed: Authorization: Bearer TOKEN; dte token new makes one"
WRONG_TOKEN = "the token is unknown or has expired"


class Misdirected(DteError):
    """The request is for a server of another name."""

    status = HTTPStatus.MISDIRECTED_REQUEST
    code = "misdirected"


class WrongToken(Unauthorized):
    """The token is unknown or has expired.

    Attributes:
        pause_s: the time after which the request is refused.
    """

    def __init__(self, pause_s: float) -> None:
        super().__init__(WRONG_TOKEN)
        self.pause_s = pause_s


class Access:
    """Decides who makes a request, and whether it is served.

    Raises:
        TokensRefused: the file of tokens cannot be used.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        now: Callable[[], float] = clock.now
        self.tokens = Tokens(settings.tokens_file, changed=audit.changed)
        self.logins = Logins(self.tokens, now)
        self.guesses = Guesses(now)
        self._clock = clock
        self._names = HostNames(settings.host, settings.host_names)
        self._no_auth = settings.no_auth
        self._open_clients = settings.open_clients
        self.seeds = Networks(settings.seeds)

    @property
    def is_open(self) -> bool:
        """True while no tokens are in use: whoever is on this machine may do all."""
        return self._no_auth or not self.tokens

    def check_origin(self, request: HTTPServerRequest) -> None:
        """Refuse a request that a page of another site makes.

        Raises:
            Misdirected: it is for another host.
            Forbidden: a page of another origin makes it.
        """
        refusal = refusal_of(request.headers, self._names, forwarded_host(request))
        if refusal is not None:
            kind = Forbidden if refusal.status == HTTPStatus.FORBIDDEN else Misdirected
            raise kind(refusal.text)

    def caller(self, request: HTTPServerRequest) -> Caller | None:
        """Return who makes a request; None for nobody that is known.

        Raises:
            WrongToken: the token is unknown or has expired.
            Busy: the address has sent too many wrong ones just now.
        """
        address = request.remote_ip or ""
        if self.is_open:
            known = _without_token(Role.ADMIN, address)
            # Somebody forwards its port, or a proxy does, without which it would not be reached.
            return known if self._no_auth or known.owner == OWN_USER else None
        token = self._token(request, address)
        if token is not None:
            return Caller(token.role, owner_named(token.name), token)
        seed = seed_at(address, request.path, self.seeds) if self.seeds else None
        if seed is None and self._open_clients:
            return _without_token(Role.CLIENT, address)
        return seed

    def _token(self, request: HTTPServerRequest, address: str) -> Token | None:
        given = request.headers.get("Authorization", "")
        if given[: len(BEARER)].lower() == BEARER:
            return self.find(given[len(BEARER) :].strip(), address)
        cookie = request.cookies.get(COOKIE)
        token = None if cookie is None else self.logins.find(cookie.value, self.wall_s())
        if token is not None:
            return token
        named = certified_name(request)
        return self.tokens.named(named, self.wall_s()) if named else None

    def is_valid(self, caller: Caller) -> bool:
        """True unless the token of a caller is gone, has expired, or has another secret since."""
        if caller.token is None:
            return True
        token = self.tokens.named(caller.name, self.wall_s())
        return token is not None and token.sha256 == caller.token.sha256

    def find(self, secret: str, address: str) -> Token:
        """Find the token that an address sends.

        Raises:
            WrongToken, Busy: as `caller`.
        """
        token = self.tokens.find(secret, self.wall_s())
        if token is not None:
            return token
        pause_s = self.guesses.wrong(owner_of(address))
        if pause_s is None:
            raise Busy("too many wrong tokens from this address", retry_after_s=5)
        raise WrongToken(pause_s)

    def wall_s(self) -> float:
        return self._clock.wall_s(self._clock.now())


def check_role(caller: Caller | None, roles: Roles, request: HTTPServerRequest) -> None:
    """Check that a caller may make a request.

    Raises:
        Unauthorized: a token is needed.
        Forbidden: the token is for another role.
    """
    if not roles:
        return
    if caller is None:
        raise Unauthorized(NO_TOKEN)
    if caller.role not in roles:
        whose = (
            f"the token {caller.name} is for a {caller.role.value}"
            if caller.name
            else f"without a token you are a {caller.role.value}"
        )
        *most, last = [role.value for role in Role if role in roles]
        allowed = f"{', '.join(most)} or {last}" if most else last
        asked = f"{request.method} {request.path[:PATH_CHARS_SHOWN]}"
        raise Forbidden(f"{whose}, and {asked} needs the role {allowed}")


@lru_cache(maxsize=10_000)
def _without_token(role: Role, address: str) -> Caller:
    return Caller(role, owner_of(address))
