"""The document and the page are served, and the page loads from the master alone."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from dte.master.api.docs import MEDIA, POLICY, asset
from dte.master.api.openapi import document
from dte.master.api.routes import ROUTES
from dte.wire.codec import encode
from master.rig import Rig

FILES = ("page.html", *MEDIA)


async def test_the_document_is_served(rig: Rig) -> None:
    reply = await rig.get("/openapi.json")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.body == encode(document(ROUTES))


async def test_the_page_is_served_under_a_strict_policy(rig: Rig) -> None:
    reply = await rig.get("/docs")
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


@pytest.mark.parametrize("page", ["/docs", "/scheduler/docs"])
async def test_the_links_of_the_page_lead_somewhere(page: str, rig: Rig) -> None:
    reply = await rig.get(page)
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
