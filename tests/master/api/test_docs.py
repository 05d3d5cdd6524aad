"""The document and the page are served, and the page loads from the master alone."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from harness.http import HOST

from dte import __version__
from dte.master.api.docs import MEDIA, POLICY, asset
from dte.master.api.openapi import document
from dte.master.api.routes import ROUTES
from dte.wire.codec import encode
from master.rig import Rig

FILES = ("page.html", *MEDIA)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def test_the_document_is_served(rig: Rig) -> None:
    reply = await rig.get("/openapi.json")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.body == encode(document(ROUTES)) + b"\n"


async def test_the_page_is_served_under_a_strict_policy(rig: Rig) -> None:
    reply = await rig.ask("GET", "/docs", Accept=BROWSER)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.body == asset("page.html")
    policy = dict(
        part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; ")
    )
    assert policy.pop("img-src") == "data:"
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert set(policy.values()) == {"'self'", "'none'"}


@pytest.mark.parametrize("accept", ["*/*", "application/json", None])
@pytest.mark.parametrize("page", ["/docs", "/scheduler/docs"])
async def test_a_terminal_gets_a_list_of_all_routes(
    page: str, accept: str | None, rig: Rig
) -> None:
    reply = await rig.ask("GET", page, **({"Accept": accept} if accept else {}))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert reply.headers["vary"] == "Accept"
    text = reply.body.decode()
    for path, methods in document(ROUTES)["paths"].items():
        for method, operation in methods.items():
            line = (
                rf"(?m)^ +{method.upper()} +{re.escape(path)} +{re.escape(operation['summary'])}$"
            )
            assert re.search(line, text)
    assert f"http://{HOST}/openapi.json" in text
    assert text.endswith("\n")


async def test_a_terminal_is_told_what_answers_and_where_to_go_on(rig: Rig) -> None:
    host = f"{HOST}:{rig.port}"
    reply = await rig.ask("GET", "/", Host=host)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    text = reply.body.decode()
    assert f"dte {__version__}, a master" in text
    paths = re.findall(rf"http://{re.escape(host)}(/\S*)", text)
    assert {"/jobs", "/submit", "/job/1", "/worker", "/health", "/docs"} <= set(paths)
    for path in paths:
        assert (await rig.ask("OPTIONS", path)).status == 204
    assert f"dte worker --master http://{host}\n" in text


async def test_a_browser_is_led_from_the_root_to_the_page(rig: Rig) -> None:
    reply = await rig.ask("GET", "/", Accept=BROWSER)
    assert (reply.status, urljoin("/", reply.headers["location"])) == (302, "/docs")
    assert reply.headers["vary"] == "Accept"


@pytest.mark.parametrize("host", ["<script>", "a b", "a/../b", ""])
async def test_a_host_that_is_none_is_not_repeated(host: str, rig: Rig) -> None:
    reply = await rig.ask("GET", "/", Host=host)
    assert b"http://localhost:5000/docs" in reply.body or reply.status == 400
    assert host == "" or host.encode() not in reply.body


@pytest.mark.parametrize("page", ["/docs", "/scheduler/docs"])
async def test_the_links_of_the_page_lead_somewhere(page: str, rig: Rig) -> None:
    reply = await rig.ask("GET", page, Accept=BROWSER)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.headers["content-security-policy"] == POLICY
    links = set(re.findall(r'(?:src|href)="([^"]*)"', reply.body.decode())) - {"data:,"}
    paths = {urljoin(page, link) for link in links}
    assert paths == {"/openapi.json", *(f"/docs/{name}" for name in MEDIA)}
    for path in paths:
        assert (await rig.get(path)).status == 200


def test_the_page_asks_for_routes_beside_the_folder_of_its_script() -> None:
    script = asset("page.js").decode()
    assert 'const ROOT = new URL("..", document.currentScript.src);' in script
    assert urljoin("http://h/x/docs/page.js", "..") == "http://h/x/"
    assert "baseURI" not in script
    assert "location.pathname" not in script


@pytest.mark.parametrize(("name", "media"), MEDIA.items())
async def test_the_files_of_the_page_are_served_and_may_be_cached(
    name: str, media: str, rig: Rig
) -> None:
    reply = await rig.get(f"/docs/{name}")
    assert reply.status == 200
    assert reply.headers["content-type"] == f"{media}; charset=utf-8"
    assert re.fullmatch(r"max-age=[1-9]\d*", reply.headers["cache-control"])
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.body == asset(name)


@pytest.mark.parametrize(
    "name", ["page.html", "x", "..", "%2e%2e%2fdocs.py", "..%2fdocs.py", "%00"]
)
async def test_no_other_file_is_served(name: str, rig: Rig) -> None:
    reply = await rig.get(f"/docs/{name}")
    assert reply.status == 404
    assert reply.json["code"] == "not_found"


def test_the_page_loads_all_that_it_needs_and_nothing_else() -> None:
    loaded = re.findall(r'(?:src|href)="([^"]*)"', asset("page.html").decode())
    assert set(loaded) == {"data:,", "openapi.json", *(f"docs/{name}" for name in MEDIA)}


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = asset(name).decode()
    assert not re.search(r"(?i:https?:|@import)|[\"'(]//|\burl\(", text)


def test_the_page_reads_no_text_as_html_and_has_no_inline_code() -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", asset("page.js").decode()
    )
    page = asset("page.html").decode()
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert not re.search(r"(?i)<style|\sstyle=|\son\w+=", page)
