"""Tokens: who may use a master, and for what.

A token is a secret with a name and a role. A file keeps the SHA-256 of each secret, one JSON object
a line; the secret is shown once, when the token is made. A master reads the file again when it has
changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from math import isfinite
from operator import attrgetter
from typing import Any

import msgspec

from dte.ownership import is_open_to_all, mode_of
from dte.wire.faults import plain, syntax_fault

log = logging.getLogger("dte.master")

FILE_NAME = "dte.tokens"
PRIVATE = 0o600
OTHERS = 0o077
"""What the group and all others may do with a file."""
FILE_BYTES_MAX = 1_000_000
LOOK_EVERY_S = 1.0
CHANGES_LOGGED = 20
SECRET_BYTES = 32
MARK_CHARS = 16
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class TokensRefused(ValueError):
    """A file of tokens, or what is to be written into it, is wrong. The text says what to do."""


class NameTaken(TokensRefused):
    """There is a token of this name."""


class NoSuchToken(TokensRefused):
    """There is no token of this name."""


class Role(StrEnum):
    """What a token allows."""

    CLIENT = "client"
    READER = "reader"
    WORKER = "worker"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret.

    Attributes:
        sha256: of the secret, in hexadecimal digits.
        handlers: patterns of the handlers that it may call, or have if it is a worker's.
        jobs_waiting_max: the most unfinished jobs that it may have; None for the master's bound.
        expires_at: the wall time from which it is refused, in seconds; None for never.
        code: it may send code.
    """

    name: str
    role: Role
    sha256: str
    handlers: tuple[str, ...] = ("*",)
    jobs_waiting_max: int | None = None
    expires_at: float | None = None
    code: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if not SHA256.fullmatch(self.sha256):
            raise TokensRefused("sha256 must have 64 hexadecimal digits, in lower case")
        if not self.handlers or not all(self.handlers):
            raise TokensRefused("handlers must be names or patterns, such as resize or image.*")
        if self.jobs_waiting_max is not None and self.jobs_waiting_max < 1:
            raise TokensRefused(f"jobs_waiting_max must be 1 or more, not {self.jobs_waiting_max}")
        if self.expires_at is not None and not isfinite(self.expires_at):
            raise TokensRefused("expires_at must be a number of seconds")

    @property
    def mark(self) -> str:
        """Tells the token from others of its name; one with other rights is another, too."""
        return hash_of(f"{self.role} {self.sha256} {' '.join(self.handlers)}")[:MARK_CHARS]

    def may_use(self, handler: str) -> bool:
        """True if the token is for calls of this handler."""
        return any(fnmatchcase(handler, pattern) for pattern in self.handlers)

    def has_expired(self, wall_s: float) -> bool:
        return self.expires_at is not None and wall_s >= self.expires_at


DEFAULTS = {each.name: each.default for each in fields(Token)}


def check_name(name: str) -> None:
    """Check the name of a token; raise `TokensRefused` if it has other characters."""
    if not NAME.fullmatch(name):
        shown = name if name.isprintable() else ascii(name)
        raise TokensRefused(
            f'the name {shown[:120]!r} is not 1 to 100 letters, digits, "_", "-" and "."'
        )


def file_beside(journal: str) -> str:
    """The default file of a master's tokens: beside its journal, or in the current folder."""
    folder = "" if journal == "none" else os.path.dirname(journal)
    return os.path.join(folder, FILE_NAME)


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _new_secret(role: Role) -> str:
    return f"dte_{role[0]}_{secrets.token_urlsafe(SECRET_BYTES)}"


