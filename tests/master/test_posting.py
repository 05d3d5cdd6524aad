"""One webhook: its signatures, and that it goes to the address that was checked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from harness.http import Line, PlainServer, ServePlainly
from harness.http import Message as Request
from harness.skips import missing

from dte.master.destinations import Destinations
from dte.master.posting import (
    Message,
    Poster,
    signature,
    standard_signature,
    trusted_by_system,
    url_signature,
)

MESSAGE = Message("job_7_1000", b'{"job_id":7}')
SECRET = "sesame"
HOST = "127.0.0.1"


class Fixed(Destinations):
    """Gives addresses of this machine for every name, and counts how often it is asked."""

    def __init__(self, hosts: Sequence[str] = (HOST,)) -> None:
        super().__init__([])
        self._hosts = hosts
        self.asked = 0

    async def addresses(self, url: str) -> list[tuple[int, Any]]:
        self.asked += 1
        port = int(url.split("/")[2].rpartition(":")[2])
        return [(socket.AF_INET, (host, port)) for host in self._hosts]


async def taking(request: Request, line: Line) -> None:
    await line.reply(200)


def hmac_of(key: bytes, signed: bytes) -> bytes:
    return hmac.new(key, signed, hashlib.sha256).digest()


# Signatures


async def test_each_form_of_signature_is_sent_beside_the_others(
    serve_plainly: ServePlainly,
) -> None:
    receiver = await serve_plainly(taking)
    url = f"http://{HOST}:{receiver.port}/done?key=1"
    assert await Poster(SECRET, Fixed()).post(url, MESSAGE) == 200
    (request,) = receiver.requests
    at = request.headers["x-dte-timestamp"].encode()
    key, body = SECRET.encode(), request.body
    expected = f"sha256={hmac_of(key, at + b'.' + body).hex()}"
    assert request.headers["x-dte-signature"] == expected
    with_url = f"sha256={hmac_of(key, at + b'.' + url.encode() + b'.' + body).hex()}"
    assert request.headers["x-dte-url-signature"] == with_url
    assert request.headers["webhook-id"] == MESSAGE.id
    assert request.headers["webhook-timestamp"].encode() == at
    standard = base64.b64encode(hmac_of(key, b"job_7_1000." + at + b"." + body)).decode()
    assert request.headers["webhook-signature"] == f"v1,{standard}"


async def test_without_a_secret_nothing_is_signed(serve_plainly: ServePlainly) -> None:
    receiver = await serve_plainly(taking)
    await Poster("", Fixed()).post(f"http://{HOST}:{receiver.port}/", MESSAGE)
    (request,) = receiver.requests
    assert not [name for name in request.headers if name.endswith("signature")]
    assert request.headers["webhook-id"] == MESSAGE.id


def test_a_signature_fits_its_url_alone() -> None:
    urls = ("http://a/", "http://a/x", "http://b/", "https://a/")
    assert len({url_signature(SECRET, "100", url, b"1") for url in urls}) == len(urls)
    assert url_signature(SECRET, "100", "http://a/", b"1") != signature(SECRET, "100", b"1")


def test_a_secret_of_standard_webhooks_is_the_key_that_it_encodes() -> None:
    """The example of a library of theirs."""
    secret, message = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'),
    )
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert standard_signature(secret, "1614265330", message) == expected
    assert standard_signature("whsec_?", "1", message).startswith("v1,"), "a text like others"


# The address


async def test_the_name_is_not_resolved_again(
    serve_plainly: ServePlainly, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, places = await serve_plainly(taking), Fixed()

    def none(*name: Any, **options: Any) -> Any:
        raise AssertionError(f"{name} is resolved")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    poster = Poster(SECRET, places)
    for _ in range(2):
        assert await poster.post(f"http://hook.example:{receiver.port}/done", MESSAGE) == 200
    assert places.asked == 2, "once for each try"
    for request in receiver.requests:
        assert request.headers["host"] == f"hook.example:{receiver.port}"


async def test_the_next_address_is_tried_if_one_refuses(serve_plainly: ServePlainly) -> None:
    receiver = await serve_plainly(taking)
    places = Fixed(["127.0.0.9", HOST])
    assert await Poster(SECRET, places).post(f"http://hook.example:{receiver.port}/", MESSAGE)
    assert len(receiver.requests) == 1


async def test_a_name_that_takes_too_long_to_resolve_is_an_error() -> None:
    class Slow(Fixed):
        async def addresses(self, url: str) -> list[tuple[int, Any]]:
            await asyncio.Event().wait()
            return []

    with pytest.raises(TimeoutError):
        await Poster(SECRET, Slow(), timeout_s=0.01).post("http://hook.example/", MESSAGE)


# Certificates


def certificate_for(folder: Path, name: str) -> ssl.SSLContext:
    """A server's side for a name, with a new certificate in ``cert.pem`` that it signed itself."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed")
    key, cert = folder / "key.pem", folder / "cert.pem"
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    where = ("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", f"/CN={name}")
    names = ("-addext", f"subjectAltName=DNS:{name}")
    subprocess.run(["openssl", *made, *where, *names], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


@pytest.fixture
def forget_trusted() -> Iterator[None]:
    """What the system trusts is read again, in the test and after it."""
    trusted_by_system.cache_clear()
    yield
    trusted_by_system.cache_clear()


@pytest.mark.usefixtures("forget_trusted")
async def test_a_receiver_behind_tls_is_asked_by_its_name_and_must_prove_it(
    tmp_path: Path, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = certificate_for(tmp_path, "hook.example")
    asked: list[str | None] = []
    serving.sni_callback = lambda line, name, context: asked.append(name)
    receiver = PlainServer(taking)
    cleanup.push_async_callback(receiver.stop)
    await receiver.start(secure=serving)
    poster, port = Poster(SECRET, Fixed()), receiver.port
    with pytest.raises(ssl.SSLError):  # Nobody vouches for the certificate.
        await poster.post(f"https://hook.example:{port}/", MESSAGE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    trusted_by_system.cache_clear()
    with pytest.raises(ssl.SSLError):  # It is another's.
        await poster.post(f"https://other.example:{port}/", MESSAGE)
    assert not receiver.requests
    assert await poster.post(f"https://hook.example:{port}/", MESSAGE) == 200
    assert asked == ["hook.example", "other.example", "hook.example"]
    (request,) = receiver.requests
    assert request.headers["host"] == f"hook.example:{port}"
