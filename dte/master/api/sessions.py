"""Sessions of browsers: a token is given once, and a cookie stands for it."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import parse_qs

import msgspec

from dte.core.errors import InvalidRequest, Unauthorized
from dte.master.access.logins import COOKIE, LINK_S, SESSION_S
from dte.master.access.tokens import Token
from dte.master.api.base import JsonHandler
from dte.master.api.login import DOCS, login_page, next_page, policy
from dte.master.api.openapi import HTML, Content, documented
from dte.master.http.access import NO_TOKEN, WRONG_TOKEN, WrongToken
from dte.wire.codec import Decoder

FORM = "application/x-www-form-urlencoded"
USED_LINK = "the link is used or too old; run dte open again"


class Login(msgspec.Struct):
    """The body of `POST /session`."""

    token: str


class Known(msgspec.Struct):
    """Who makes the request: the name of the token, "" without one, and its role."""

    name: str
    role: str


class LinkReply(msgspec.Struct):
    """A link, relative to the root of the master, that begins a session once."""

    path: str
    expires_s: float


_login: Decoder[Login] = Decoder(Login, lenient=False)


class Session(JsonHandler):
    BODY_BYTES_MAX = 10_000

    @documented(
        "Get the name and the role of the token, or log in by a link",
        query={"code": str, "next": str},
        replies={200: (Known, HTML), 303: None},
        errors=(401,),
        description="A browser without a session gets a form. With `code`, that of a link of "
        "`POST /session/link`, a session begins.",
    )
    def get(self) -> None:
        code = self.get_query_argument("code", None)
        wanted = self.get_query_argument("next", DOCS)
        if code is not None:
            token = self.master.access.logins.follow(code, self.master.access.wall_s())
            if token is not None:
                self._begin(token)
                self._lead_to(wanted)
            elif self.wants_html:
                self._show_form(wanted, USED_LINK)
            else:
                raise Unauthorized(USED_LINK)
        elif self.identified is not None:
            self.reply(Known(self.caller.name, self.caller.role.value))
        elif self.wants_html:
            self._show_form(wanted)
        else:
            raise Unauthorized(NO_TOKEN)

    @documented(
        "Log in: begin a session, whose cookie stands for the token",
        body=(Login, Content(str, FORM)),
        replies={200: (Known, HTML), 303: None},
        errors=(401,),
    )
    async def post(self) -> None:
        raw = self.raw_body()
        is_form = FORM in self.request.headers.get("Content-Type", "") and raw[:1] != b"{"
        fields = parse_qs(raw.decode(errors="replace")) if is_form else {}
        secret = fields.get("token", [""])[0] if is_form else self.decoded(raw, _login).token
        wanted = fields.get("next", [DOCS])[0]
        access = self.master.access
        if access.is_open:
            raise InvalidRequest("this master has no tokens; requests need none")
        try:
            token = access.find(secret.strip(), self.request.remote_ip or "")
        except WrongToken as error:
            if error.pause_s:
                await self.pause(error)
            if not is_form:
                raise
            self._show_form(wanted, WRONG_TOKEN)
            return
        self._begin(token)
        if is_form:
            self._lead_to(wanted)
        else:
            self.reply(Known(token.name, token.role.value))

    @documented("Log out: end the session", replies={204: None})
    def delete(self) -> None:
        cookie = self.request.cookies.get(COOKIE)
        if cookie is not None:
            self.master.access.logins.end(cookie.value)
        self.clear_cookie(COOKIE)
        self.reply_nothing()

    def _begin(self, token: Token) -> None:
        self.set_cookie(
            COOKIE,
            self.master.access.logins.begin(token),
            max_age=int(SESSION_S),
            httponly=True,
            samesite="Strict",
            secure=self.request.protocol == "https",
        )

    def _lead_to(self, wanted: str) -> None:
        self.set_status(HTTPStatus.SEE_OTHER)
        self.set_header("Location", next_page(wanted))
        self.finish()

    def _show_form(self, wanted: str, error: str = "") -> None:
        if error:
            self.set_status(HTTPStatus.UNAUTHORIZED)
        self.show_page(login_page(self.request.path, wanted, error), policy())


class Link(JsonHandler):
    @documented(
        "Make a link that logs a browser in once",
        replies={200: LinkReply},
        description="It is for the person who has the token, and is valid for a minute.",
    )
    def post(self) -> None:
        token = self.caller.token
        if token is None:
            self.reply(LinkReply(DOCS, LINK_S))
            return
        code = self.master.access.logins.link(token)
        self.reply(LinkReply(f"session?code={code}", LINK_S))