class TokenFile:
    """A file of tokens, which only its owner may open."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> tuple[Token, ...]:
        """Read the tokens; none if there is no such file.

        Raises:
            TokensRefused: others may open the file, or it is malformed.
        """
        try:
            with open(self.path, "rb", opener=_open_without_waiting) as file:
                self._check(os.fstat(file.fileno()))
                self._check_folder()
                raw = file.read(FILE_BYTES_MAX + 1)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise TokensRefused(f"cannot read {self.path}: {error.strerror}") from None
        if len(raw) > FILE_BYTES_MAX:
            raise TokensRefused(f"{self.path} has more than {FILE_BYTES_MAX:,} bytes")
        return self._tokens(raw)

    def new(
        self,
        role: Role,
        name: str,
        *,
        handlers: Sequence[str] = ("*",),
        jobs_waiting_max: int | None = None,
        expires_at: float | None = None,
        code: bool = False,
    ) -> str:
        """Make a token, and return its secret, which nobody can get later.

        Raises:
            NameTaken: there is a token of this name.
            TokensRefused: an argument is wrong, or the file is refused.
        """
        secret = _new_secret(role)
        token = Token(
            name, role, hash_of(secret), tuple(handlers), jobs_waiting_max, expires_at, code
        )
        self._check_folder()
        with self._locked():
            tokens = self.read()
            if any(each.name == name for each in tokens):
                raise NameTaken(f"{self.path} has a token named {name} already")
            self._write([*tokens, token])
        return secret

    def remove(self, name: str) -> None:
        """Remove a token.

        Raises:
            NoSuchToken: there is none of this name.
            TokensRefused: the file is refused.
        """
        check_name(name)
        if not os.path.exists(self.path):
            raise NoSuchToken(f"there is no file {self.path}")
        with self._locked():
            tokens = self.read()
            left = [each for each in tokens if each.name != name]
            if len(left) == len(tokens):
                raise NoSuchToken(f"{self.path} has no token named {name}")
            self._write(left)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise TokensRefused(f"{self.path} is not a regular file; give another file of tokens")
        user = os.geteuid()
        if found.st_uid != user:
            raise TokensRefused(
                f"{self.path} belongs to the user {found.st_uid}, and this is the user {user}; run "
                f"this as that user, or give the file to this one: chown {user} {self.path}"
            )
        mode = stat.S_IMODE(found.st_mode)
        if mode & OTHERS:
            raise TokensRefused(
                f"others may open {self.path} (mode {mode:04o}); to prevent that: "
                f"chmod 600 {self.path}"
            )

    def _check_folder(self) -> None:
        """Refuse a folder where every user may put another file in the place of this one."""
        folder = os.path.dirname(self.path) or os.path.realpath(os.curdir)
        try:
            found = os.stat(folder)
        except OSError:
            return  # The file cannot be written or read either, which is another error.
        if is_open_to_all(found):
            raise TokensRefused(
                f"every user may replace {self.path}, as its folder has the mode "
                f"{mode_of(found):04o}; to prevent that: chmod o-w {folder}"
            )

    def _tokens(self, raw: bytes) -> tuple[Token, ...]:
        tokens: dict[str, Token] = {}
        for number, line in enumerate(raw.splitlines(), 1):
            if not line.strip():
                continue
            try:
                token = _token(line)
            except ValueError as error:
                text = f"{self.path}, line {number}: {error}; mend or delete this line"
                raise TokensRefused(text) from None
            if token.name in tokens:
                text = f"there is a token named {token.name} above; delete one of them"
                raise TokensRefused(f"{self.path}, line {number}: {text}")
            tokens[token.name] = token
        return tuple(tokens.values())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process change the file meanwhile; create it if there is none."""
        try:
            lock = _lock(self.path)
            try:
                yield
            finally:
                os.close(lock)
        except OSError as error:
            raise TokensRefused(f"cannot write {self.path}: {error.strerror}") from None

    def _write(self, tokens: Sequence[Token]) -> None:
        """Put a new file in the place of the present one."""
        lines = [json.dumps(_entry(each), ensure_ascii=False) for each in tokens]
        raw = "".join(f"{line}\n" for line in lines).encode()
        if len(raw) > FILE_BYTES_MAX:
            raise TokensRefused(f"{self.path} would have more than {FILE_BYTES_MAX:,} bytes")
        target = os.path.realpath(self.path)
        part = f"{target}.{secrets.token_hex(4)}.part"
        try:
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
            with open(file, "wb") as stream:
                stream.write(raw)
                stream.flush()
                os.fsync(file)
            os.replace(part, target)
        finally:
            with suppress(OSError):
                os.unlink(part)


Changed = Callable[[Sequence[Token], Sequence[Token]], None]


class Tokens:
    """The tokens of a running master, from a file that is read again when it changes.

    The file is looked at once a second at most. While it is refused, the previous ones stay.
    `bool` is True once there has been a token: from then on requests need one.

    Args:
        clock: gives seconds.
        changed: is given those that are gone and those that are new, when the file has changed.

    Attributes:
        changes: how often they have changed.

    Raises:
        TokensRefused: the file is wrong at the start.
    """

    def __init__(
        self,
        path: str,
        clock: Callable[[], float] = time.monotonic,
        changed: Changed = lambda gone, new: None,
    ) -> None:
        self._file = TokenFile(path)
        self._clock = clock
        self._changed = changed
        self._look_at = clock() + LOOK_EVERY_S
        self._seen = self._look()
        self._by_hash: dict[str, Token] = {}
        self._by_name: dict[str, Token] = {}
        self._own: list[Token] = []
        self._in_use = False
        self.changes = 0
        self._use(self._file.read())

    def __bool__(self) -> bool:
        self.reload()
        return self._in_use

    def find(self, secret: str, wall_s: float) -> Token | None:
        """The token with this secret; None if there is none, or if it has expired."""
        self.reload()
        digest = hash_of(secret)
        if digest not in self._by_hash:  # It may have been made just now.
            self._look_at = self._clock()
            self.reload()
        # A hash says nothing of those that are like it, so how long this takes says nothing either.
        return _valid(self._by_hash.get(digest), wall_s)

    def named(self, name: str, wall_s: float) -> Token | None:
        """The token of this name; None if there is none, or if it has expired."""
        self.reload()
        return _valid(self._by_name.get(name), wall_s)

    def admit(self, role: Role, name: str) -> str:
        """Make a token that is in no file, for what this process starts; return its secret."""
        secret = _new_secret(role)
        token = Token(name, role, hash_of(secret))
        self._own.append(token)
        self._by_hash[token.sha256] = token
        self._by_name.setdefault(name, token)
        return secret

    def reload(self) -> None:
        """Read the file again if it has changed, and if it was not looked at just now."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            if seen is None and self._in_use:
                raise TokensRefused(f"there is no {self._file.path} any more")
            tokens = self._file.read()
        except TokensRefused as error:
            text = "the previous tokens stay valid, as their file is refused: %s"
            log.error(text, error)
            return
        before = set(self._by_hash.values())
        self._use(tokens)
        self.changes += 1
        new = [each for each in tokens if each not in before]
        gone = sorted(before.difference(tokens, self._own), key=attrgetter("name"))
        changes = [f"{each.name} is new" for each in new]
        changes += [f"{each.name} is gone" for each in gone]
        shown = "".join(f"; {change}" for change in changes[:CHANGES_LOGGED])
        log.info("tokens in %s: %d%s", self._file.path, len(tokens), shown)
        self._changed(gone, new)

    def _look(self) -> tuple[int, ...] | None:
        """What differs when the file has changed; None if there is none."""
        try:
            found = os.stat(self._file.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid

    def _use(self, tokens: Sequence[Token]) -> None:
        known = [*self._own, *tokens]
        self._by_hash = {each.sha256: each for each in known}
        self._by_name = {each.name: each for each in known}
        self._in_use = self._in_use or bool(tokens)


def _valid(token: Token | None, wall_s: float) -> Token | None:
    return None if token is None or token.has_expired(wall_s) else token


def _token(line: bytes) -> Token:
    """Read a line; raise ValueError if it is no token."""
    fault = syntax_fault(line)
    if fault is not None:
        raise ValueError(fault)
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("a token is a JSON object")
    # An unknown field may restrict the token, so it is not passed over.
    if unknown := found.keys() - DEFAULTS.keys():
        raise ValueError(f"unknown field {min(unknown)!r}")
    if found.get("role", Role.CLIENT) not in list(Role):
        raise ValueError(f"role must be {', '.join(Role)}, not {found['role']!r:.50}")
    try:
        return msgspec.convert(found, Token)
    except msgspec.ValidationError as error:
        raise ValueError(plain(error)) from None


def _entry(token: Token) -> dict[str, Any]:
    return {name: value for name, value in asdict(token).items() if value != DEFAULTS[name]}


def _lock(path: str) -> int:
    """Open a file that no other process has locked, and lock it until it is closed."""
    import fcntl  # Windows has none, where clients run.

    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, PRIVATE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock before may have put another file there.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file, but not a pipe until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)
